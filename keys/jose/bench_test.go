package jose_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/internal/vaulttest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

// dev is a real server of Vault's API.
func dev(t testing.TB) keys.Backend { return keystest.Transit(t, vaulttest.Dev(t)) }

// benchmarkSign signs from several goroutines, as a server does.
func benchmarkSign(b *testing.B, backend keys.Backend, typ keys.Type, alg keys.Algorithm) {
	ring, _ := keystest.Ring(b, backend, keys.Options{})
	id := ring.ID("jwt")
	if _, err := ring.EnsureKey(b.Context(), keys.By{}, id, typ); err != nil {
		b.Fatal(err)
	}
	s, err := jose.NewSigner(ring, id, alg, jose.Options{})
	if err != nil {
		b.Fatal(err)
	}
	claims := jwt.RegisteredClaims{Subject: "alice", ExpiresAt: jwt.NewNumericDate(time.Now().Add(30 * time.Minute))}
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := s.Sign(b.Context(), "at+jwt", claims); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
