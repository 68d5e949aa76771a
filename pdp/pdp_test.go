package pdp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// point is a decision point over a real log in a temporary folder.
type point struct {
	*pdp.PDP
	engine *eval.Engine
	log    *audit.Log
}

func newPoint(t testing.TB, o pdp.Options, modules ...string) *point {
	t.Helper()
	engine, err := eval.New(eval.Options{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range modules {
		m, err := eval.ParseModule(fmt.Sprintf("m%d.rego", i), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Write(func(d *eval.Draft) error { return d.PutModule(m) }); err != nil {
			t.Fatal(err)
		}
	}
	log := pointtest.Log(t, audit.Options{})
	return &point{PDP: pdp.New(engine, log, o), engine: engine, log: log}
}

func parse(t testing.TB, text string) ast.Value {
	t.Helper()
	if text == "" {
		return nil
	}
	v, _, err := eval.ParseInput([]byte(text), eval.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// record reads a decision's record back from the log.
func (p *point) record(t testing.TB, id string) map[string]any {
	t.Helper()
	_, raw, err := p.log.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&rec); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return rec
}

const app = `package app

default allow := false
allow if input.user == "alice"
decision := {"allow": input.user == "alice", "reasons": [{"code": "c"}], "trust": {"risk": 0.25}}
number := 42
none if false
nothing := null
broken := 1 if input.x
broken := 2 if input.y
`

func TestDecide(t *testing.T) {
	p := newPoint(t, pdp.Options{}, app)
	for _, tt := range []struct {
		name, path, input            string
		want                         string // encoded value; "": undefined
		err                          bool
		outcome, event, severity     string
		undefined, allowed, riskKept bool
	}{
		{name: "allowed", path: "app/allow", input: `{"user": "alice"}`, want: `true`, outcome: "success", event: "permission_granted", severity: "info", allowed: true},
		{name: "denied", path: "app/allow", input: `{"user": "bob"}`, want: `false`, outcome: "failure", event: "permission_denied", severity: "low"},
		{name: "no input", path: "app/allow", want: `false`, outcome: "failure", event: "permission_denied", severity: "low"},
		{name: "object that allows", path: "app/decision", input: `{"user": "alice"}`, want: `{"allow":true,"reasons":[{"code":"c"}],"trust":{"risk":0.25}}`, outcome: "success", event: "permission_granted", severity: "info", allowed: true, riskKept: true},
		{name: "object that denies", path: "app/decision", input: `{"user": "bob"}`, want: `{"allow":false,"reasons":[{"code":"c"}],"trust":{"risk":0.25}}`, outcome: "failure", event: "permission_denied", severity: "low", riskKept: true},
		{name: "no boolean", path: "app/number", want: `42`, outcome: "success", event: "decision_evaluated", severity: "info"},
		{name: "null", path: "app/nothing", want: `null`, outcome: "success", event: "decision_evaluated", severity: "info"},
		{name: "undefined rule", path: "app/none", outcome: "failure", event: "permission_denied", severity: "low", undefined: true},
		{name: "unknown path", path: "no/such", outcome: "failure", event: "permission_denied", severity: "low", undefined: true},
		{name: "evaluation error", path: "app/broken", input: `{"x": 1, "y": 1}`, err: true, outcome: "error", event: "decision_error", severity: "high"},
		{name: "path that cannot be asked", path: `a"b`, err: true, outcome: "error", event: "decision_error", severity: "high"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := p.Decide(t.Context(), &pdp.Query{
				Edge: "test", Path: tt.path, Input: parse(t, tt.input), Caller: "tester", ClientIP: "192.0.2.1", CorrelationID: "c1",
			})
			if (err != nil) != tt.err {
				t.Fatalf("got error %v", err)
			}
			if got := string(d.JSON); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if d.Allowed != tt.allowed {
				t.Errorf("allowed: got %v", d.Allowed)
			}
			rec := p.record(t, d.ID)
			d.Release()
			for _, key := range []string{"seq", "time", "type", "event", "severity", "outcome", "decision_id", "path", "input", "result", "reasons", "bundles", "duration_ns"} {
				if _, ok := rec[key]; !ok {
					t.Errorf("the record has no %s", key)
				}
			}
			_, undefined := rec["undefined"]
			_, risk := rec["risk_score"]
			_, failed := rec["error"]
			if rec["outcome"] != tt.outcome || rec["event"] != tt.event || rec["severity"] != tt.severity || undefined != tt.undefined || risk != tt.riskKept || failed != tt.err {
				t.Errorf("got record %v", rec)
			}
			if rec["requested_by"] != "tester" || rec["edge"] != "test" || rec["client_ip"] != "192.0.2.1" || rec["correlation_id"] != "c1" {
				t.Errorf("who asked is wrong in %v", rec)
			}
		})
	}
}

func TestStandardErrorDenies(t *testing.T) {
	p := newPoint(t, pdp.Options{}, "package verdict.authz\n\ndecision := {\"allow\": true} if to_number(input.text) == 1")
	for input, want := range map[string]bool{`{"text": "1"}`: true, `{"text": "x"}`: false} {
		d, err := p.Decide(t.Context(), &pdp.Query{Path: pdp.StandardPath, Input: parse(t, input)})
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed != want {
			t.Errorf("%s: got %s", input, d.JSON)
		}
		if want {
			continue
		}
		for _, part := range []string{`"allow":false`, `"decision":"indeterminate"`, `"code":"policy_error"`} {
			if !strings.Contains(string(d.JSON), part) {
				t.Errorf("no %s in %s", part, d.JSON)
			}
		}
		rec := p.record(t, d.ID)
		if rec["outcome"] != "error" || rec["error"] == nil || rec["strict"] != true {
			t.Errorf("got record %v", rec)
		}
	}
}

func TestDescribe(t *testing.T) {
	p := newPoint(t, pdp.Options{}, app)
	for input, want := range map[string]map[string]any{
		`{"subject": {"type": "user", "id": "a", "properties": {"tenant": "t", "organization": "o"}}, "action": {"name": "read"}, "resource": {"type": "doc", "id": "1"}, "context": {"session": {"id": "s"}, "device": "d", "location": {"country": "DE"}}}`: {
			"subject": "user:a", "action": "read", "resource": "doc:1", "tenant": "t", "organization": "o", "session": "s", "device": "d", "location": "DE",
		},
		`{"subject": "alice", "action": "read", "resource": {"id": "1"}}`: {"subject": "alice", "action": "read", "resource": "1"},
		`{"subject": 1, "action": [], "resource": null, "context": "x"}`:  {},
		`[1, 2]`: {},
	} {
		d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/number", Input: parse(t, input)})
		if err != nil {
			t.Fatal(err)
		}
		rec := p.record(t, d.ID)
		for _, key := range []string{"subject", "action", "resource", "tenant", "organization", "session", "device", "location"} {
			if rec[key] != want[key] {
				t.Errorf("%s of %s: got %v, want %v", key, input, rec[key], want[key])
			}
		}
	}
}

func TestMaskKeys(t *testing.T) {
	const canary = "hunter2-canary"
	p := newPoint(t, pdp.Options{MaskKeys: mask.NewKeys([]string{"password"})},
		"package app\n\necho := {\"deep\": [input], \"now\": time.now_ns()}")
	d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/echo", Input: parse(t, `{"a": [{"PassWord": "`+canary+`"}], "b": 1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(d.JSON), canary) {
		t.Errorf("the answer is masked: %s", d.JSON)
	}
	_, raw, err := p.log.Find(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), canary) {
		t.Errorf("the record holds the password: %s", raw)
	}
	masked, _ := p.record(t, d.ID)["masked"].([]any)
	if want := []any{"/input/a/0/PassWord", "/result/deep/0/a/0/PassWord"}; !slices.Equal(masked, want) {
		t.Errorf("got masked %v, want %v", masked, want)
	}
}

// TestMaskedArguments wants no masked value among the arguments of
// non-deterministic calls, and the clock kept.
func TestMaskedArguments(t *testing.T) {
	p := newPoint(t, pdp.Options{MaskKeys: mask.NewKeys([]string{"password"})},
		"package app\n\ndraw := [rand.intn(input.password, 10), rand.intn(input.name, 10), time.now_ns()]")
	for input, want := range map[string]string{
		`{"name": "n", "password": "canary"}`: `["/nd_builtin_cache/rand.intn"]`,
		`{"name": "n"}`:                       `[]`,
	} {
		d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/draw", Input: parse(t, input)})
		if err != nil {
			t.Fatal(err)
		}
		_, raw, err := p.log.Find(t.Context(), d.ID)
		if err != nil {
			t.Fatal(err)
		}
		rec := p.record(t, d.ID)
		erased, err := json.Marshal(rec["erased"])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "canary") || want != "[]" && string(erased) != want {
			t.Errorf("%s: erased %s in %s", input, erased, raw)
		}
		if d.Value != nil && !strings.Contains(string(raw), "time.now_ns") {
			t.Errorf("%s: the clock is not kept: %s", input, raw)
		}
	}
}

