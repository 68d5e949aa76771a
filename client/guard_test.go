package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/client"
)

func known(*http.Request) (client.Entity, error) { return question.Subject, nil }

func TestGuard(t *testing.T) {
	const stepUp = `{"decision": false, "context": {"decision_id": "7", "reasons": [{"code": "mfa_required", "detail": "inside"}],
		"obligations": [{"id": "step-up", "type": "step-up", "properties": {"acr_values": ["a\" evil=\"b"], "max_age": 60}}]}}`
	const filtered = `{"decision": true, "context": {"decision_id": "7", "obligations": [{"id": "fields", "type": "field-filter", "properties": {}}]}}`
	fault := errors.New("inside")
	for _, tt := range []struct {
		name      string
		status    int
		answer    string
		subject   client.Derive
		resource  client.Derive
		o         client.GuardOptions
		want      int
		code      string
		challenge string
		retry     string
	}{
		{name: "allowed", answer: `{"decision": true}`, want: 200},
		{name: "denied", answer: `{"decision": false, "context": {"decision_id": "7", "reasons": [{"code": "x", "detail": "inside"}]}}`, want: 403, code: "permission_denied"},
		{name: "step-up", answer: stepUp, want: 401, code: "insufficient_user_authentication", challenge: `Bearer error="insufficient_user_authentication", acr_values="a evil=b", max_age="60"`},
		{name: "an obligation nobody knows", answer: filtered, want: 403, code: "obligation_unsupported"},
		{name: "an obligation of another type", answer: filtered, o: client.GuardOptions{Fulfils: []string{"notify"}}, want: 403, code: "obligation_unsupported"},
		{name: "an obligation that is carried out", answer: filtered, o: client.GuardOptions{Fulfils: []string{"field-filter"}}, want: 200},
		{name: "unavailable", status: 503, answer: `"audit_unavailable: inside"`, want: 503, code: "authorization_unavailable", retry: "9"},
		{name: "the server refuses us", status: 401, answer: `"inside"`, want: 503, code: "authorization_unavailable", retry: "9"},
		{name: "not understood", answer: `{}`, want: 503, code: "authorization_unavailable", retry: ""},
		{name: "nobody", answer: `{"decision": true}`, subject: func(*http.Request) (client.Entity, error) {
			return client.Entity{}, client.ErrUnauthenticated
		}, o: client.GuardOptions{Realm: `sh"op`}, want: 401, code: "unauthenticated", challenge: `Bearer realm="shop"`},
		{name: "an empty subject", answer: `{"decision": true}`, subject: func(*http.Request) (client.Entity, error) {
			return client.Entity{Type: "user"}, nil
		}, want: 401, code: "unauthenticated", challenge: "Bearer"},
		{name: "a fault with the subject", answer: `{"decision": true}`, subject: func(*http.Request) (client.Entity, error) { return question.Subject, fault }, want: 500, code: "internal"},
		{name: "a fault with the resource", answer: `{"decision": true}`, resource: func(*http.Request) (client.Entity, error) { return client.Entity{ID: "1"}, fault }, want: 500, code: "internal"},
		{name: "a resource of another type", answer: `{"decision": true}`, resource: func(*http.Request) (client.Entity, error) {
			return client.Entity{Type: "user", ID: "1"}, nil
		}, want: 500, code: "internal"},
		{name: "a resource without an id", answer: `{"decision": true}`, resource: func(*http.Request) (client.Entity, error) { return client.Entity{}, nil }, want: 500, code: "internal"},
		{name: "a fault with the context", answer: `{"decision": true}`, o: client.GuardOptions{Context: func(*http.Request) (map[string]any, error) { return nil, fault }}, want: 500, code: "internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, client.Options{Retries: -1}, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Traceparent") != "00-trace" {
					t.Errorf("traceparent %q", r.Header.Get("Traceparent"))
				}
				if tt.status == 0 {
					tt.status = 200
				} else {
					w.Header().Set("Retry-After", "9")
				}
				reply(w, tt.status, tt.answer)
			})
			if tt.subject == nil {
				tt.subject = known
			}
			var seen error
			observed := 0
			tt.o.Observe = func(_ *http.Request, _ client.Decision, err error) { observed++; seen = err }
			reached := false
			next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				d, ok := client.FromContext(r.Context())
				reached = ok && d.Allowed
			})
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Traceparent", "00-trace")
			client.NewGuard(c, tt.subject, tt.o).RequirePermission("shop.bill.read", tt.resource)(next).ServeHTTP(w, r)
			if w.Code != tt.want || reached != (tt.want == 200) || observed != 1 || (seen == nil) != reached {
				t.Fatalf("got %d %s, reached %t, observed %d times %v", w.Code, w.Body, reached, observed, seen)
			}
			if tt.want == 200 {
				return
			}
			var p map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p["code"] != tt.code || p["status"] != float64(tt.want) || p["title"] == "" {
				t.Errorf("got %s", w.Body)
			}
			if strings.Contains(w.Body.String(), "inside") {
				t.Errorf("the body tells what is inside: %s", w.Body)
			}
			h := w.Header()
			if h.Get("Content-Type") != "application/problem+json" || h.Get("WWW-Authenticate") != tt.challenge || h.Get("Retry-After") != tt.retry || h.Get("Cache-Control") != "no-store" {
				t.Errorf("got %v", h)
			}
			if strings.Contains(tt.answer, `"7"`) && (h.Get("X-Decision-Id") != "7" || p["decision_id"] != "7") {
				t.Errorf("the decision is not named: %v %s", h, w.Body)
			}
		})
	}
}

