package pdp_test

import (
	"testing"

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
