package opa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// failing is a log that takes nothing.
type failing struct{ err error }

func (f failing) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, f.err
}

func (f failing) Submit(context.Context, *audit.Record) (*audit.Ticket, error) { return nil, f.err }

// newFailingStand is a stand whose log is full for the next 2.5 seconds.
func newFailingStand(t testing.TB, o opa.Options) *stand {
	t.Helper()
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	full := &audit.UnavailableError{Reason: audit.ReasonQueueFull, RetryAfter: 2500 * time.Millisecond}
	return newStandOn(t, engine, nil, failing{full}, o)
}

// What cannot be recorded is not answered, and not done.
func TestUnrecorded(t *testing.T) {
	s := newFailingStand(t, opa.Options{PolicyWrites: true})
	for _, q := range []struct{ method, target, body string }{
		{"POST", "/v1/data/x", `{"input":1}`},
		{"POST", "/v1/data/x?pretty&explain=full", `{"input":1}`},
		{"GET", "/v1/data", ``},
		{"GET", "/v1/data/a%22b", ``},
		{"POST", "/v0/data/x", `{}`},
		{"POST", "/", `{}`},
		{"GET", "/v1/query?q=x%3D1", ``},
		{"POST", "/v1/query", `{"query":"x = 1"}`},
		{"POST", "/v1/query", `{"query":"x = y"}`},
		{"POST", "/v1/compile", `{"query":"input.x = 1"}`},
		{"PUT", "/v1/data/x", `1`},
		{"PATCH", "/v1/data", `[{"op":"add","path":"/x","value":1}]`},
		{"PUT", "/v1/policies/x", "package x\n"},
	} {
		w := s.do(t, q.method, q.target, q.body)
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: status %d", q.method, q.target, w.Code)
		}
		if got := w.Header().Get("Retry-After"); got != "3" {
			t.Errorf("%s %s: Retry-After %q", q.method, q.target, got)
		}
		want := "{\n  \"code\": \"audit_unavailable\",\n  \"message\": \"the audit log cannot take the record: queue_full\"\n}\n"
		if w.Body.String() != want {
			t.Errorf("%s %s: %s", q.method, q.target, w.Body)
		}
	}
	if s.engine.Active().APIWrites() != 0 || len(s.engine.Active().ModuleIDs()) != 0 {
		t.Error("a write that was refused took effect")
	}
}

