package eval

import (
	"context"
	"time"
)

// cancelStride is how many of the evaluator's questions pass between two looks
// at the clock. One question takes well under a microsecond.
const cancelStride = 64

// deadline cancels an evaluation without a timer or a goroutine: the evaluator
// asks Cancelled at every step and in its long-running built-ins, and every
// cancelStride-th question looks at the clock and at the caller's context. It
// is used by one evaluation at a time.
type deadline struct {
	ctx   context.Context
	until time.Time
	asked uint32
	hit   bool
	// always looks each time, for queries whose steps a caller makes up: a few of
	// them may take long.
	always bool
}

func (d *deadline) Cancel() { d.hit = true }

func (d *deadline) Cancelled() bool {
	d.asked++
	if (d.always || d.asked%cancelStride == 0) && !d.hit {
		d.hit = d.ctx.Err() != nil || time.Now().After(d.until)
	}
	return d.hit
}
