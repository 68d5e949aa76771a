package trial

import (
	"fmt"
	"math"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// The limits of a canary that is told none.
const (
	DefaultErrors       = 1.0
	DefaultLatency      = 3.0
	DefaultFlips        = 5.0
	DefaultMinDecisions = 100
)

// latencyFloor is the time below which a canary is never too slow: the
// first evaluations of any snapshot take longer than those that remember.
const latencyFloor = 250 * time.Microsecond

// latencyEvery is after how many decisions of the candidate its times are looked
// at.
const latencyEvery = 16

// spans is how many times MinDecisions a canary is judged by: the last ones, so
// that a long good time does not hide a bad end.
const spans = 10

// Limits are what a canary may not exceed. Nil is the default.
type Limits struct {
	// Errors is how many percent of the decisions that the candidate was asked
	// for it may fail to make where the active snapshot does not.
	Errors *float64 `json:"errors,omitempty"`
	// Latency is how many times the active snapshot's time the candidate's may
	// be, the slowest tenth of both left out; 0: any.
	Latency *float64 `json:"latency,omitempty"`
	// Flips is how many percent of the compared decisions may be allowed in
	// place of denied, or the other way round.
	Flips *float64 `json:"flips,omitempty"`
	// MinDecisions is how many decisions there must be before any of these
	// counts.
	MinDecisions *int `json:"min_decisions,omitempty"`
}

// Validate names the first limit that is out of bounds, and what it may be.
func (l Limits) Validate() (field, want string) {
	percent := func(v *float64) bool { return v == nil || *v >= 0 && *v <= 100 }
	switch {
	case !percent(l.Errors):
		return "limits.errors", "a percentage from 0 to 100"
	case !percent(l.Flips):
		return "limits.flips", "a percentage from 0 to 100"
	case l.Latency != nil && !(*l.Latency == 0 || *l.Latency >= 1 && *l.Latency <= 1000):
		return "limits.latency", "a factor from 1 to 1000, or 0 for none"
	case l.MinDecisions != nil && !(*l.MinDecisions >= 1 && *l.MinDecisions <= 1_000_000):
		return "limits.min_decisions", "a number from 1 to 1000000"
	}
	return "", ""
}

// InForce are the limits with the defaults in place of what is not given.
func (l Limits) InForce() Limits { return l.withDefaults() }

func (l Limits) withDefaults() Limits {
	if l.Errors == nil {
		l.Errors = new(DefaultErrors)
	}
	if l.Latency == nil {
		l.Latency = new(DefaultLatency)
	}
	if l.Flips == nil {
		l.Flips = new(DefaultFlips)
	}
	if l.MinDecisions == nil {
		l.MinDecisions = new(DefaultMinDecisions)
	}
	return l
}

// Breach is a limit that a canary exceeded.
type Breach struct {
	Limit   string  `json:"limit"`   // errors, latency or flips
	Value   float64 `json:"value"`   // what it is
	Allowed float64 `json:"allowed"` // what it may be
	Of      uint64  `json:"of"`      // decisions that the value is about
}

// String says it in words.
func (b *Breach) String() string {
	if b.Limit == "latency" {
		return fmt.Sprintf("nine of ten decisions of the canary take %.1f times as long as the active revision's, over %d decisions; at most %g times is allowed", b.Value, b.Of, b.Allowed)
	}
	return fmt.Sprintf("%s: %.2f percent of %d decisions; at most %g percent is allowed", b.Limit, b.Value, b.Of, b.Allowed)
}

// span is a stretch of decisions.
type span struct {
	asked, failed     uint64 // of the candidate
	compared, flips   uint64
	candidate, active times
}

// rolling judges the last decisions: two spans, of which the older one is given
// up when the newer one is full. The holder of Trial.mu uses it.
type rolling struct {
	limits    Limits
	now, past span
}

// served notes who answered.
func (r *rolling) served(d *eval.Served) *Breach {
	switch {
	case d.Staged:
		r.now.asked++
		if d.Err == nil {
			r.now.candidate.add(d.Took)
		}
	case d.Failed != nil:
		r.now.asked++
		if d.Err == nil {
			r.now.failed++
		}
	case d.Err == nil:
		r.now.active.add(d.Took)
	}
	b := r.judge()
	if r.now.asked >= uint64(spans**r.limits.MinDecisions) {
		r.past, r.now = r.now, span{}
	}
	return b
}

// compared notes a comparison.
func (r *rolling) compared(flip bool) *Breach {
	r.now.compared++
	if flip {
		r.now.flips++
	}
	return r.judge()
}

func (r *rolling) judge() *Breach {
	least := uint64(*r.limits.MinDecisions)
	asked, failed := r.now.asked+r.past.asked, r.now.failed+r.past.failed
	if v := percent(failed, asked); asked >= least && v > *r.limits.Errors {
		return &Breach{Limit: "errors", Value: v, Allowed: *r.limits.Errors, Of: asked}
	}
	compared, flips := r.now.compared+r.past.compared, r.now.flips+r.past.flips
	if v := percent(flips, compared); compared >= least && v > *r.limits.Flips {
		return &Breach{Limit: "flips", Value: v, Allowed: *r.limits.Flips, Of: compared}
	}
	if *r.limits.Latency == 0 || r.now.asked%latencyEvery != 0 {
		return nil
	}
	candidate, n := ninetieth(&r.now.candidate, &r.past.candidate)
	active, m := ninetieth(&r.now.active, &r.past.active)
	if n < least || m < least || candidate < latencyFloor {
		return nil
	}
	if v := float64(candidate) / float64(active); v > *r.limits.Latency {
		return &Breach{Limit: "latency", Value: v, Allowed: *r.limits.Latency, Of: n}
	}
	return nil
}

func percent(part, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(part) / float64(of)
}

// mean is the mean of durations.
type mean struct {
	n   uint64
	sum time.Duration
}

func (m *mean) add(d time.Duration) { m.n, m.sum = m.n+1, m.sum+d }

// of is the mean, at least a nanosecond when there is any.
func (m mean) of() time.Duration {
	if m.n == 0 {
		return 0
	}
	return max(1, m.sum/time.Duration(m.n))
}

// Times are counted in steps of a quarter of a power of two nanoseconds, up to
// some minutes.
const (
	timeSteps = 4
	timeCount = 40 * timeSteps
)

// times are how often evaluations took how long.
type times struct {
	n     uint64
	steps [timeCount]uint32
}

func (t *times) add(d time.Duration) {
	t.n++
	t.steps[min(int(timeSteps*math.Log2(float64(max(1, d)))), timeCount-1)]++
}

// ninetieth is the time that nine of ten evaluations took at most, and how many
// there were. One stall of the machine does not count as it does in a mean.
func ninetieth(a, b *times) (d time.Duration, n uint64) {
	n = a.n + b.n
	seen, step := uint64(0), 0
	for ; step < timeCount; step++ {
		if seen += uint64(a.steps[step]) + uint64(b.steps[step]); seen*10 >= n*9 {
			break
		}
	}
	return time.Duration(math.Exp2(float64(step+1) / timeSteps)), n
}