func TestMaskPolicy(t *testing.T) {
	for _, tt := range []struct {
		name, policy string
		leaks        bool
		erased       []any
		masked       []any
	}{
		{"erase", `mask contains "/input/secret"`, false, []any{"/input/secret"}, nil},
		{"replace", `mask contains {"op": "upsert", "path": "/input/secret", "value": "gone"}`, false, nil, []any{"/input/secret"}},
		{"elsewhere", `mask contains "/input/other"`, true, nil, nil},
		{"failing", "mask := 1 if input.input\n\nmask := 2 if input.input.secret", false, []any{"/input", "/result", "/nd_builtin_cache"}, nil},
		{"no set", `mask := 7`, false, []any{"/input", "/result", "/nd_builtin_cache"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoint(t, pdp.Options{}, "package app\n\nallow if input.secret", "package system.log\n\n"+tt.policy)
			d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/allow", Input: parse(t, `{"secret": "canary", "kept": 1}`)})
			if err != nil {
				t.Fatal(err)
			}
			if string(d.JSON) != "true" {
				t.Errorf("got %s", d.JSON)
			}
			rec := p.record(t, d.ID)
			text := fmt.Sprint(rec["input"])
			if strings.Contains(text, "canary") != tt.leaks {
				t.Errorf("got input %s", text)
			}
			erased, _ := rec["erased"].([]any)
			masked, _ := rec["masked"].([]any)
			if !slices.Equal(erased, tt.erased) || !slices.Equal(masked, tt.masked) {
				t.Errorf("got erased %v, masked %v", erased, masked)
			}
		})
	}
}

