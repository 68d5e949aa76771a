// Package pointtest makes a decision point over a real log in a temporary
// folder, for the tests of protocols.
package pointtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// Point is a decision point with its log.
type Point struct {
	*pdp.PDP
	Log *audit.Log
}

// New makes a point that decides by the modules.
func New(t testing.TB, modules ...string) *Point {
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
	log := Log(t, audit.Options{})
	return &Point{PDP: pdp.New(engine, log, pdp.Options{}), Log: log}
}

// Log runs a real log in a temporary folder until the test ends.
func Log(t testing.TB, o audit.Options) *audit.Log {
	t.Helper()
	store, err := segment.Open(t.TempDir(), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(store, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }() // ended by the clean-up
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, log.Close()); err != nil {
			t.Error(err)
		}
	})
	return log
}

// Record reads a decision's record back.
func (p *Point) Record(t testing.TB, id string) map[string]any {
	t.Helper()
	_, raw, err := p.Log.Find(t.Context(), id)
	if err != nil {
		t.Fatalf("decision %q: %v", id, err)
	}
	var rec map[string]any
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return rec
}

// Gate makes a gate that knows no tokens.
func Gate(t testing.TB, o api.GateOptions) *api.Gate {
	t.Helper()
	g, err := api.NewGate(noTokens{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

type noTokens struct{}

func (noTokens) Lookup(string) (*tokens.Token, error) { return nil, tokens.ErrUnknown }

// Lost is a recorder that cannot record.
type Lost struct{}

// Append implements pdp.Recorder.
func (Lost) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, &audit.UnavailableError{Reason: "poisoned"}
}

// Submit implements pdp.Recorder.
func (Lost) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return nil, &audit.UnavailableError{Reason: "poisoned"}
}

// Nowhere is a recorder that takes records and keeps none, so that a benchmark
// sees the decision alone.
type Nowhere struct{}

// Append implements pdp.Recorder.
func (Nowhere) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

// Submit implements pdp.Recorder.
func (Nowhere) Submit(context.Context, *audit.Record) (*audit.Ticket, error) {
	return &audit.Ticket{}, nil
}