// TestGuardAsks looks at what a guard asks.
func TestGuardAsks(t *testing.T) {
	var path string
	var body map[string]any
	c := serve(t, client.Options{}, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body, path = nil, r.URL.Path
		_ = json.Unmarshal(raw, &body)
		if strings.HasPrefix(path, "/v1/data") {
			reply(w, 200, `{"decision_id": "9", "result": {"allow": true, "decision": "permit", "decision_id": "forged"}}`)
			return
		}
		reply(w, 200, `{"decision": true}`)
	})
	facts := func(*http.Request) (map[string]any, error) { return map[string]any{"policy": "user"}, nil }
	g := client.NewGuard(c, known, client.GuardOptions{Context: facts})
	var d client.Decision
	run := func(m func(http.Handler) http.Handler) {
		t.Helper()
		w := httptest.NewRecorder()
		m(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { d, _ = client.FromContext(r.Context()) })).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 200 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	run(g.RequirePermission("shop.bill.read", nil))
	if got, want := text(body), `{"action":{"name":"read"},"context":{"policy":"user"},"resource":{"id":"*","type":"shop.bill"},"subject":{"id":"ana","properties":{"roles":["clerk"]},"type":"user"}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	run(g.RequireRole("admin"))
	if input := body["input"].(map[string]any); path != "/v1/data/verdict/authz/role" || text(input["resource"]) != `{"id":"admin","type":"role"}` || text(input["context"]) != `{"policy":"user"}` || d.ID != "9" {
		t.Errorf("asked %s %v, got %+v", path, body, d)
	}
	run(g.Require(func(*http.Request) (client.Request, error) {
		return client.Request{Subject: client.Entity{Type: "user", ID: "forged"}, Action: client.Action{Name: "x"}, Resource: client.Entity{Type: "y", ID: "z"}, Context: map[string]any{"own": 1}}, nil
	}))
	if text(body["subject"]) != `{"id":"ana","properties":{"roles":["clerk"]},"type":"user"}` || text(body["context"]) != `{"own":1}` {
		t.Errorf("asked %v", body)
	}
}

func TestGuardShowsReasonsWhenTold(t *testing.T) {
	c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, `{"decision": false, "context": {"reasons": [{"code": "x", "policy": "p", "detail": "d"}]}}`)
	})
	w := httptest.NewRecorder()
	client.NewGuard(c, known, client.GuardOptions{ShowReasons: true}).RequirePermission("a.b", nil)(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(w.Body.String(), `"reasons":[{"code":"x","policy":"p","detail":"d"}]`) {
		t.Errorf("got %s", w.Body)
	}
}

func TestGuardIsSetUpRight(t *testing.T) {
	c := connect(t, "http://127.0.0.1:1", client.Options{})
	g := client.NewGuard(c, known, client.GuardOptions{})
	for name, setUp := range map[string]func(){
		"no client":   func() { client.NewGuard(nil, known, client.GuardOptions{}) },
		"no subject":  func() { client.NewGuard(c, nil, client.GuardOptions{}) },
		"no action":   func() { g.RequirePermission("read", nil) },
		"empty":       func() { g.RequirePermission("", nil) },
		"a wildcard":  func() { g.RequirePermission("customer.*", nil) },
		"no type":     func() { g.RequirePermission(".read", nil) },
		"no role":     func() { g.RequireRole("") },
		"no question": func() { g.Require(nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			setUp()
		}()
	}
}
