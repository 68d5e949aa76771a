package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
)

// access is one row of the table in docs/callers.md, written down once more.
type access struct {
	class     api.Class
	scope     string // those that are enough
	dev, live string // who gets in: all, local, opened, peers, scope
	manages   bool
	diagnose  bool
}

func table() []access {
	return []access{
		{class: api.ClassHealth, dev: "all", live: "all", diagnose: true},
		{class: api.ClassWellKnown, dev: "all", live: "all"},
		{class: api.ClassMetrics, scope: "admin", dev: "all", live: "local", diagnose: true},
		{class: api.ClassDecide, scope: "decide", dev: "all", live: "opened"},
		{class: api.ClassForward, dev: "all", live: "peers"},
		{class: api.ClassQuery, scope: "decide", dev: "scope", live: "scope"},
		{class: api.ClassDataWrite, scope: "data:write", dev: "scope", live: "scope", manages: true},
		{class: api.ClassPolicyRead, scope: "policies:write", dev: "scope", live: "scope", manages: true},
		{class: api.ClassPolicyWrite, scope: "policies:write", dev: "scope", live: "scope", manages: true},
		{class: api.ClassStatus, scope: "audit:read", dev: "scope", live: "scope", manages: true},
		{class: api.ClassAudit, scope: "audit:read", dev: "scope", live: "scope", manages: true},
		{class: api.ClassBundleRead, scope: "bundles:b1:read", dev: "scope", live: "scope"},
		{class: api.ClassBundleWrite, scope: "bundles:b1", dev: "scope", live: "scope", manages: true},
		{class: api.ClassEncrypt, scope: "keys:encrypt", dev: "scope", live: "scope"},
		{class: api.ClassDecrypt, scope: "keys:decrypt", dev: "scope", live: "scope"},
		{class: api.ClassReencrypt, scope: "keys:encrypt keys:decrypt", dev: "scope", live: "scope"},
		{class: api.ClassSessions, scope: "sessions", dev: "scope", live: "scope"},
		{class: api.ClassDirectory, scope: "directory", dev: "scope", live: "scope", manages: true},
		{class: api.ClassSCIM, scope: "scim", dev: "scope", live: "scope", manages: true},
		{class: api.ClassAdmin, scope: "admin", dev: "scope", live: "scope", manages: true},
	}
}

