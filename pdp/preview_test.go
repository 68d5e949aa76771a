package pdp_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const zones = `package zones

default allow := false
allow if input.context.zone == "admin"
allow if "chief" in input.subject.properties.roles
open if input.resource.properties.public
secret := {"password": "p", "seen": input}
loud := 1 if input.x
loud := 2 if input.x
`

func objectOf(t testing.TB, text string) ast.Object {
	t.Helper()
	obj, _ := parse(t, text).(ast.Object)
	return obj
}

func TestPreview(t *testing.T) {
	for _, tt := range []struct {
		name, path, input, facts, module string
		want, active, failure            string
		same                             bool
		outcome                          string
	}{
		{name: "nothing changed", path: "zones/allow", input: `{"context": {"zone": "dmz"}}`, want: "false", active: "false", same: true, outcome: "failure"},
		{name: "context", path: "zones/allow", input: `{"context": {"zone": "dmz"}}`, facts: `{"zone": "admin"}`, want: "true", active: "false", outcome: "success"},
		{name: "subject", path: "zones/allow", input: `{"subject": {"id": "eve", "properties": {"roles": ["clerk"]}}}`, facts: `{"subject": {"roles": ["chief"]}}`, want: "true", active: "false", outcome: "success"},
		{name: "resource", path: "zones/open", input: `{"subject": {}}`, facts: `{"resource": {"public": true}}`, want: "true", outcome: "success"},
		{name: "fact removed", path: "zones/allow", input: `{"context": {"zone": "admin"}}`, facts: `{"zone": null}`, want: "false", active: "true", outcome: "failure"},
		{name: "module", path: "zones/allow", input: `{}`, module: "package zones\nallow := true\n", want: "true", active: "false", outcome: "success"},
		{name: "undefined", path: "zones/open", input: `{}`, same: true, outcome: "failure"},
		{name: "error", path: "zones/loud", input: `{"x": 1}`, failure: "eval_conflict_error", outcome: "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoint(t, pdp.Options{}, zones)
			o := &pdp.PreviewOverlay{}
			if tt.facts != "" {
				o.Facts = objectOf(t, tt.facts)
			}
			if tt.module != "" {
				o.Modules = map[string][]byte{"m0.rego": []byte(tt.module)}
			}
			before := p.engine.Active()
			got, err := p.Preview(t.Context(), &pdp.Query{Edge: "other", Path: tt.path, Input: parse(t, tt.input), Caller: "ops"}, o)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Release()
			if string(got.JSON) != tt.want || got.Same != tt.same || valueText(got.Active.Value) != tt.active {
				t.Errorf("got %s, same %v, active %v", got.JSON, got.Same, got.Active.Value)
			}
			if eval.ErrorCode(got.Err) != tt.failure || eval.ErrorCode(got.Active.Err) != tt.failure {
				t.Errorf("errors %v, %v", got.Err, got.Active.Err)
			}
			rec := p.record(t, got.ID)
			if rec["edge"] != "preview" || rec["event"] != "decision_previewed" || rec["severity"] != "info" || rec["outcome"] != tt.outcome || rec["requested_by"] != "ops" {
				t.Errorf("record %v", rec)
			}
			if revisions, ok := rec["bundles"].(map[string]any); !ok || revisions["(preview)"] == nil {
				t.Errorf("bundles %v", rec["bundles"])
			}
			if p.engine.Active() != before {
				t.Error("the active snapshot changed")
			}
		})
	}
}

func valueText(v ast.Value) string {
	if v == nil {
		return ""
	}
	return v.String()
}

