// Package trial tries a staged snapshot on live decisions: it evaluates them
// again beside the answer, counts what is different, and says when a canary must
// be taken back.
package trial

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Bounds of what waits to be compared, and of what is kept.
const (
	DefaultQueue      = 256
	DefaultQueueBytes = 16 << 20
	keptDifferences   = 100
	maxTextKept       = 256 // bytes of a path in a kept difference
)

// Options configure a Trial. Active and Candidate are required.
type Options struct {
	Active, Candidate *eval.Snapshot
	// Canary tells that the candidate answers some of the decisions: all of these
	// are compared. Otherwise Percent of all decisions are, above 0 and at most
	// 100.
	Canary  bool
	Percent float64
	Limits  Limits // of a canary

	Queue      int   // decisions that may wait; 0: DefaultQueue
	QueueBytes int64 // of their inputs and results, encoded; 0: DefaultQueueBytes
	// Busy tells that there is no processor to spare: a decision whose turn it
	// is to be compared then is not. Nil: there always is.
	Busy    func() bool
	Now     func() time.Time // times evaluations; nil: time.Now
	Metrics *Metrics         // nil: none
}

// Trial compares two snapshots on live decisions. Its methods may be called from
// any goroutine; Run from one.
type Trial struct {
	o        Options
	sampling uint64 // of 10,000 decisions
	asked    atomic.Uint64
	queue    chan job
	waiting  atomic.Int64 // bytes in queue
	breached chan *Breach // holds one
	names    names

	mu     sync.Mutex
	counts counts       // owned by mu
	window rolling      // owned by mu
	kept   []Difference // owned by mu; a ring, next is the oldest
	next   int          // owned by mu
}

// job is a decision that waits to be compared.
type job struct{ eval.Served }

// New returns a trial in which nothing is compared before Run.
func New(o Options) *Trial {
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.Busy == nil {
		o.Busy = func() bool { return false }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics()
	}
	return &Trial{
		o: o, sampling: max(1, uint64(o.Percent*100)), queue: make(chan job, o.Queue), breached: make(chan *Breach, 1),
		names: newNames(), window: rolling{limits: o.Limits.withDefaults()},
	}
}

// Served takes a decision that was made. It does not wait: what there is no
// room for is counted and not compared.
func (t *Trial) Served(d *eval.Served) {
	t.count(d)
	if !t.compared(d) {
		return
	}
	if t.waiting.Add(int64(d.Size)) <= t.o.QueueBytes {
		select {
		case t.queue <- job{*d}:
			return
		default:
		}
	}
	t.waiting.Add(-int64(d.Size))
	t.drop("queue")
}

// compared tells whether a decision is one of those that are compared.
func (t *Trial) compared(d *eval.Served) bool {
	if t.o.Canary {
		return d.Staged
	}
	n := t.asked.Add(1) % 10_000 // 7,919 is prime: those that are taken lie apart
	return n*7919%10_000 < t.sampling
}

// count notes who answered and how long it took.
func (t *Trial) count(d *eval.Served) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Decisions++
	switch {
	case d.Staged:
		t.counts.Answered++
		t.o.Metrics.answered.Inc()
		t.counts.candidate.add(d.Took)
	case d.Failed != nil && d.Err == nil:
		t.counts.Errors++
		t.o.Metrics.errors.Inc()
		t.keep(&Difference{DecisionID: d.ID, At: d.Now, Path: d.Path, Kind: KindError, Active: t.side(d.Result.Value, nil), Candidate: t.side(nil, d.Failed)})
	case d.Failed == nil:
		t.counts.active.add(d.Took)
	}
	if t.o.Canary {
		t.breach(t.window.served(d))
	}
}

// Run compares until ctx ends, and then returns nil, or until a limit of a
// canary is exceeded.
func (t *Trial) Run(ctx context.Context) *Breach {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-t.breached:
			return b
		case j := <-t.queue:
			t.waiting.Add(-int64(j.Size))
			if t.o.Busy() {
				t.drop("busy")
				continue
			}
			t.compare(ctx, &j.Served)
		}
	}
}

// compare evaluates a decision on the other snapshot.
func (t *Trial) compare(ctx context.Context, d *eval.Served) {
	other := t.o.Candidate
	if d.Staged {
		other = t.o.Active
	}
	started := t.o.Now()
	res, err := other.Eval(ctx, &eval.Query{
		Path: d.Path, Input: d.Input, Now: d.Now, Strict: d.Strict, ND: d.Result.ND, Background: true,
	})
	took := t.o.Now().Sub(started)
	if ctx.Err() != nil {
		return
	}
	if !d.Staged && !t.o.Canary && err == nil {
		t.mu.Lock()
		t.counts.candidate.add(took)
		t.mu.Unlock()
	}
	active, candidate := t.side(d.Result.Value, d.Err), t.side(res.Value, err)
	a, c := d.Result.Value, res.Value
	if d.Staged {
		active, candidate, a, c = candidate, active, c, a
	}
	t.note(&Difference{DecisionID: d.ID, At: d.Now, Path: d.Path, Kind: kindOf(active, candidate, eval.Same(a, c)), Active: active, Candidate: candidate})
}

// note counts a comparison and keeps it when there is a difference.
func (t *Trial) note(d *Difference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Compared++
	t.o.Metrics.compared.Inc()
	if d.Kind == KindSame {
		t.counts.Same++
	} else {
		t.counts.count(d.Kind)
		t.o.Metrics.differences.WithLabelValues(string(d.Kind)).Inc()
		if d.Kind == KindError {
			t.counts.Errors++
			t.o.Metrics.errors.Inc()
		}
		t.keep(d)
	}
	if t.o.Canary {
		t.breach(t.window.compared(d.Kind.flips()))
	}
}

// keep keeps a difference in place of the oldest. The holder of mu calls it.
func (t *Trial) keep(d *Difference) {
	if len(d.Path) > maxTextKept {
		d.Path = d.Path[:maxTextKept]
	}
	if len(t.kept) < keptDifferences {
		t.kept = append(t.kept, *d)
		return
	}
	t.kept[t.next] = *d
	t.next = (t.next + 1) % keptDifferences
}

func (t *Trial) drop(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.Dropped++
	t.o.Metrics.dropped.WithLabelValues(reason).Inc()
}

// breach tells Run that a limit is exceeded, once.
func (t *Trial) breach(b *Breach) {
	if b == nil {
		return
	}
	select {
	case t.breached <- b:
	default:
	}
}

// errorCode names a failed evaluation.
func errorCode(err error) string {
	if code := eval.ErrorCode(err); code != "" {
		return code
	}
	if errors.Is(err, eval.ErrPanic) {
		return "panic"
	}
	if _, ok := errors.AsType[*eval.StaleError](err); ok {
		return eval.CodeStale
	}
	return "evaluation_error"
}
