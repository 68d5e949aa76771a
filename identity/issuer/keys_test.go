package issuer_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// TestSets reads JWK sets that are wrong, in whole or in part.
func TestSets(t *testing.T) {
	t.Parallel()
	ec, twin, p384, rsaKey, ed := issuertest.NewKey(t, "ec", "ES256"), issuertest.NewKey(t, "ec", "ES256"), issuertest.NewKey(t, "ec", "ES384"),
		issuertest.NewKey(t, "rsa", "RS256"), issuertest.NewKey(t, "ed", "EdDSA")
	edit := func(k *issuertest.Key, name string, value any) any { return k.JWK(map[string]any{name: value}) }
	weak := &issuertest.Key{ID: "rsa", Algorithm: "RS256", Private: weakKey(t)}
	private := ec.JWK(map[string]any{"d": base64.RawURLEncoding.EncodeToString(make([]byte, 32))})
	zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	oct := map[string]any{"kty": "oct", "k": zero, "kid": "oct", "alg": "HS256"}
	x25519 := map[string]any{"kty": "OKP", "crv": "X25519", "x": zero, "kid": "x"}
	const bad = "refused" // as a whole
	for _, tt := range []struct {
		name  string
		keys  []any
		token *issuertest.Key
		want  string
	}{
		{"good", []any{ec}, ec, "ok"},
		{"beside keys of other purposes", []any{oct, x25519, edit(rsaKey, "use", "enc"), "text", ec}, ec, "ok"},
		{"RFC 9864's name", []any{edit(ed, "alg", "Ed25519")}, ed, "ok"},
		{"no alg", []any{edit(ec, "alg", nil)}, ec, "ok"},
		{"the same key twice", []any{ec, ec}, ec, "ok"},
		{"a kid of two kinds of key", []any{ec, p384}, ec, "ok"},
		{"the other kind", []any{ec, p384}, p384, "ok"},
		{"a kid of two keys", []any{ec, twin}, ec, "key_ambiguous"},
		{"a kid of three", []any{ec, twin, p384}, p384, "ok"},
		{"a key for the algorithm of another", []any{edit(rsaKey, "alg", "PS256")}, rsaKey, "algorithm"},
		{"key_ops to verify", []any{ec.JWK(map[string]any{"use": nil, "key_ops": []string{"verify"}})}, ec, "ok"},

		{"a shared secret only", []any{oct}, ec, bad},
		{"for encryption", []any{edit(ec, "use", "enc")}, ec, bad},
		{"key_ops to sign", []any{ec.JWK(map[string]any{"use": nil, "key_ops": []string{"sign"}})}, ec, bad},
		{"an alg of another kind", []any{edit(ec, "alg", "RS256")}, ec, bad},
		{"an alg of a secret", []any{edit(rsaKey, "alg", "HS256")}, rsaKey, bad},
		{"an alg of encryption", []any{edit(rsaKey, "alg", "RSA-OAEP")}, rsaKey, bad},
		{"RSA of 1024 bits", []any{weakJWK(weak)}, weak, bad},
		{"RSA with e of 1", []any{edit(rsaKey, "e", "AQ")}, rsaKey, bad},
		{"RSA with an even e", []any{edit(rsaKey, "e", "Ag")}, rsaKey, bad},
		{"RSA of 65536 bits", []any{edit(rsaKey, "n", base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{255}, 8192)))}, rsaKey, bad},
		{"a point that is not on the curve", []any{edit(ec, "x", zero)}, ec, bad},
		{"the point of another curve", []any{edit(ec, "crv", "P-384")}, ec, bad},
		{"the point at infinity", []any{ec.JWK(map[string]any{"x": zero, "y": zero})}, ec, bad},
		{"X25519", []any{x25519}, ec, bad},
		{"a private key", []any{private}, ec, bad},
		{"a long kid", []any{edit(ec, "kid", strings.Repeat("k", 300))}, ec, bad},
		{"nothing", nil, ec, bad},
		{"too many", make([]any, 101), ec, bad},
	} {
		set := issuertest.Set(t, tt.keys...)
		v, err := issuer.New([]issuer.Config{configOf(issuertest.File(t, set), issuer.Algorithms()...)}, issuer.Options{Now: start})
		if err != nil {
			if tt.want != bad {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		token := *tt.token
		if got := reason(t, v, token.Sign(issuertest.Claims(self, audience, start()))); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// weakKey is one that Go makes only when it is asked twice.
func weakKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func weakJWK(k *issuertest.Key) any {
	public := k.Private.Public().(*rsa.PublicKey)
	return map[string]any{"kty": "RSA", "kid": k.ID, "alg": k.Algorithm, "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(public.N.Bytes())}
}

func TestSetsThatAreNone(t *testing.T) {
	t.Parallel()
	ec := issuertest.NewKey(t, "ec", "ES256")
	key, err := json.Marshal(ec.JWK())
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"empty":                 nil,
		"a key":                 key,
		"a list":                []byte("[" + string(key) + "]"),
		"keys that are no list": []byte(`{"keys":{}}`),
		"JSON that breaks off":  []byte(`{"keys":[` + string(key)),
		"HTML":                  []byte("<html>"),
		"10 MB":                 fmt.Appendf(nil, `{"keys":[%s],"pad":%q}`, key, strings.Repeat("x", 10<<20)),
		"deep":                  []byte(`{"keys":[` + strings.Repeat("[", 20_000)),
	} {
		if _, err := issuer.New([]issuer.Config{configOf(issuertest.File(t, raw), "ES256")}, issuer.Options{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// TestNoKeyID verifies tokens without a kid: there must be one key that fits.
func TestNoKeyID(t *testing.T) {
	t.Parallel()
	a, b, rsaKey := issuertest.NewKey(t, "a", "ES256"), issuertest.NewKey(t, "b", "ES256"), issuertest.NewKey(t, "c", "RS256")
	nameless := func(k *issuertest.Key) any { return k.JWK(map[string]any{"kid": nil}) }
	for _, tt := range []struct {
		name string
		keys []any
		want string
	}{
		{"one", []any{a}, "ok"},
		{"one without a kid", []any{nameless(a), nameless(a)}, "ok"},
		{"one of each kind", []any{nameless(a), rsaKey}, "ok"},
		{"two", []any{nameless(a), nameless(b)}, "key_ambiguous"},
		{"none of its kind", []any{rsaKey}, "algorithm"},
	} {
		v := newVerifier(t, issuer.Options{Now: start}, configOf(issuertest.File(t, issuertest.Set(t, tt.keys...)), "ES256", "RS256"))
		if got := reason(t, v, a.Sign(issuertest.Claims(self, audience, start()), map[string]any{"kid": nil})); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
