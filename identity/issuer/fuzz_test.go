package issuer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// FuzzVerify gives bearers of any text: there is no panic, and none is taken but
// the one that was signed.
func FuzzVerify(f *testing.F) {
	k := issuertest.NewKey(f, "k", "ES256")
	v := newVerifier(f, issuer.Options{Now: start}, configOf(issuertest.File(f, issuertest.Set(f, k)), "ES256"))
	good := k.Sign(issuertest.Claims(self, audience, start()))
	part := strings.Split(good, ".")
	for _, seed := range []string{
		"", ".", "..", "a.b.c", good, good + ".", strings.ToUpper(good), part[0] + "." + part[1] + ".",
		encode(`{"alg":"none"}`) + "." + part[1] + ".", part[0] + "." + encode(`{"iss":"`+self+`","exp":1e999}`) + "." + part[2],
		part[0] + "." + encode(`{"iss":"`+self+`","a":[[[[{}]]]],"a":null}`) + "." + part[2],
		encode(`{"alg":"ES256","kid":{}}`) + "." + part[1] + "." + part[2],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bearer string) {
		got, err := v.Verify(t.Context(), bearer)
		var refused *issuer.RefusedError
		switch {
		case err == nil:
			if got == nil || got.Issuer != self || !strings.HasPrefix(bearer, part[0]+"."+part[1]+".") {
				t.Errorf("taken: %q", bearer)
			}
		case got != nil:
			t.Errorf("both a token and %v", err)
		case !errors.Is(err, issuer.ErrForeign) && (!errors.As(err, &refused) || refused.Reason == ""):
			t.Errorf("the error is %v", err)
		}
	})
}

// FuzzKeys reads JWK sets of any text, as a file has them.
func FuzzKeys(f *testing.F) {
	for _, algorithm := range []string{"ES256", "ES512", "EdDSA", "RS256"} {
		f.Add(issuertest.Set(f, issuertest.NewKey(f, "k", algorithm)))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"OKP","crv":"X25519","x":"AA"},{"kty":"RSA","n":"","e":""},null,1]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := issuer.New([]issuer.Config{configOf(issuertest.File(t, raw), issuer.Algorithms()...)}, issuer.Options{Now: start})
		if (v == nil) == (err == nil) {
			t.Errorf("got %v and %v", v, err)
		}
	})
}