// credentials are all ways to present something, and what it is worth: "none",
// "bad", "wrong" (known, without the scope) or "right".
func credentials(t *testing.T, row access) (map[string]func(*http.Request), map[string]string, *tokens.Store) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	clock := now
	s := newStore(t, tokens.Options{Now: func() time.Time { return clock }})
	scope := row.scope
	if scope == "" {
		scope = "decide"
	}
	scopes := strings.Fields(scope)
	expired, _, err := s.Create(t.Context(), tokens.NewToken{Name: "expired", Scopes: scopes, Expires: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	clock = now.Add(time.Hour)
	right, admin := secretOf(t, s, "right", scopes...), secretOf(t, s, "admin", "admin")
	lacking := []string{map[bool]string{true: "scim", false: "sessions"}[scope == "sessions"]}
	if len(scopes) > 1 {
		lacking = scopes[1:]
	}
	wrong := secretOf(t, s, "wrong", lacking...)
	revoked := secretOf(t, s, "revoked", scopes...)
	if _, err := s.Revoke(t.Context(), "revoked"); err != nil {
		t.Fatal(err)
	}
	header := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	certificate := func(name string) func(*http.Request) {
		return func(r *http.Request) {
			leaf := &x509.Certificate{DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(2 * time.Hour)}
			if name == "ended" {
				leaf.DNSNames, leaf.NotAfter = []string{"right"}, now
			}
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
			if name == "unverified" {
				leaf.DNSNames, r.TLS.VerifiedChains = []string{"right"}, nil
			}
		}
	}
	present := map[string]func(*http.Request){
		"nothing": func(*http.Request) {}, "right": header("Bearer " + right), "admin": header("bearer  " + admin),
		"wrong": header("Bearer " + wrong), "revoked": header("Bearer " + revoked), "expired": header("Bearer " + expired),
		"made up": header("Bearer verdict_000000000000_" + strings.Repeat("A", 43)), "basic": header("Basic " + right),
		"two headers": header("Bearer "+right, "Bearer "+right), "empty": header(""), "only the scheme": header("Bearer "),
		"certificate": certificate("right"), "certificate, wrong": certificate("wrong"), "certificate, unlisted": certificate("other"),
		"certificate, ended": certificate("ended"), "certificate, unverified": certificate("unverified"),
		"certificate and bad token": func(r *http.Request) { certificate("right")(r); header("Bearer x")(r) },
	}
	worth := map[string]string{
		"nothing": "none", "right": "right", "admin": "right", "wrong": "wrong", "revoked": "bad", "expired": "bad",
		"made up": "bad", "basic": "bad", "two headers": "bad", "empty": "bad", "only the scheme": "bad",
		"certificate": "right", "certificate, wrong": "wrong", "certificate, unlisted": "wrong",
		"certificate, ended": "bad", "certificate, unverified": "none", "certificate and bad token": "bad",
	}
	return present, worth, s
}

// TestAccessTable goes over every class, listener, credential, address and mode.
func TestAccessTable(t *testing.T) {
	if len(table()) != len(api.Classes()) {
		t.Fatalf("%d rows for %d classes", len(table()), len(api.Classes()))
	}
	cells := 0
	for _, row := range table() {
		present, worth, store := credentials(t, row)
		for mode := range 8 { // every mix of --dev, server.open and admin_addr
			dev, opened, separate := mode&1 != 0, mode&2 != 0, mode&4 != 0
			g := newGate(t, store, gateOptions(row, dev, opened, separate))
			for _, l := range []api.Listener{api.Main, api.Management, api.Diagnostic} {
				h := g.Stack(l, g.Require(api.Route{
					Class: row.class, Handler: "test", Error: plain,
					Bundle: func(*http.Request) string { return "b1" },
				})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
				for name, set := range present {
					for _, peer := range []string{"127.0.0.1:9", "203.0.113.7:9"} {
						r := request("POST", "/", "")
						r.RemoteAddr = peer
						set(r)
						want := expected(row, dev, opened, separate, l, worth[name], strings.HasPrefix(name, "certificate") && name != "certificate, unlisted" && name != "certificate, ended" && name != "certificate, unverified", strings.HasPrefix(peer, "127."))
						w := do(h, r)
						cells++
						if w.Code != want {
							t.Errorf("%s, dev %v, open %v, admin_addr %v, %s, %s, %s: %d, want %d (%s)",
								row.class, dev, opened, separate, l, name, peer, w.Code, want, w.Body)
						}
						if challenge := w.Header().Get("WWW-Authenticate"); (challenge != "") != (want == 401 || want == 403 && row.live != "peers") {
							t.Errorf("%s, %s: %d with challenge %q", row.class, name, w.Code, challenge)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cells", cells)
}

func gateOptions(row access, dev, opened, separate bool) api.GateOptions {
	scopes := []string{}
	if row.scope != "" {
		scopes = append(scopes, strings.Fields(row.scope)...)
	}
	o := api.GateOptions{
		Dev: dev, Separate: separate,
		Now: func() time.Time { return time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC) },
		Settings: api.AccessSettings{Certificates: []api.CertificateRule{
			{SAN: "right", Name: "right", Scopes: scopes}, {SAN: "wrong", Name: "wrong"},
		}},
	}
	if opened {
		o.Settings.Open = []string{"decide"}
	}
	return o
}

// expected is the status that the contract wants.
func expected(row access, dev, opened, separate bool, l api.Listener, worth string, listed, loopback bool) int {
	if l == api.Diagnostic && !row.diagnose || l == api.Main && separate && row.manages {
		return 404
	}
	who := row.live
	if dev {
		who = row.dev
	}
	switch {
	case who == "all",
		who == "local" && (loopback || l == api.Diagnostic),
		who == "opened" && opened && l == api.Main:
		return 200
	case who == "peers":
		if listed || loopback {
			return 200
		}
		return 403
	}
	return map[string]int{"none": 401, "bad": 401, "wrong": 403, "right": 200}[worth]
}

func TestMetricsBehindAProxy(t *testing.T) {
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassMetrics, Handler: "metrics"})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	r := request("GET", "/metrics", "")
	r.RemoteAddr = "127.0.0.1:9"
	r.Header.Set("X-Forwarded-For", "203.0.113.7")
	if w := do(h, r); w.Code != 401 {
		t.Errorf("a request that came through a proxy on this machine: %d", w.Code)
	}
}

func TestCallerOfAnOpenRoute(t *testing.T) {
	s := newStore(t, tokens.Options{})
	secret := secretOf(t, s, "pep", "sessions")
	g := newGate(t, s, api.GateOptions{Dev: true})
	var got api.Caller
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data"})(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) { got = api.FromContext(r.Context()).Caller },
	)))
	for token, want := range map[string]string{"": "open", "not ours": "open", secret: "token pep"} {
		got = api.Caller{}
		if w := do(h, request("GET", "/", token)); w.Code != 200 || strings.TrimSpace(got.Kind.String()+" "+got.Name) != want {
			t.Errorf("%q: %d %+v, want %s", token, w.Code, got, want)
		}
	}
}

func TestBundleNames(t *testing.T) {
	s := newStore(t, tokens.Options{})
	g := newGate(t, s, api.GateOptions{})
	for i, tc := range []struct {
		scope, name string
		read, write int
	}{
		{"bundles:a", "a", 200, 200},
		{"bundles:a", "b", 403, 403},
		{"bundles:a:read", "a", 200, 403},
		{"bundles:*:read", "b", 200, 403},
		{"bundles:*", "b", 200, 200},
		{"bundles:a", "", 403, 403},
		{"bundles:a", "x\"y", 403, 403},
		{"decide", "a", 403, 403},
	} {
		secret := secretOf(t, s, fmt.Sprint(i), tc.scope)
		for class, want := range map[api.Class]int{api.ClassBundleRead: tc.read, api.ClassBundleWrite: tc.write} {
			h := g.Stack(api.Main, g.Require(api.Route{
				Class: class, Handler: "bundles", Bundle: func(*http.Request) string { return tc.name },
			})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			w := do(h, request("GET", "/", secret))
			if w.Code != want {
				t.Errorf("%s on %q, %s: %d, want %d", tc.scope, tc.name, class, w.Code, want)
			}
			if strings.Count(w.Header().Get("WWW-Authenticate"), `"`)%2 != 0 {
				t.Errorf("challenge %q", w.Header().Get("WWW-Authenticate"))
			}
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{})
	for name, a := range map[string]api.AccessSettings{
		"server.open":                     {Open: []string{"decide", "admin"}},
		"max_in_flight":                   {MaxInFlight: -1},
		"limits":                          {DataBody: -1},
		"authn.certificates[0]: exactly":  {Certificates: []api.CertificateRule{{SAN: "a", Subject: "b", Name: "x"}}},
		"authn.certificates[0]: name":     {Certificates: []api.CertificateRule{{SAN: "a"}}},
		"authn.certificates[1].scopes":    {Certificates: []api.CertificateRule{{SAN: "a", Name: "x"}, {SAN: "b", Name: "y", Scopes: []string{"root"}}}},
		"authn.certificates[0]: exactly ": {Certificates: []api.CertificateRule{{Name: "x"}}},
	} {
		commit, err := g.Prepare(a)
		if err == nil || commit != nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := api.NewGate(nil, api.GateOptions{Settings: a}); err == nil {
			t.Errorf("%s: a gate was made", name)
		}
	}
	if _, err := g.Prepare(api.AccessSettings{Certificates: []api.CertificateRule{{SAN: "a", Name: "x", Scopes: []string{"root"}}}}); !errors.Is(err, tokens.ErrScope) {
		t.Errorf("unknown scope: %v", err)
	}
}
