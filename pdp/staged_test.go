package pdp_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// watcher keeps what it is told.
type watcher struct{ served []eval.Served }

func (w *watcher) Served(d *eval.Served) { w.served = append(w.served, *d) }
func (*watcher) Ending() error           { return nil }

// TestStagedIsNotToldTraces wants what waits to be compared to be small, also
// when somebody asks for an explanation.
func TestStagedIsNotToldTraces(t *testing.T) {
	p := newPoint(t, pdp.Options{}, "package p\n\nr := concat(\"\", [\"0123456789\" | numbers.range(1, 100)[_]])")
	m, err := eval.ParseModule("other.rego", []byte("package other\n\nr := 1"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := p.engine.Stage(func(d *eval.Draft) error { return d.PutModule(m) })
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	if err := p.engine.Attach(&eval.Staged{Snapshot: next, Watcher: w}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	d, err := p.Decide(t.Context(), &pdp.Query{Path: "p/r", Observe: pdp.Observe{Trace: true, RuleLabels: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Release()
	if len(d.Result.Trace) == 0 {
		t.Error("who asked has no trace")
	}
	if len(w.served) != 1 || w.served[0].Result.Value == nil {
		t.Fatalf("told %+v", w.served)
	}
	if told := w.served[0]; told.Result.Trace != nil || told.Result.RuleLabels != nil || told.Size < 1000 {
		t.Errorf("told %d events, %d labels, size %d", len(told.Result.Trace), len(told.Result.RuleLabels), told.Size)
	}
}

// TestCanaryThatNeedsAStaleBundle wants the active revision to answer where only
// the canary depends on a bundle that is too old, and the canary to be blamed.
func TestCanaryThatNeedsAStaleBundle(t *testing.T) {
	now := time.Now()
	p := newPoint(t, pdp.Options{Now: func() time.Time { return now }})
	rules := func(revision, text string) *eval.Bundle {
		m, err := eval.ParseModule("app.rego", []byte("package app\n\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		return &eval.Bundle{Name: "app", Revision: revision, Roots: []string{"app"}, Modules: []*eval.Module{m}}
	}
	roles := &eval.Bundle{Name: "roles", Revision: "1", Roots: []string{"roles"}, Data: objectOf(t, `{"roles": {"known": true}}`)}
	set := func(b *eval.Bundle) func(*eval.Draft) error {
		return func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b, roles}) }
	}
	if _, err := p.engine.Write(set(rules("r1", "allow := true\nroles := data.roles.known"))); err != nil {
		t.Fatal(err)
	}
	next, err := p.engine.Stage(set(rules("r2", "allow := data.roles.known\nroles := data.roles.known")))
	if err != nil {
		t.Fatal(err)
	}
	share, err := eval.NewShare("app", "/id", 100)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	staged := &eval.Staged{Snapshot: next, Share: share, Mark: []byte(`"canary":{}`), Watcher: w}
	if err := p.engine.Attach(staged, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	p.engine.SetExpiry([]eval.Expiring{{Name: "roles", Revision: "1", Confirmed: now.Add(-2 * time.Hour), MaxAge: time.Hour}})

	d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/allow", Input: objectOf(t, `{"id": "ada"}`)})
	if err != nil || !d.Allowed {
		t.Fatalf("the active revision does not answer: %v", err)
	}
	rec := p.record(t, d.ID)
	if details, _ := rec["details"].(map[string]any); details["canary_failed"] != "policy_stale" || details["canary"] != nil || rec["bundles"].(map[string]any)["app"] != "r1" {
		t.Errorf("record %v", rec)
	}
	if len(w.served) != 1 || w.served[0].Failed == nil || w.served[0].Err != nil {
		t.Errorf("told %+v", w.served)
	}

	d, err = p.Decide(t.Context(), &pdp.Query{Path: "app/roles", Input: objectOf(t, `{"id": "ada"}`)})
	if _, stale := errors.AsType[*eval.StaleError](err); !stale {
		t.Fatalf("both are stale: %v", err)
	}
	details, _ := p.record(t, d.ID)["details"].(map[string]any)
	if details["canary"] != nil || details["canary_failed"] != nil || len(w.served) != 1 {
		t.Errorf("the canary has to do with it: %v, told %d times", details, len(w.served))
	}
}

// canary makes a point whose candidate answers everybody; the texts are of the
// package system.log, or empty.
func canary(t *testing.T, activeMask, candidateMask string) (*point, *watcher) {
	t.Helper()
	p := newPoint(t, pdp.Options{})
	rules := func(revision, mask string) func(*eval.Draft) error {
		b := &eval.Bundle{Name: "app", Revision: revision, Roots: []string{"app", "system/log"}}
		for name, text := range map[string]string{"app.rego": "package app\n\nsay := " + `"` + revision + `"`, "mask.rego": mask} {
			if text == "" {
				continue
			}
			m, err := eval.ParseModule(name, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			b.Modules = append(b.Modules, m)
		}
		return func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b}) }
	}
	if _, err := p.engine.Write(rules("r1", activeMask)); err != nil {
		t.Fatal(err)
	}
	next, err := p.engine.Stage(rules("r2", candidateMask))
	if err != nil {
		t.Fatal(err)
	}
	share, err := eval.NewShare("app", "/id", 100)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	if err := p.engine.Attach(&eval.Staged{Snapshot: next, Share: share, Mark: []byte(`"canary":{}`), Watcher: w}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return p, w
}

// TestCanaryCannotUnmask wants the record of a canary's answer without what the
// active policy hides, whatever the candidate's own mask says.
func TestCanaryCannotUnmask(t *testing.T) {
	const hides = "package system.log\n\nmask contains \"/input/secret\""
	for name, c := range map[string]struct{ active, candidate, other string }{
		"no mask any more":          {hides, "", "kept"},
		"hides something else":      {hides, "package system.log\n\nmask contains \"/input/other\"", ""},
		"puts it back":              {hides, "package system.log\n\nmask contains {\"op\": \"upsert\", \"path\": \"/input/secret\", \"value\": object.get(input.input, \"secret\", \"gone\")}", "kept"},
		"copies it":                 {hides, "package system.log\n\nmask contains {\"op\": \"upsert\", \"path\": \"/input/other\", \"value\": object.get(input.input, \"secret\", \"gone\")}", "gone"},
		"only the candidate does":   {"", hides, "kept"},
		"the active one cannot say": {"package system.log\n\nmask := 1", hides, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := canary(t, c.active, c.candidate)
			d, err := p.Decide(t.Context(), &pdp.Query{Path: "app/say", Input: objectOf(t, `{"id": "ada", "secret": "hush", "other": "kept"}`)})
			if err != nil || string(d.JSON) != `"r2"` {
				t.Fatalf("%s %v", d.JSON, err)
			}
			rec := p.record(t, d.ID)
			if text := fmt.Sprint(rec); strings.Contains(text, "hush") {
				t.Errorf("unmasked: %s", text)
			}
			input, _ := rec["input"].(map[string]any)
			if got, _ := input["other"].(string); got != c.other {
				t.Errorf("other is %q, want %q: %v", got, c.other, rec)
			}
			if erased, masked := rec["erased"], rec["masked"]; erased == nil && masked == nil {
				t.Error("the record does not say that something is hidden")
			}
		})
	}
}

// TestUnrecordedCountsNot wants a decision that could not be recorded not to
// count in a trial.
func TestUnrecordedCountsNot(t *testing.T) {
	p, w := canary(t, "", "")
	lost := pdp.New(p.engine, noLog{}, pdp.Options{})
	q := pdp.Query{Path: "app/say", Input: objectOf(t, `{"id": "ada"}`)}
	if _, err := lost.Decide(t.Context(), &q); !errors.Is(err, pdp.ErrUnrecorded) {
		t.Fatalf("decided without a log: %v", err)
	}
	if _, err := lost.DecideBatch(t.Context(), []pdp.Query{q, q}); !errors.Is(err, pdp.ErrUnrecorded) {
		t.Fatalf("decided without a log: %v", err)
	}
	if len(w.served) != 0 {
		t.Errorf("%d decisions count that were never answered", len(w.served))
	}
	if _, err := p.DecideBatch(t.Context(), []pdp.Query{q, q}); err != nil || len(w.served) != 2 {
		t.Errorf("%d of 2 decisions count: %v", len(w.served), err)
	}
}

// noLog takes no record.
type noLog struct{}

func (noLog) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, audit.ErrUnavailable
}

func (noLog) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return nil, audit.ErrUnavailable
}
