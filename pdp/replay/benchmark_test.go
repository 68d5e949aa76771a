package replay_test

import (
	"context"
	"errors"
	"testing"

	"github.com/verdict-pdp/verdict/pdp/replay"
)

// TestCompare measures a candidate that does far more, and one that does the
// same.
func TestCompare(t *testing.T) {
	const quick = "package p\nr if input.x > 0"
	p := newPoint(t, quick, "package q\nr := 1 / input.x")
	for range 20 {
		p.ask(t, "p/r", `{"x": 1}`)
	}
	p.ask(t, "q/none", `{}`)                  // not defined
	p.ask(t, "p/r", `{"x": 1, "token": "x"}`) // masked, and not read
	active := p.engine.Active()
	slow, err := p.replayer.Compare(t.Context(), active, p.candidate(t, "package p\nr if {\n\tinput.x > 0\n\tcount([1 | numbers.range(1, 500)[_] > 0]) > 0\n}"), replay.Comparison{Factor: 3})
	if err != nil || !slow.Slower || slow.Attempts != 3 || slow.Decisions != 21 || slow.Rounds < 2 || slow.Ratio < 3 || slow.Candidate < slow.Active {
		t.Errorf("%+v, %v", slow, err)
	}
	same, err := p.replayer.Compare(t.Context(), active, p.candidate(t, quick), replay.Comparison{Factor: 3, Sample: 10})
	if err != nil || same.Slower || same.Decisions != 10-1 {
		t.Errorf("%+v, %v", same, err)
	}
	none, err := p.replayer.Compare(t.Context(), newEngine(t).Active(), active, replay.Comparison{Factor: 1})
	if err != nil || none.Slower || none.Decisions != 0 || none.Attempts != 0 {
		t.Errorf("nothing to compare: %+v, %v", none, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.replayer.Compare(ctx, active, active, replay.Comparison{Factor: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
