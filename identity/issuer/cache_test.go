package issuer_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// counted is how many tokens had a result.
func counted(t testing.TB, v *issuer.Verifier, result string) (n int) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(v.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "verdict_issuer_tokens_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" && l.GetValue() == result {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// TestKept verifies a token once in a minute, and not beyond its end.
func TestKept(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "ES256")
	c := &clock{now: start()}
	v := newVerifier(t, issuer.Options{Now: c.Now}, configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256"))
	token := k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"exp": start().Add(90 * time.Second).Unix()}))
	for _, tt := range []struct {
		at               time.Duration
		want             string
		verified, cached int
	}{
		{0, "ok", 1, 0},
		{time.Second, "ok", 1, 1},
		{59 * time.Second, "ok", 1, 2},
		{time.Minute, "ok", 2, 2},
		{119 * time.Second, "ok", 2, 3},
		{149 * time.Second, "ok", 3, 3},
		{150 * time.Second, "expired", 3, 3}, // the end and the skew
	} {
		c.now = start().Add(tt.at)
		if got := reason(t, v, token); got != tt.want {
			t.Errorf("at %s: got %s, want %s", tt.at, got, tt.want)
		}
		if verified, cached := counted(t, v, "verified"), counted(t, v, "cached"); verified != tt.verified || cached != tt.cached {
			t.Errorf("at %s: %d verified and %d kept, want %d and %d", tt.at, verified, cached, tt.verified, tt.cached)
		}
	}
}

// TestRefusedAreNotKept sends a bad token twice.
func TestRefusedAreNotKept(t *testing.T) {
	t.Parallel()
	k, other := issuertest.NewKey(t, "k", "ES256"), issuertest.NewKey(t, "k", "ES256")
	v := newVerifier(t, issuer.Options{Now: start}, configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256"))
	bad := other.Sign(issuertest.Claims(self, audience, start()))
	for range 2 {
		if got := reason(t, v, bad); got != "signature" {
			t.Errorf("got %s", got)
		}
	}
	if n := counted(t, v, "signature"); n != 2 {
		t.Errorf("%d are counted", n)
	}
}

// TestCacheBounds keeps a bounded number and size of tokens; what is asked for
// often stays.
func TestCacheBounds(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "EdDSA")
	file := issuertest.File(t, issuertest.Set(t, k))
	token := func(i int, pad int) string {
		return k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"jti": fmt.Sprint(i), "pad": strings.Repeat("x", pad)}))
	}
	for _, tt := range []struct {
		name     string
		o        issuer.Options
		pad      int
		least    int // of 40 tokens kept when asked for backwards
		most     int
		favorite bool
	}{
		{"by number", issuer.Options{CacheEntries: 10}, 1, 5, 10, true},
		{"by size", issuer.Options{CacheBytes: 200_000}, 1000, 5, 20, true},
		{"too small for any", issuer.Options{CacheBytes: 2000}, 1000, 0, 0, false},
		{"large", issuer.Options{}, 1, 40, 40, true},
	} {
		tt.o.Now = start
		v := newVerifier(t, tt.o, configOf(file, "EdDSA"))
		favorite := token(-1, tt.pad)
		tokens := make([]string, 40)
		for i := range tokens {
			tokens[i] = token(i, tt.pad)
			if got := reason(t, v, tokens[i]) + reason(t, v, favorite); got != "okok" {
				t.Fatalf("%s: got %s", tt.name, got)
			}
		}
		if n := counted(t, v, "cached"); tt.favorite && n != 39 || !tt.favorite && n != 0 {
			t.Errorf("%s: the one asked for often was kept %d times", tt.name, n)
		}
		before := counted(t, v, "cached")
		for i := range tokens {
			reason(t, v, tokens[len(tokens)-1-i])
		}
		if n := counted(t, v, "cached") - before; n < tt.least || n > tt.most {
			t.Errorf("%s: %d of 40 were kept, want %d to %d", tt.name, n, tt.least, tt.most)
		}
	}
}

// TestShared verifies the same tokens from many goroutines while issuers change:
// for the race detector.
func TestShared(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "EdDSA")
	c := configOf(issuertest.File(t, issuertest.Set(t, k)), "EdDSA")
	v := newVerifier(t, issuer.Options{Now: start, CacheEntries: 8}, c)
	tokens := make([]string, 16)
	for i := range tokens {
		tokens[i] = k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"jti": i}))
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 200 {
				got, err := v.Verify(t.Context(), tokens[i%len(tokens)])
				if err != nil {
					t.Error(err)
					return
				}
				_ = got.Claims.String() // sorts its keys, once
			}
		})
	}
	group.Go(func() {
		for range 20 {
			commit, err := v.Prepare([]issuer.Config{c})
			if err != nil {
				t.Error(err)
				return
			}
			commit()
		}
	})
	group.Wait()
}
