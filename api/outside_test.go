package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

const outsideIssuer = "https://id.example"

// outside is a gate that knows tokens of one issuer, and what it served.
type outside struct {
	*api.Gate
	key    *issuertest.Key
	caller api.Caller
	routes http.Handler
}

func newOutside(t *testing.T, o api.GateOptions) *outside {
	t.Helper()
	s := &outside{key: issuertest.NewKey(t, "k", "ES256")}
	v, err := issuer.New([]issuer.Config{{
		Issuer: outsideIssuer, Audience: "verdict", Algorithms: []string{"ES256"}, JWKSFile: issuertest.File(t, issuertest.Set(t, s.key)),
	}}, issuer.Options{Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	o.Outside = v
	if o.Settings.Issuers == nil {
		o.Settings.Issuers = []api.IssuerScopes{{Issuer: outsideIssuer, Claim: "scope", Map: map[string][]string{
			"read": {"decide"}, "ops": {"audit:read", "bundles:b1"}, "boss": {"admin"},
		}}}
	}
	if s.Gate, err = api.NewGate(newStore(t, tokens.Options{}), o); err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	for path, class := range map[string]api.Class{"/decide": api.ClassDecide, "/audit": api.ClassAudit, "/bundle": api.ClassBundleWrite, "/forward": api.ClassForward} {
		rt := api.Route{Class: class, Handler: "test", Bundle: func(*http.Request) string { return "b1" }}
		r.Handle(path, s.Require(rt)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s.caller = api.FromContext(r.Context()).Caller
		})))
	}
	s.routes = s.Stack(api.Main, r)
	return s
}

func (s *outside) ask(path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.caller = api.Caller{}
	s.routes.ServeHTTP(w, r)
	return w
}

// TestOutside lets callers in by tokens of an outside issuer, as far as their
// claims are mapped to scopes.
func TestOutside(t *testing.T) {
	t.Parallel()
	log := &recorded{}
	s := newOutside(t, api.GateOptions{Refusals: api.NewRefusalLog(log, api.RefusalOptions{})})
	sign := func(members ...map[string]any) string {
		return s.key.Sign(issuertest.Claims(outsideIssuer, "verdict", time.Now(), members...))
	}
	scope := func(v any) string { return sign(map[string]any{"scope": v}) }
	const invalid = `error="invalid_token"`
	for _, tt := range []struct {
		name, path, token string
		status            int
		challenge         string // part of it
		message           string // part of it
	}{
		{"a mapped scope", "/decide", scope("openid read"), 200, "", ""},
		{"one in a list", "/decide", scope([]string{"read"}), 200, "", ""},
		{"everything", "/audit", scope("boss"), 200, "", ""},
		{"a bundle", "/bundle", scope("read ops"), 200, "", ""},
		{"another scope", "/audit", scope("read"), 403, "insufficient_scope", "audit:read"},
		{"verdict's own name of a scope", "/decide", scope("decide admin"), 403, "insufficient_scope", ""},
		{"no scope", "/decide", sign(), 403, "insufficient_scope", ""},
		{"a scope of another type", "/decide", scope(map[string]any{"read": true}), 403, "insufficient_scope", ""},
		{"expired", "/decide", sign(map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "scope": "read"}), 401, invalid, "expired"},
		{"another audience", "/decide", sign(map[string]any{"aud": "else", "scope": "read"}), 401, invalid, "audience"},
		{"another issuer", "/decide", sign(map[string]any{"iss": "https://else.example", "scope": "read"}), 401, invalid, "the token is not valid"},
		{"none", "/decide", "eyJhbGciOiJub25lIn0." + strings.Split(scope("read"), ".")[1] + ".", 401, invalid, "algorithm"},
		{"opaque", "/decide", "abc", 401, invalid, "the token is not valid"},
		{"about another request", "/forward", "abc", 200, "", ""},
	} {
		w := s.ask(tt.path, tt.token)
		if w.Code != tt.status || !strings.Contains(w.Header().Get("WWW-Authenticate"), tt.challenge) || !strings.Contains(w.Body.String(), tt.message) {
			t.Errorf("%s: got %d %q %s", tt.name, w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
		}
		if strings.Contains(w.Body.String(), tt.token) {
			t.Errorf("%s: the token is in the answer", tt.name)
		}
	}
	if n := len(log.take()); n != 9 {
		t.Errorf("%d refusals are recorded", n)
	}
	s.ask("/decide", scope("read"))
	if s.caller.Name != outsideIssuer+"#alice" || s.caller.Kind.String() != "issuer" || !slices.Equal(s.caller.Scopes.Names(), []string{"decide"}) {
		t.Errorf("the caller is %+v", s.caller)
	}
	s.ask("/decide", sign(map[string]any{"sub": nil, "client_id": "shop", "scope": "read"}))
	if s.caller.Name != outsideIssuer+"#shop" {
		t.Errorf("the caller is %+v", s.caller)
	}
	s.ask("/forward", scope("boss"))
	if s.caller.Name != "" || s.caller.Kind != api.Peer {
		t.Errorf("the token of the request asked about names the caller: %+v", s.caller)
	}
}