// What is masked in the input and the result must not stand in the parts of the
// record that are taken from them.
func TestMaskedIsNotDescribed(t *testing.T) {
	const (
		canary = "hunter2-canary"
		policy = "package app\n\nanswer := {\"allow\": false, \"reasons\": [{\"code\": \"no\", \"token\": input.secret}], \"trust\": {\"token\": input.secret, \"risk\": 0.5}}"
		asked  = `{"subject": {"type": "user", "id": "` + canary + `"}, "secret": "` + canary + `"}`
	)
	for _, tt := range []struct {
		name, mask string
		keys       []string
	}{
		{"by the policy", "package system.log\n\nmask contains \"/input/subject\"\n\nmask contains \"/input/secret\"\n\nmask contains \"/result\"", nil},
		{"by a policy that fails", "package system.log\n\nmask := 7", nil},
		{"by key", "package other", []string{"token", "secret", "id"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoint(t, pdp.Options{MaskKeys: mask.NewKeys(tt.keys)}, policy, tt.mask)
			d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/answer", Input: parse(t, asked)})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(d.JSON), canary) {
				t.Errorf("the answer is masked: %s", d.JSON)
			}
			_, raw, err := p.log.Find(t.Context(), d.ID)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(raw), canary) {
				t.Errorf("the record holds what is masked: %s", raw)
			}
		})
	}
}

