package bundles

import (
	"context"
	"fmt"

	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// minSample is how many decisions say something about the time of others.
const minSample = 10

// BenchmarkGateOptions are the bounds of a comparison.
type BenchmarkGateOptions struct {
	// Slower is by how many percent a candidate may be slower than what is
	// active; 0: off.
	Slower float64
	Sample int // decisions; default 500
}

// BenchmarkGate refuses a candidate on which recorded decisions take longer than
// on what active gives.
func BenchmarkGate(g LogGate, active func() *eval.Snapshot, o BenchmarkGateOptions) Gate {
	g = g.withDefaults()
	if o.Sample == 0 {
		o.Sample = replay.DefaultSample
	}
	return Gate{Name: GateBenchmark, Activation: true, Check: func(ctx context.Context, c *Candidate) (Finding, error) {
		switch {
		case o.Slower == 0:
			return Finding{Off: true}, nil
		case c.Active == nil:
			return Finding{Off: true, Message: "no revision is active to compare with"}, nil
		}
		ctx, cancel := context.WithTimeout(ctx, g.Timeout)
		defer cancel()
		from := g.from()
		if err := g.recordAccess(ctx, c, GateBenchmark, from, o.Sample); err != nil {
			return Finding{}, err
		}
		factor := 1 + o.Slower/100
		t, err := g.Replayer.Compare(ctx, active(), c.Snapshot, replay.Comparison{From: from, Sample: o.Sample, Factor: factor})
		if err != nil {
			return Finding{}, asTimeout(ctx, GateBenchmark, g.Timeout, err)
		}
		f := Finding{Details: t}
		switch {
		case t.Decisions < minSample:
			f.Message = fmt.Sprintf("not judged: the log has %d decisions that can be compared, and %d are needed", t.Decisions, minSample)
		case t.Slower:
			return f, refuse(CodeGate, GateBenchmark, "%d recorded decisions take %.1f us each instead of %.1f us, %.2f times as long, and %.2f times is allowed (median of %d rounds, %d attempts)",
				t.Decisions, t.Candidate, t.Active, t.Ratio, factor, t.Rounds, t.Attempts)
		default:
			f.Message = fmt.Sprintf("%d recorded decisions take %.1f us each, %.1f us before", t.Decisions, t.Candidate, t.Active)
		}
		return f, nil
	}}
}
