package issuer_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

const (
	self     = "https://id.example"
	audience = "verdict"
)

// start is when the tests take place.
func start() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC) }

// clock is one that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func configOf(file string, algorithms ...string) issuer.Config {
	return issuer.Config{Issuer: self, Audience: audience, Algorithms: algorithms, JWKSFile: file}
}

func newVerifier(t testing.TB, o issuer.Options, configs ...issuer.Config) *issuer.Verifier {
	t.Helper()
	v, err := issuer.New(configs, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// reason verifies a token: ok, foreign, or why it is refused.
func reason(t testing.TB, v *issuer.Verifier, token string) string {
	t.Helper()
	got, err := v.Verify(t.Context(), token)
	var refused *issuer.RefusedError
	switch {
	case err == nil && got != nil:
		return "ok"
	case got != nil:
		t.Errorf("both a token and %v", err)
	case errors.Is(err, issuer.ErrForeign):
		return "foreign"
	case errors.As(err, &refused):
		return string(refused.Reason)
	}
	t.Errorf("the error is %v", err)
	return ""
}

// run has a verifier fetch keys until the test ends.
func run(t testing.TB, v *issuer.Verifier) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }() // ended below
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	shared := issuertest.NewKey(t, "k", "RS256")
	for _, algorithm := range issuer.Algorithms() {
		k := &issuertest.Key{ID: "k", Algorithm: algorithm, Private: shared.Private}
		if algorithm[1] != 'S' || algorithm[0] == 'E' {
			k = issuertest.NewKey(t, "k", algorithm)
		}
		v := newVerifier(t, issuer.Options{Now: start}, configOf(issuertest.File(t, issuertest.Set(t, k.JWK(map[string]any{"alg": nil}))), algorithm))
		got, err := v.Verify(t.Context(), k.Sign(issuertest.Claims(self, audience, start(), map[string]any{"client_id": "shop", "auth_time": start().Unix()})))
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		if got.Issuer != self || got.Subject != "alice" || got.Client != "shop" || !got.Authenticated.Equal(start()) || !got.Expires.Equal(start().Add(time.Hour)) {
			t.Errorf("%s: got %+v", algorithm, got)
		}
	}
}

func TestClaimValues(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "ES256")
	v := newVerifier(t, issuer.Options{Now: start}, configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256"))
	got, err := v.Verify(t.Context(), k.Sign(issuertest.Claims(self, audience, start(), map[string]any{
		"scope": " read  write ", "roles": []any{"a", 1, "b"}, "realm_access": map[string]any{"roles": []string{"c"}, "x/y": "d"},
		"https://example/roles": "e", "/slash": "f", "number": 7,
	})))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim string
		want  []string
	}{
		{"scope", []string{"read", "write"}},
		{"roles", []string{"a", "b"}},
		{"/realm_access/roles", []string{"c"}},
		{"/realm_access/x~1y", []string{"d"}},
		{"/realm_access/roles/0", nil},
		{"/realm_access/none", nil},
		{"realm_access", nil},
		{"https://example/roles", []string{"e"}},
		{"/slash", []string{"f"}},
		{"number", nil},
		{"absent", nil},
	} {
		if values := got.Values(tt.claim); len(values) != len(tt.want) || len(values) > 0 && values[0] != tt.want[0] {
			t.Errorf("%s: got %q, want %q", tt.claim, values, tt.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "ES256")
	good := configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256")
	for name, change := range map[string]func(*issuer.Config){
		"no issuer":         func(c *issuer.Config) { c.Issuer = "" },
		"no audience":       func(c *issuer.Config) { c.Audience = "" },
		"no algorithm":      func(c *issuer.Config) { c.Algorithms = nil },
		"none":              func(c *issuer.Config) { c.Algorithms = []string{"none"} },
		"a shared secret":   func(c *issuer.Config) { c.Algorithms = []string{"ES256", "HS256"} },
		"no keys":           func(c *issuer.Config) { c.JWKSFile = "" },
		"two places":        func(c *issuer.Config) { c.JWKSURL = "https://id.example/keys" },
		"a password":        func(c *issuer.Config) { c.JWKSFile, c.JWKSURL = "", "https://u:p@id.example/keys" },
		"a missing file":    func(c *issuer.Config) { c.JWKSFile += "x" },
		"a folder":          func(c *issuer.Config) { c.JWKSFile = filepath.Dir(c.JWKSFile) },
		"a file of no keys": func(c *issuer.Config) { c.JWKSFile = issuertest.File(t, []byte(`{"keys":[]}`)) },
	} {
		c := good
		change(&c)
		if _, err := issuer.New([]issuer.Config{c}, issuer.Options{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := issuer.New([]issuer.Config{good, good}, issuer.Options{}); err == nil {
		t.Error("an issuer is taken twice")
	}
}

// TestPrepare exchanges issuers: nothing changes before commit, and nothing of a
// bad list.
func TestPrepare(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "k", "ES256")
	c := configOf(issuertest.File(t, issuertest.Set(t, k)), "ES256")
	v := newVerifier(t, issuer.Options{Now: start})
	token := k.Sign(issuertest.Claims(self, audience, start()))
	want := func(when, result string) {
		t.Helper()
		if got := reason(t, v, token); got != result {
			t.Errorf("%s: got %s, want %s", when, got, result)
		}
	}
	prepare := func(configs ...issuer.Config) {
		t.Helper()
		commit, err := v.Prepare(configs)
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	want("without issuers", "foreign")
	commit, err := v.Prepare([]issuer.Config{c})
	if err != nil {
		t.Fatal(err)
	}
	want("before commit", "foreign")
	commit()
	want("after commit", "ok")
	if _, err := v.Prepare([]issuer.Config{c, {}}); err == nil {
		t.Error("a bad list is taken")
	}
	want("after a bad list", "ok")
	other := c
	other.Audience = "somebody"
	prepare(other)
	want("with another audience", "audience") // though it was verified before
	prepare(c)
	want("as it was", "ok")
	prepare()
	want("without issuers again", "foreign")
}