// TestOutsideOpen serves everybody: a good token names the caller, a bad one
// changes nothing.
func TestOutsideOpen(t *testing.T) {
	t.Parallel()
	s := newOutside(t, api.GateOptions{Settings: api.AccessSettings{Open: []string{"decide"}}})
	good := s.key.Sign(issuertest.Claims(outsideIssuer, "verdict", time.Now()))
	for token, name := range map[string]string{good: outsideIssuer + "#alice", good + "x": "", "abc": ""} {
		if w := s.ask("/decide", token); w.Code != 200 || s.caller.Name != name {
			t.Errorf("got %d, the caller is %+v", w.Code, s.caller)
		}
	}
}

// TestOutsideReload changes what a claim stands for.
func TestOutsideReload(t *testing.T) {
	t.Parallel()
	s := newOutside(t, api.GateOptions{})
	token := s.key.Sign(issuertest.Claims(outsideIssuer, "verdict", time.Now(), map[string]any{"groups": []string{"ops"}}))
	if w := s.ask("/audit", token); w.Code != 403 {
		t.Errorf("got %d", w.Code)
	}
	if _, err := s.Prepare(api.AccessSettings{Issuers: []api.IssuerScopes{{Issuer: outsideIssuer, Claim: "groups", Map: map[string][]string{"ops": {"everything"}}}}}); err == nil {
		t.Error("an unknown scope is taken")
	}
	commit, err := s.Prepare(api.AccessSettings{Issuers: []api.IssuerScopes{{Issuer: outsideIssuer, Claim: "groups", Map: map[string][]string{"ops": {"audit:read"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	if w := s.ask("/audit", token); w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
}

// TestOutsidePolicy asks the caller policy about callers of one name with other
// scopes each: an answer is kept for its own only.
func TestOutsidePolicy(t *testing.T) {
	t.Parallel()
	policy := &scopePolicy{}
	s := newOutside(t, api.GateOptions{Policy: policy})
	for _, tt := range []struct {
		scope  string
		status int
	}{{"read", 200}, {"read boss", 403}, {"read", 200}, {"read boss", 403}} {
		token := s.key.Sign(issuertest.Claims(outsideIssuer, "verdict", time.Now(), map[string]any{"scope": tt.scope}))
		if w := s.ask("/decide", token); w.Code != tt.status {
			t.Errorf("%s: got %d %s", tt.scope, w.Code, w.Body)
		}
	}
	if policy.asked != 2 {
		t.Errorf("the policy was asked %d times", policy.asked)
	}
}

// scopePolicy refuses who has everything.
type scopePolicy struct{ asked int }

func (p *scopePolicy) Generation() uint64 { return 1 }

func (p *scopePolicy) MayCall(_ context.Context, q *api.CallerQuestion) (api.CallerAnswer, error) {
	p.asked++
	return api.CallerAnswer{Allowed: !slices.Contains(q.Caller.Scopes.Names(), "admin"), Cacheable: true, Generation: 1}, nil
}
