package main_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// newToken makes a token with the command, beside a server.
func newToken(t *testing.T, dir, name string, scopes ...string) string {
	t.Helper()
	args := []string{"token", "create", "--data-dir", dir, "--name", name}
	for _, scope := range scopes {
		args = append(args, "--scope", scope)
	}
	stdout, stderr, code := servertest.Run(t, args...)
	if code != 0 {
		t.Fatalf("token create: exit code %d\n%s", code, stderr)
	}
	return strings.TrimSpace(stdout)
}

// shape checks that an error has the shape of the protocol that was asked.
func shape(a *servertest.Answer, path string) error {
	kind := a.Header.Get("Content-Type")
	body := strings.ReplaceAll(string(a.Body), " ", "")
	if strings.HasPrefix(path, "/api/") {
		if !strings.HasPrefix(kind, "application/problem+json") || !strings.Contains(body, fmt.Sprintf(`"status":%d`, a.Status)) {
			return fmt.Errorf("not a problem: %s %s", kind, a.Body)
		}
		return nil
	}
	if !strings.HasPrefix(kind, "application/json") || !strings.Contains(body, `"code":"`) || !strings.Contains(body, `"message":"`) ||
		strings.Contains(body, `"status":`) {
		return fmt.Errorf("not an error of OPA's: %s %s", kind, a.Body)
	}
	return nil
}

// TestAccess spot-checks the table of who may call what on the wire, in both
// modes.
func TestAccess(t *testing.T) {
	t.Parallel()
	const open = "open"
	paths := []struct {
		method, path, body string
		scope              string // with --dev; open: no credential is needed
		strict             string // without; empty: the same
	}{
		{"GET", "/health", "", open, ""},
		{"GET", "/health?bundles", "", open, ""},
		{"GET", "/metrics", "", open, ""},
		{"POST", "/v1/data/app/allow", `{"input":{}}`, open, "decide"},
		{"GET", "/v1/data/app/allow", "", open, "decide"},
		{"POST", "/v0/data/app/denied", `{}`, open, "decide"},
		{"POST", "/", `{"rule":"denied"}`, open, "decide"},
		{"POST", "/v1/batch/data/app/allow", `{"inputs":{}}`, open, "decide"},
		{"GET", "/", "", "decide", ""},
		{"GET", "/v1/query?q=x%3D1", "", "decide", ""},
		{"POST", "/v1/query", `{"query":"x = 1"}`, "decide", ""},
		{"POST", "/v1/compile", `{"query":"input.x = 1"}`, "decide", ""},
		{"GET", "/v1/config", "", "audit:read", ""},
		{"PUT", "/v1/data/written", `1`, "data:write", ""},
		{"PATCH", "/v1/data/written", `[{"op":"replace","path":"/","value":2}]`, "data:write", ""},
		{"DELETE", "/v1/data/written", "", "data:write", ""},
		{"GET", "/v1/policies", "", "policies:write", ""},
		{"PUT", "/v1/policies/p", `package p`, "policies:write", ""},
		{"DELETE", "/v1/policies/p", "", "policies:write", ""},
		{"GET", "/v1/status", "", "audit:read", ""},
		{"GET", "/api/v1/status", "", "audit:read", ""},
		{"GET", "/api/v1/audit/records/0", "", "audit:read", ""},
		{"GET", "/api/v1/audit/records", "", "audit:read", ""},
		{"GET", "/api/v1/audit/verify", "", "audit:read", ""},
	}
	scopes := []string{"decide", "data:write", "policies:write", "audit:read", "admin"}
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict=%v", strict), func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Strict: strict, Args: plain(t, "--set", "api.policy_writes=true")})
			tokens := map[string]string{}
			for _, scope := range scopes {
				tokens[scope] = newToken(t, s.Dir, "t-"+strings.ReplaceAll(scope, ":", "-"), scope)
			}
			if !s.Eventually(func() error { // the server reads the file again now and then
				if a := s.Do(servertest.Request{Path: "/api/v1/status", Token: tokens["admin"]}); a.Status != http.StatusOK {
					return fmt.Errorf("%d %s", a.Status, a.Body)
				}
				return nil
			}) {
				t.Fatal("a new token is not taken")
			}
			for _, p := range paths {
				need := p.scope
				if strict && p.strict != "" {
					need = p.strict
				}
				ask := func(token string) *servertest.Answer {
					q := servertest.Request{Method: p.method, Path: p.path, Token: token}
					if p.body != "" {
						q.Body = p.body
					}
					return s.Do(q)
				}
				for token, want := range map[string]int{"": 401, "verdict_0123456789ab_" + strings.Repeat("A", 43): 401} {
					if a := ask(token); need == open && (a.Status == 401 || a.Status == 403) || need != open && a.Status != want {
						t.Errorf("%s %s with token %q: %d %s", p.method, p.path, token, a.Status, a.Body)
					} else if need != open {
						if err := shape(a, p.path); err != nil {
							t.Errorf("%s %s: %v", p.method, p.path, err)
						}
						if a.Header.Get("WWW-Authenticate") == "" {
							t.Errorf("%s %s: 401 without WWW-Authenticate", p.method, p.path)
						}
					}
				}
				for _, scope := range scopes {
					a := ask(tokens[scope])
					allowed := need == open || scope == need || scope == "admin"
					if refused := a.Status == 401 || a.Status == 403; refused == allowed || refused && a.Status != 403 {
						t.Errorf("%s %s with scope %s: %d %s", p.method, p.path, scope, a.Status, a.Body)
					} else if refused {
						if err := shape(a, p.path); err != nil {
							t.Errorf("%s %s: %v", p.method, p.path, err)
						}
					}
				}
			}
			s.Stop()
		})
	}
}

