package main_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestProductionExample starts a server with deploy/verdict/verdict.yaml.
func TestProductionExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/verdict/verdict.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key, file := filepath.Join(dir, "key.pem"), filepath.Join(dir, "verdict.yaml")
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	write(t, file, strings.ReplaceAll(string(text), "/etc/verdict/bundle-key.pem", key))
	c, warnings, err := verdict.Load([]string{"--config", file}, nil)
	if err != nil || len(warnings) > 0 || c.Bundles.MaxAge != 24*time.Hour || c.Bundles.AllowUnsigned {
		t.Fatalf("%v, %v", warnings, err)
	}
	s := servertest.Start(t, servertest.Options{Strict: true, Args: []string{"--config", file}})
	wantStatus(t, s.Do(servertest.Request{Path: "/health?bundles"}), 200)
	s.Stop()
}
