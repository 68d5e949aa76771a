package main_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

const (
	metadataPath = "/.well-known/authzen-configuration"
	keySetPath   = "/.well-known/jwks.json"
)

// TestServeSigning asks for the signed metadata, with which the signing key is
// made, and verifies it with the published keys and another library.
func TestServeSigning(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	for provider, args := range map[string][]string{
		"local": plain(t),
		"vault": append(vaultArgs(t, vault.Address, vault.Token), "--set", "keys.vault.mount="+vault.Transit()),
	} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Args: args})
			wantStatus(t, s.Do(servertest.Request{Path: keySetPath}), http.StatusNotFound, "no_signing_key")
			doc := s.Do(servertest.Request{Path: metadataPath}).JSON(t)
			token, _ := doc["signed_metadata"].(string)
			if token == "" {
				t.Fatalf("metadata %v\n%s", doc, s.Stderr())
			}
			var keys *servertest.Answer
			if !s.Eventually(func() error { // it was just asked for, and there was none
				keys = s.Do(servertest.Request{Path: keySetPath})
				if keys.Status != http.StatusOK {
					return errors.New(string(keys.Body))
				}
				return nil
			}) {
				t.Fatalf("%d %s", keys.Status, keys.Body)
			}
			set, err := jwk.Parse(keys.Body)
			if err != nil {
				t.Fatal(err)
			}
			key, ok := set.Key(0)
			if !ok || set.Len() != 1 {
				t.Fatalf("keys %s", keys.Body)
			}
			if _, err := jws.Verify([]byte(token), jws.WithKey(jwa.ES256(), key)); err != nil {
				t.Error(err)
			}
			s.Stop()
			// With Vault the keys of the classes are made meanwhile.
			made := 0
			for _, r := range readLog(t, s.Dir) {
				if r.Event == "key_created" && bytes.Contains(r.raw, []byte(`"key:verdict-jwt"`)) {
					made++
				}
			}
			if made != 1 {
				t.Errorf("%d records of a new signing key", made)
			}
		})
	}
}