// A built-in's error may quote its operand.
func TestMaskedIsNotInErrors(t *testing.T) {
	const canary = "hunter2-canary"
	p := newPoint(t, pdp.Options{MaskKeys: mask.NewKeys([]string{"password"})}, "package app\n\nn := to_number(input.password)")
	d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/n", Input: parse(t, `{"password": "`+canary+`"}`), Strict: true})
	if err == nil || d == nil {
		t.Fatalf("got %v, %v", d, err)
	}
	_, raw, err := p.log.Find(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(raw); strings.Contains(text, canary) || !strings.Contains(text, "eval_builtin_error") {
		t.Errorf("got record %s", text)
	}
}

func TestDecideBatch(t *testing.T) {
	p := newPoint(t, pdp.Options{}, app)
	queries := []pdp.Query{
		{Path: "app/allow", Input: parse(t, `{"user": "alice"}`), BatchID: "b1"},
		{Path: "app/allow", Input: parse(t, `{"user": "bob"}`), BatchID: "b1"},
		{Path: "app/broken", Input: parse(t, `{"x": 1, "y": 1}`), BatchID: "b1"},
	}
	outcomes, err := p.DecideBatch(t.Context(), queries)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"true", "false", ""} {
		o := outcomes[i]
		if string(o.Decision.JSON) != want || (o.Err != nil) != (want == "") {
			t.Errorf("%d: got %s, %v", i, o.Decision.JSON, o.Err)
		}
		if rec := p.record(t, o.Decision.ID); rec["batch_decision_id"] != "b1" {
			t.Errorf("%d: got record %v", i, rec)
		}
	}
}

// brokenLog is a log that cannot be written, which a real one becomes for good.
type brokenLog struct{ err error }

func (b brokenLog) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, b.err
}

func (b brokenLog) Submit(context.Context, *audit.Record) (*audit.Ticket, error) { return nil, b.err }

func TestUnrecordedIsNotAnswered(t *testing.T) {
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cause := &audit.UnavailableError{Reason: audit.ReasonPoisoned}
	p := pdp.New(engine, brokenLog{cause}, pdp.Options{})
	d, err := p.Decide(t.Context(), &pdp.Query{Path: "x"})
	if d != nil || !errors.Is(err, pdp.ErrUnrecorded) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("got %v, %v", d, err)
	}
	outcomes, err := p.DecideBatch(t.Context(), []pdp.Query{{Path: "x"}, {Path: "y"}})
	if outcomes != nil || !errors.Is(err, pdp.ErrUnrecorded) {
		t.Errorf("batch: got %v, %v", outcomes, err)
	}
}

func TestID(t *testing.T) {
	now := time.UnixMilli(0x0123456789ab)
	p := newPoint(t, pdp.Options{Now: func() time.Time { return now }, Rand: bytes.NewReader(bytes.Repeat([]byte{0xff}, 10))}, app)
	id, err := p.NewID()
	if err != nil {
		t.Fatal(err)
	}
	if want := "01234567-89ab-7fff-bfff-ffffffffffff"; id != want {
		t.Errorf("got %s, want %s", id, want)
	}
	if _, err := p.NewID(); err == nil {
		t.Error("no error without randomness")
	}
}

// TestManyAtOnce decides from many goroutines while policy changes: every
// answer is recorded as it was given.
func TestManyAtOnce(t *testing.T) {
	p := newPoint(t, pdp.Options{}, "package app\n\nx := [input.n, data.v]")
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := range 40 {
				d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/x", Input: parse(t, fmt.Sprintf(`{"n": %d}`, w*1000+i))})
				if err != nil {
					t.Error(err)
					return
				}
				answer := string(d.JSON)
				id := d.ID
				d.Release()
				_, raw, err := p.log.Find(t.Context(), id)
				if err != nil {
					t.Error(err)
					return
				}
				want := answer
				if want == "" {
					want = `null`
				}
				if !strings.Contains(string(raw), `"result":`+want) {
					t.Errorf("answered %s, recorded %s", answer, raw)
				}
			}
		})
	}
	for i := range 20 {
		_, err := p.engine.Write(func(d *eval.Draft) error {
			return d.Patch(storage.AddOp, storage.Path{"v"}, ast.IntNumberTerm(i).Value)
		})
		if err != nil {
			t.Error(err)
		}
	}
	workers.Wait()
}
