package issuer_test

import (
	"testing"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// BenchmarkVerify measures a token that is verified, one that is kept, and one
// that is nobody's.
func BenchmarkVerify(b *testing.B) {
	claims := issuertest.Claims(self, audience, start(), map[string]any{
		"scope": "openid profile orders:read", "roles": []string{"clerk", "auditor"}, "amr": []string{"pwd", "mfa"},
		"client_id": "shop", "auth_time": start().Unix(), "jti": "5b7e6a0a-7d0c-4a57-9d6c-0b4de4d0c8d4", "tenant": "t1",
	})
	for _, algorithm := range []string{"ES256", "RS256", "EdDSA"} {
		k := issuertest.NewKey(b, "k", algorithm)
		config := configOf(issuertest.File(b, issuertest.Set(b, k)), algorithm)
		token := k.Sign(claims)
		for name, o := range map[string]issuer.Options{"verified": {Now: start, CacheBytes: 1}, "kept": {Now: start}} {
			b.Run(algorithm+"/"+name, func(b *testing.B) {
				v := newVerifier(b, o, config)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("foreign", func(b *testing.B) {
		k := issuertest.NewKey(b, "k", "ES256")
		v := newVerifier(b, issuer.Options{Now: start}, configOf(issuertest.File(b, issuertest.Set(b, k)), "ES256"))
		token := k.Sign(issuertest.Claims("https://else.example", audience, start()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.Verify(b.Context(), token); err == nil {
				b.Fatal("taken")
			}
		}
	})
}