func TestUnrecordedForAnyReason(t *testing.T) {
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := newStandOn(t, engine, nil, failing{errors.New("disk on fire")}, opa.Options{PolicyWrites: true})
	for _, method := range []string{"POST", "PUT"} {
		w := s.do(t, method, "/v1/data/x", `{}`)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || strings.Contains(w.Body.String(), "fire") {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
}

// Every decision and every write that took effect has its record; a write that
// was refused, or changed nothing, has none.
func TestWritesAreRecorded(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	const policy = "package p\n\nx := 1\n"
	for _, step := range []struct {
		method, target, body string
		status               int
		event, text          string // empty: no record
	}{
		{"PUT", "/v1/data/a/b", `{"k":1}`, 204, "config_change", `"action":"put","resource":"data:/a/b"`},
		{"PUT", "/v1/data/a%2Fb", `1`, 204, "config_change", `"resource":"data:/a%2Fb"`},
		{"PATCH", "/v1/data/a", `[{"op":"add","path":"/b/n","value":1}]`, 204, "config_change", `"affected_fields":["/a/b/n"]`},
		{"DELETE", "/v1/data/a/b", ``, 204, "config_change", `"action":"delete","resource":"data:/a/b"`},
		{"PUT", "/v1/policies/dir/p.rego", policy, 200, "policy_write", `"resource":"policy:dir/p.rego"`},
		{"PUT", "/v1/policies/dir/p.rego", policy, 200, "", ""},
		{"PUT", "/v1/policies/dir/p.rego", policy + "\n", 200, "policy_write", `"old_values":{"bytes":18,"sha256":"`},
		{"PUT", "/v1/policies/bad", "package", 400, "", ""},
		{"PUT", "/v1/data/p/x", `1`, 400, "", ""},
		{"PUT", "/v1/data", `[]`, 400, "", ""},
		{"DELETE", "/v1/data/nope", ``, 404, "", ""},
		{"DELETE", "/v1/policies/dir/p.rego", ``, 200, "policy_delete", `"old_values":{"bytes":19`},
		{"DELETE", "/v1/policies/dir/p.rego", ``, 404, "", ""},
	} {
		before := len(s.records(t, `"message":"a write through OPA`))
		s.must(t, step.status, step.method, step.target, step.body, "User-Agent", "tests/1")
		found := s.records(t, `"message":"a write through OPA`)
		name := step.method + " " + step.target
		if step.event == "" {
			if len(found) != before {
				t.Errorf("%s: recorded: %v", name, found[before:])
			}
			continue
		}
		if len(found) != before+1 {
			t.Errorf("%s: %d records, want 1", name, len(found)-before)
			continue
		}
		for _, want := range []string{`"event":"` + step.event + `"`, step.text, `"requested_by":"tester"`, `"client_ip":"192.0.2.1"`, `"user_agent":"tests/1"`, `"edge":"opa"`} {
			if !strings.Contains(found[before], want) {
				t.Errorf("%s: no %s in %s", name, want, found[before])
			}
		}
	}
}

func TestDecisionsAreRecorded(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
	for _, tc := range []struct {
		method, target, body string
		status               int
		text                 []string
		inBody               bool
	}{
		{"POST", "/v1/data/b/allow", `{"input":{"user":"alice"}}`, 200, []string{`"event":"permission_granted"`, `"path":"b/allow"`, `"input":{"user":"alice"}`, `"result":true`}, true},
		{"POST", "/v1/data/b/allow?pretty", `{"input":{"user":"bob"}}`, 200, []string{`"event":"permission_denied"`, `"undefined":true`}, true},
		{"GET", "/v1/data/b/echo?input=1", ``, 200, []string{`"event":"decision_evaluated"`, `"result":1`}, true},
		{"POST", "/v0/data/b/echo", `{"q":2}`, 200, []string{`"result":{"q":2}`}, false},
		{"POST", "/v0/data/b/nope", `{}`, 404, []string{`"undefined":true`, `"path":"b/nope"`}, false},
		{"POST", "/", `{}`, 404, []string{`"path":"system/main"`}, false},
		{"POST", "/v1/data/b/clash", `{"input":{"bad":1}}`, 500, []string{`"event":"decision_error"`, `"code":"eval_conflict_error"`}, false},
		{"POST", "/v0/data/a%22b", `{}`, 500, []string{`"event":"decision_error"`, `"path":"a%22b"`}, false},
	} {
		w := s.must(t, tc.status, tc.method, tc.target, tc.body)
		id := w.Header().Get("X-Decision-Id")
		if len(id) != 36 {
			t.Fatalf("%s %s: X-Decision-Id %q", tc.method, tc.target, id)
		}
		if got := strings.Contains(w.Body.String(), id); got != tc.inBody {
			t.Errorf("%s %s: id in body: %v: %s", tc.method, tc.target, got, w.Body)
		}
		found := s.records(t, fmt.Sprintf(`"decision_id":%q`, id))
		if len(found) != 1 {
			t.Fatalf("%s %s: %d records", tc.method, tc.target, len(found))
		}
		for _, want := range append(tc.text, `"edge":"opa"`) {
			if !strings.Contains(found[0], want) {
				t.Errorf("%s %s: no %s in %s", tc.method, tc.target, want, found[0])
			}
		}
	}
	for _, target := range []string{"/health", "/health/live", "/v1/policies", "/metrics"} {
		if w := s.do(t, "GET", target, ""); w.Header().Get("X-Decision-Id") != "" {
			t.Errorf("%s has a decision id", target)
		}
	}
}
