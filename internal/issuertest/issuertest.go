// Package issuertest makes keys, tokens and JWK sets as outside issuers have
// them, and serves the sets, for tests.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

// Key is a key of an issuer. Its methods panic where it is no key.
type Key struct {
	ID, Algorithm string
	Private       crypto.Signer
}

// NewKey makes a key for an algorithm; RSA ones are slow.
func NewKey(t testing.TB, id, algorithm string) *Key {
	t.Helper()
	k := &Key{ID: id, Algorithm: algorithm}
	var err error
	switch algorithm {
	case "ES256":
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		k.Private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		k.Private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, k.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.Private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// JWK is the public key, with its kid and alg; members given replace those of
// their names, and nil removes one.
func (k *Key) JWK(members ...map[string]any) map[string]any {
	public, err := jwk.Import(k.Private.Public())
	if err != nil {
		panic(err)
	}
	raw, err := json.Marshal(public)
	if err != nil {
		panic(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	out["kid"], out["alg"], out["use"] = k.ID, k.Algorithm, "sig"
	for _, m := range members {
		replace(out, m)
	}
	return out
}

func replace(in, with map[string]any) {
	maps.Copy(in, with)
	maps.DeleteFunc(in, func(_ string, v any) bool { return v == nil })
}

// Sign signs claims. Members of header replace those of their names, and nil
// removes one.
func (k *Key) Sign(claims map[string]any, header ...map[string]any) string {
	token := jwt.NewWithClaims(jwt.GetSigningMethod(k.Algorithm), jwt.MapClaims(claims))
	token.Header["kid"] = k.ID
	for _, m := range header {
		replace(token.Header, m)
	}
	text, err := token.SignedString(k.Private)
	if err != nil {
		panic(err)
	}
	return text
}

// Claims are those of a token that is valid for an hour; members given replace
// them, and nil removes one.
func Claims(issuer, audience string, now time.Time, members ...map[string]any) map[string]any {
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "alice", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for _, m := range members {
		replace(claims, m)
	}
	return claims
}

// Set is a JWK set of keys, each a *Key or what is to stand there.
func Set(t testing.TB, keys ...any) []byte {
	t.Helper()
	list := make([]any, 0, len(keys))
	for _, k := range keys {
		if key, ok := k.(*Key); ok {
			k = key.JWK()
		}
		list = append(list, k)
	}
	raw, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// File writes a set into a file of the test's.
func File(t testing.TB, set []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(name, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Server is an issuer's server: its URL is the issuer, and its set is at
// URL/keys.
type Server struct {
	URL string

	mu     sync.Mutex
	set    []byte
	answer http.HandlerFunc
	asked  int
}

// Serve starts a server; it ends with the test.
func Serve(t testing.TB, set []byte) *Server {
	t.Helper()
	s := &Server{set: set}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	set, answer := s.set, s.answer
	s.asked++
	s.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case strings.HasPrefix(r.URL.Path, "/keys"):
		_, _ = w.Write(set) // the reader may be gone
	default:
		http.NotFound(w, r)
	}
}

// Publish replaces the set.
func (s *Server) Publish(set []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = set
}

// Answer has another handler answer from now on; nil: the set again.
func (s *Server) Answer(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = h
}

// Asked counts the requests so far.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}
