package keystest

import (
	"path/filepath"
	"testing"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/keys/transit"
)

// Each runs a test over the embedded keys and over those of a real server of
// Vault's API.
func Each(t *testing.T, test func(t *testing.T, b keys.Backend)) {
	t.Helper()
	t.Run("local", func(t *testing.T) { test(t, Local(t)) })
	t.Run("transit", func(t *testing.T) { test(t, Transit(t, vaulttest.Dev(t))) })
}

// Local gives embedded keys in a folder of the test.
func Local(t testing.TB) keys.Backend {
	t.Helper()
	dir := t.TempDir()
	b, err := local.Open(filepath.Join(dir, "keys"), local.Master{File: filepath.Join(dir, "master.key"), Generate: true}, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Transit gives the keys of a mount of its own.
func Transit(t testing.TB, server *vaulttest.Server) keys.Backend {
	t.Helper()
	client, err := vault.New(vault.Options{
		Address: server.Address,
		Auth:    vault.Auth{Method: vault.Token, TokenFile: vaulttest.Write(t, server.Token)},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := transit.New(client, transit.Options{Mount: server.Transit()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