// TestOpenDecide lets everybody decide where server.open says so, and nothing
// else.
func TestOpenDecide(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Strict: true, Args: plain(t, "--set", "server.open=decide")})
	if a := s.Decide("app/allow", map[string]any{"user": "ada"}); a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, q := range []servertest.Request{{Path: "/api/v1/status"}, {Path: "/v1/policies"}, {Method: "PUT", Path: "/v1/data/x", Body: "1"}} {
		if a := s.Do(q); a.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", q.Path, a.Status, a.Body)
		}
	}
}

// TestTokensRecorded creates and revokes tokens beside a live server and while
// none runs. The server records both and takes the tokens at once.
func TestTokensRecorded(t *testing.T) {
	t.Parallel()
	o := servertest.Options{Dir: t.TempDir(), Strict: true, Args: plain(t)}
	newToken(t, o.Dir, "before", "decide")
	s := servertest.Start(t, o)
	admin := newToken(t, o.Dir, "ops", "admin")
	recorded := func(event, name string) func() error {
		return func() error {
			a := s.Do(servertest.Request{Path: "/api/v1/audit/records?from=0&limit=1000", Token: admin})
			for line := range strings.Lines(string(a.Body)) {
				if strings.Contains(line, `"event":"`+event+`"`) && strings.Contains(line, `"resource":"token:`+name+`"`) {
					return nil
				}
			}
			return fmt.Errorf("%d: no %s of %s", a.Status, event, name)
		}
	}
	for _, name := range []string{"before", "ops"} {
		if !s.Eventually(recorded("token_created", name)) {
			t.Errorf("the token %s is not recorded", name)
		}
	}
	if _, stderr, code := servertest.Run(t, "token", "revoke", "before", "--data-dir", o.Dir); code != 0 {
		t.Fatal(stderr)
	}
	if !s.Eventually(recorded("token_revoked", "before")) {
		t.Error("the revocation is not recorded")
	}
	s.Stop()
	if _, stderr, code := servertest.Run(t, "token", "revoke", "ops", "--data-dir", o.Dir); code != 0 {
		t.Fatal(stderr)
	}
	s = servertest.Start(t, o)
	if a := s.Do(servertest.Request{Path: "/api/v1/status", Token: admin}); a.Status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", a.Status)
	}
	s.Stop() // also what was changed just before the end is recorded
	revoked := 0
	for _, r := range readLog(t, o.Dir) {
		if r.Event == "token_revoked" && r.Resource == "token:ops" {
			revoked++
		}
	}
	if revoked != 1 {
		t.Errorf("the token revoked while no server ran is recorded %d times", revoked)
	}
	if found := search(t, s, admin); len(found) > 0 {
		t.Errorf("a token was written: %v", found)
	}
}

// mostRefusals is how many records there may be of refusals of one status: a
// burst of 50, 5 a second, and now and then one that tells of the rest.
func mostRefusals(began time.Time) int { return 50 + 6*int(time.Since(began).Seconds()+1) }

// TestRefusalsBounded sends many bad tokens. The records of refusals are few, and
// together they tell how many there were.
func TestRefusalsBounded(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	const bad, forbidden = 300, 20
	weak := newToken(t, s.Dir, "weak", "decide")
	if !s.Eventually(func() error {
		if a := s.Do(servertest.Request{Path: "/", Token: weak}); a.Status != http.StatusOK {
			return fmt.Errorf("%d", a.Status)
		}
		return nil
	}) {
		t.Fatal("the token is not taken")
	}
	before := s.Metric(`verdict_refusals_total{status="401"}`)
	for range bad {
		if a := s.Do(servertest.Request{Path: "/api/v1/status?token=x", Token: "wrong"}); a.Status != http.StatusUnauthorized {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	for range forbidden {
		if a := s.Do(servertest.Request{Path: "/api/v1/status", Token: weak}); a.Status != http.StatusForbidden {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	if n := s.Metric(`verdict_refusals_total{status="401"}`) - before; n != bad {
		t.Errorf("%v refusals are counted, want %d", n, bad)
	}
	s.Stop()
	records, told := map[int]int{}, map[int]int{}
	list := readLog(t, s.Dir)
	for _, r := range list {
		if r.Event != "access_refused" {
			continue
		}
		records[r.Details.Status]++
		told[r.Details.Status] += r.Details.Suppressed
		if r.Details.Code != "suppressed" {
			told[r.Details.Status]++
		}
		if strings.Contains(string(r.raw), "wrong") || strings.Contains(string(r.raw), "token=") {
			t.Errorf("a credential is recorded: %s", r.raw)
		}
	}
	if most := mostRefusals(began); records[401] > most || records[401] < 50 {
		t.Errorf("%d of %d refusals are recorded", records[401], bad)
	}
	if told[401] != bad+int(before) || told[403] != forbidden {
		t.Errorf("the records tell of %v refusals, there were %v of 401 and %d of 403", told, bad+before, forbidden)
	}
	if !slices.ContainsFunc(list, func(r record) bool { return strings.Contains(string(r.raw), `"requested_by":"weak"`) }) {
		t.Error("no record names the caller that may not")
	}
}
