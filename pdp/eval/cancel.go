package eval

import (
	"context"
	"time"
)

const (
	// cancelStride is how many of the evaluator's questions pass between two
	// looks at the clock.
	cancelStride = 64
	// questionTime is more than what passes between two questions of an
	// evaluation that has a processor: 0.5 to 0.9 us were measured. One that asks
	// less often is waiting, not working.
	questionTime = 4 * time.Microsecond
	// patience is how many times its deadline an evaluation may take when it has
	// worked for little of it.
	patience = 10
)

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
	// engine tells how many evaluations share the processors; nil: that is not
	// looked at.
	engine *Engine
}

func (d *deadline) Cancel() { d.hit = true }

func (d *deadline) Cancelled() bool {
	d.asked++
	if (d.always || d.asked%cancelStride == 0) && !d.hit {
		d.hit = d.ctx.Err() != nil || d.over(time.Now())
	}
	return d.hit
}

// over tells whether the time is up. The bound is on the policy, and a server
// under load must not deny what it would allow otherwise. So of evaluations that
// share a processor each has as much more time as there are of them on it, and
// one that has asked too few questions to have been at work goes on: the
// processor was taken from it.
func (d *deadline) over(now time.Time) bool {
	late := now.Sub(d.until)
	if late <= 0 || d.engine == nil {
		return late > 0
	}
	timeout := d.engine.Timeout()
	if time.Duration(d.asked)*questionTime < timeout {
		return late > timeout*(patience-1)
	}
	return late > timeout*time.Duration(d.engine.share()-1)
}
