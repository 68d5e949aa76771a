package pdp_test

import (
	"errors"
	"testing"
	"time"

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