// TestPreviewRecord looks at what the record tells of the overlay, and at what
// it does not.
func TestPreviewRecord(t *testing.T) {
	p := newPoint(t, pdp.Options{MaskKeys: mask.NewKeys([]string{"password"})}, zones, "package system.log\nmask contains \"/input/ssn\"")
	o := &pdp.PreviewOverlay{
		Overlay: eval.Overlay{
			Modules: map[string][]byte{"m1.rego": nil, "n.rego": []byte("package n\nx := 1")},
			Data:    objectOf(t, `{"token": "hush"}`),
		},
		Facts: objectOf(t, `{"zone": "z"}`),
	}
	got, err := p.Preview(t.Context(), &pdp.Query{Path: "zones/secret", Input: parse(t, `{"ssn": "078", "password": "q"}`)}, o)
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := p.log.Find(t.Context(), got.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, leaked := range []string{"078", "hush", `"p"`, `"q"`} {
		if strings.Contains(string(raw), leaked) {
			t.Errorf("%s is in the record, though the overlay cannot unmask it: %s", leaked, raw)
		}
	}
	if !strings.Contains(string(got.JSON), "078") {
		t.Errorf("the answer hides what the caller gave: %s", got.JSON)
	}
	for _, part := range []string{`"erased":["/input/ssn","/result"]`, `"text":"package n\nx := 1"`, `"removed":["m1.rego"]`, `"data_sha256":"`, `"facts_sha256":"`, `"zone":"z"`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("no %s in %s", part, raw)
		}
	}
	large := &pdp.PreviewOverlay{Overlay: eval.Overlay{Modules: map[string][]byte{"l.rego": []byte("package l\n#" + strings.Repeat("long", 8<<10))}}}
	if got, err = p.Preview(t.Context(), &pdp.Query{Path: "zones/allow"}, large); err != nil {
		t.Fatal(err)
	}
	if rec, err := json.Marshal(p.record(t, got.ID)); err != nil || strings.Contains(string(rec), "longlong") || !strings.Contains(string(rec), `"sha256":"`) {
		t.Errorf("record %s, %v", rec, err)
	}
}

func TestPreviewRefused(t *testing.T) {
	p := newPoint(t, pdp.Options{}, zones)
	next := p.log.Status().Next
	_, err := p.Preview(t.Context(), &pdp.Query{Path: "zones/allow"}, &pdp.PreviewOverlay{Facts: objectOf(t, `{"zone": 1}`)})
	if !errors.Is(err, pdp.ErrFacts) {
		t.Errorf("facts without an input: %v", err)
	}
	broken := &pdp.PreviewOverlay{Overlay: eval.Overlay{Modules: map[string][]byte{"a.rego": []byte("package")}}}
	var compile *eval.CompileError
	if _, err = p.Preview(t.Context(), &pdp.Query{Path: "zones/allow"}, broken); !errors.As(err, &compile) {
		t.Errorf("a module that does not compile: %v", err)
	}
	if p.log.Status().Next != next {
		t.Error("a preview that was refused was recorded as one")
	}
}

// TestPreviewCompilesInTheBackground wants decisions to go before the compiler.
func TestPreviewCompilesInTheBackground(t *testing.T) {
	called := 0
	p := newPoint(t, pdp.Options{Background: func(work func() error) error {
		called++
		return work()
	}}, zones)
	for _, o := range []eval.Overlay{{Data: objectOf(t, `{"a": 1}`)}, {Modules: map[string][]byte{"a.rego": []byte("package a")}}} {
		got, err := p.Preview(t.Context(), &pdp.Query{Path: "zones/allow"}, &pdp.PreviewOverlay{Overlay: o})
		if err != nil {
			t.Fatal(err)
		}
		got.Release()
	}
	if called != 1 {
		t.Errorf("called %d times, want once", called)
	}
}

func TestPreviewUnrecorded(t *testing.T) {
	p := newPoint(t, pdp.Options{}, zones)
	lost := pdp.New(p.engine, pointtest.Lost{}, pdp.Options{})
	got, err := lost.Preview(t.Context(), &pdp.Query{Path: "zones/allow"}, &pdp.PreviewOverlay{})
	if got != nil || !errors.Is(err, pdp.ErrUnrecorded) || !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestPreviewBusy holds the places of all previews; another waits a while, then
// is turned away.
func TestPreviewBusy(t *testing.T) {
	engine, err := eval.New(eval.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		held := &holding{release: make(chan struct{})}
		p := pdp.New(engine, held, pdp.Options{})
		var previews sync.WaitGroup
		for range pdp.MaxPreviews {
			previews.Go(func() {
				if _, err := p.Preview(t.Context(), &pdp.Query{Path: "a"}, &pdp.PreviewOverlay{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := p.Preview(t.Context(), &pdp.Query{Path: "a"}, &pdp.PreviewOverlay{}); !errors.Is(err, pdp.ErrPreviewBusy) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Preview(ctx, &pdp.Query{Path: "a"}, &pdp.PreviewOverlay{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(held.release)
		previews.Wait()
		if _, err := p.Preview(t.Context(), &pdp.Query{Path: "a"}, &pdp.PreviewOverlay{}); err != nil {
			t.Error(err)
		}
	})
}

// holding is a recorder that waits.
type holding struct {
	pointtest.Nowhere
	release chan struct{}
}

func (h *holding) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	<-h.release
	return audit.Receipt{}, nil
}
