package main_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/opatest"
)

// keyPair writes a key to private.pem and public.pem of a folder.
func keyPair(t *testing.T, dir string, private, public any) {
	t.Helper()
	for name, encode := range map[string]func() ([]byte, error){
		"private.pem": func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(private) },
		"public.pem":  func() ([]byte, error) { return x509.MarshalPKIXPublicKey(public) },
	} {
		der, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		kind := strings.ToUpper(strings.TrimSuffix(name, ".pem")) + " KEY"
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// command runs a command in a folder and gives its standard output.
func command(t *testing.T, dir string, wantOK bool, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if (err == nil) != wantOK {
		t.Fatalf("%s %v: %v\n%s%s", name, args, err, out, stderr.String())
	}
	return string(out)
}

// policyFolder is a folder with a policy, a test, data and a manifest.
func policyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"policy/app/policy.rego":      "package app\n\nallow if input.user in data.app.users\n",
		"policy/app/policy_test.rego": "package app\n\ntest_alice if allow with input as {\"user\": \"alice\"}\n",
		"policy/app/data.json":        `{"users": ["alice"]}`,
		"policy/.manifest":            `{"revision": "r1", "roots": ["app"]}`,
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBundlesOfOPA: the commands and the real OPA believe one another.
func TestBundlesOfOPA(t *testing.T) {
	opa := opatest.Binary(t)
	dir := policyFolder(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, dir, key, key.Public())
	other := t.TempDir()
	otherKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, other, otherKey, otherKey.Public())
	verify := []string{"--verification-key", "public.pem", "--verification-key-id", "ci", "--signing-alg", "ES256"}

	t.Run("built here", func(t *testing.T) {
		command(t, dir, true, "verdict", "bundle", "build", "policy", "--out", "ours.tar.gz", "--signing-key", "private.pem", "--key-id", "ci")
		command(t, dir, true, opa, append([]string{"build", "-b", "ours.tar.gz", "-o", "again.tar.gz"}, verify...)...)
		verify[1] = filepath.Join(other, "public.pem")
		command(t, dir, false, opa, append([]string{"build", "-b", "ours.tar.gz", "-o", "again.tar.gz"}, verify...)...)
		verify[1] = "public.pem"
	})
	t.Run("built there", func(t *testing.T) {
		command(t, dir, true, opa, "build", "-b", "policy", "-o", "theirs.tar.gz", "--signing-key", "private.pem", "--signing-alg", "ES256")
		var shown struct {
			Revision  string `json:"revision"`
			Digest    string `json:"digest"`
			Signature struct {
				KeyID    string `json:"key_id"`
				Verified bool   `json:"verified"`
			} `json:"signature"`
		}
		out := command(t, dir, true, "verdict", "bundle", "inspect", "theirs.tar.gz", "--verification-key", "public.pem", "--output", "json")
		if err := json.Unmarshal([]byte(out), &shown); err != nil {
			t.Fatal(err)
		}
		if !shown.Signature.Verified || shown.Signature.KeyID != "default" || shown.Revision != "r1" {
			t.Errorf("inspect shows %s", out)
		}
		out = command(t, dir, false, "verdict", "bundle", "inspect", "theirs.tar.gz", "--verification-key", filepath.Join(other, "public.pem"))
		if !strings.Contains(out, "signature_invalid") {
			t.Errorf("inspect shows %s", out)
		}
		// the same files, signed by us: the same digest
		command(t, dir, true, "verdict", "bundle", "sign", "theirs.tar.gz", "--signing-key", "private.pem", "--key-id", "ci")
		command(t, dir, true, opa, append([]string{"build", "-b", "theirs.tar.gz", "-o", "again.tar.gz"}, verify...)...)
		if out := command(t, dir, true, "verdict", "bundle", "inspect", "theirs.tar.gz"); !strings.Contains(out, shown.Digest) {
			t.Errorf("signing changed the digest %s:\n%s", shown.Digest, out)
		}
		if out := command(t, dir, true, "verdict", "bundle", "test", "theirs.tar.gz"); out != "1 passed, 0 failed, 0 skipped\n" {
			t.Errorf("test shows %s", out)
		}
	})
}

// TestInspectByConfiguration: the keys of a configuration, for a name.
func TestInspectByConfiguration(t *testing.T) {
	dir := policyFolder(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, dir, private, public)
	config := "bundles:\n  verification_keys:\n    - {id: ci, algorithm: EdDSA, file: public.pem, names: [app]}\n"
	if err := os.WriteFile(filepath.Join(dir, "verdict.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	out := command(t, dir, true, "verdict", "bundle", "build", "policy", "--out", "app.tar.gz", "--signing-key", "private.pem", "--key-id", "ci")
	if !strings.Contains(out, "signed EdDSA by ci") {
		t.Errorf("build shows %s", out)
	}
	out = command(t, dir, true, "verdict", "bundle", "inspect", "app.tar.gz", "--config", "verdict.yaml")
	if !strings.Contains(out, "EdDSA by ci, verified") {
		t.Errorf("inspect shows %s", out)
	}
	out = command(t, dir, false, "verdict", "bundle", "inspect", "app.tar.gz", "--config", "verdict.yaml", "--name", "billing")
	if !strings.Contains(out, "key_not_for_bundle") {
		t.Errorf("inspect shows %s", out)
	}
}
