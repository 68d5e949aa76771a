package escrow_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/transit"
	"github.com/verdict-pdp/verdict/storage/state"
)

// TestRecoveryInVault deletes keys in Vault and brings them back: an AES key of
// two versions, and the RSA key of top_secret with that of its MACs.
func TestRecoveryInVault(t *testing.T) {
	server := vaulttest.Dev(t)
	client, err := vault.New(vault.Options{Address: server.Address, Auth: vault.Auth{Method: vault.Token, TokenFile: vaulttest.Write(t, server.Token)}})
	if err != nil {
		t.Fatal(err)
	}
	mount := server.Transit()
	backend, err := transit.New(client, transit.Options{Mount: mount})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{T: t, rec: &keystest.Recorder{}}
	g.public, g.shares = split(t, 3, 2)
	store, err := state.Open(filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if g.store, err = store.Bucket("keys"); err != nil {
		t.Fatal(err)
	}
	if g.escrow, err = escrow.New(g.public, g.store, g.rec, escrow.Options{}); err != nil {
		t.Fatal(err)
	}
	if g.ring, err = keys.New(backend, g.store, g.rec, keys.Options{Escrow: g.escrow, EnforceEscrow: true}); err != nil {
		t.Fatal(err)
	}
	g.recoveries = escrow.NewRecoveries(g.escrow, g.ring, escrow.RecoveryOptions{})

	id, top := g.ring.ClassID(keys.Restricted), g.ring.ClassID(keys.TopSecret)
	first, secret := g.must(keys.Restricted), g.must(keys.TopSecret)
	if _, err := g.ring.Rotate(t.Context(), keys.By{}, id); err != nil {
		t.Fatal(err)
	}
	second := g.must(keys.Restricted)
	for _, name := range []string{id, top, top + "-mac"} {
		server.Do(http.MethodPost, mount+"/keys/"+name+"/config", map[string]any{"deletion_allowed": true})
		server.Do(http.MethodDelete, mount+"/keys/"+name, nil)
	}
	if _, err := g.encrypt(keys.Restricted); !errors.Is(err, keys.ErrKeyLost) {
		t.Errorf("a deleted key was made anew: %v", err)
	}
	for _, lost := range []string{id, top} {
		if _, err := g.give(who("ana"), lost, 0); err != nil {
			t.Fatal(err)
		}
		if p, err := g.give(who("bo"), lost, 2); err != nil || len(p.Recovered) == 0 {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	for text, class := range map[string]keys.Class{first: keys.Restricted, second: keys.Restricted, secret: keys.TopSecret} {
		if err := g.opens(text, class); err != nil {
			t.Errorf("%s after the recovery: %v", class, err)
		}
	}
	g.must(keys.Restricted)
	g.must(keys.TopSecret)
}
