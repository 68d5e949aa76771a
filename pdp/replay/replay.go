// Package replay tells what a policy would have decided: it runs recorded
// decisions on a snapshot that is not active and compares the results with those
// in the record.
//
// A record holds all that its evaluation depended on: the input with joined
// facts, the time, the results of non-deterministic built-ins, and whether
// built-in errors were strict. What it does not hold, because it was masked or
// erased, makes it not replayable when the candidate may read it.
package replay

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Bounds of one replay.
const (
	DefaultLimit = 100_000    // decisions, when a Request names no limit
	MaxLimit     = 10_000_000 // decisions
	DefaultList  = 100        // flips that are listed
	MaxList      = 10_000     // flips that are listed

	blockRecords  = 256 // that are read at once
	progressEvery = 200 * time.Millisecond
)

// ErrRequest is wrapped by the error of a request that cannot be meant.
var ErrRequest = errors.New("invalid replay")

// Log is where recorded decisions are read. Its methods are called from several
// goroutines; audit.Log is one.
type Log interface {
	// Window returns a range of sequence numbers outside of which no record has a
	// time in [from, to]. The zero time stands for no bound.
	Window(ctx context.Context, from, to time.Time) (first, next uint64, err error)
	// Scan calls fn for each record from the number on, in order, until the end
	// of the log or an error of fn, which it returns. rec is valid during the
	// call only.
	Scan(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error
	// Blob returns what a record holds by its hash only, or audit.ErrNotFound.
	Blob(sum chain.Hash) ([]byte, error)
}

// Options configure a Replayer. The zero value is usable.
type Options struct {
	// Workers is how many goroutines evaluate; zero means one for each processor.
	// While decisions are being made, half of them rest.
	Workers int
	// MaskKeys are the names of members whose values stand in no record, and so
	// in no report.
	MaskKeys mask.Keys
	// Background calls a function that keeps a processor busy for a while and
	// returns when it has; nil: it is called as any other. Each worker is one.
	Background func(func() error) error
	Now        func() time.Time // for progress; nil means time.Now
}

// Replayer replays recorded decisions. Its methods may be called from any
// goroutine.
type Replayer struct {
	log     Log
	engine  *eval.Engine
	options Options
	metrics *metrics
}

// New returns a replayer of the decisions in log. It makes way for the decisions
// of engine.
func New(log Log, engine *eval.Engine, o Options) *Replayer {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Background == nil {
		o.Background = func(work func() error) error { return work() }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Replayer{log: log, engine: engine, options: o, metrics: newMetrics()}
}

// Collectors returns the metrics of replays.
func (r *Replayer) Collectors() []prometheus.Collector { return r.metrics.collectors() }

// Request says which decisions are replayed: the newest ones of a window.
type Request struct {
	From, To time.Time // both included; zero: no bound
	Limit    int       // decisions that are looked at; zero means DefaultLimit
	// Paths are the decision paths that count; none: all. One that ends in a
	// slash stands for all below it.
	Paths []string
	List  int // flips that are listed; zero means DefaultList, a negative number none

	// OnFlip is called for each flip, the newest first; nil: for none.
	OnFlip func(*Flip)
	// Progress is called now and then; nil: never.
	Progress func(Progress)
}

// Progress is how far a replay has come.
type Progress struct {
	Read      uint64 `json:"read"`  // records, of every kind
	Total     uint64 `json:"total"` // records in the window; a limit may end it sooner
	Decisions uint64 `json:"decisions"`
	Flips     uint64 `json:"flips"`
}

// Validate returns an error that wraps ErrRequest for a request out of bounds.
func (q *Request) Validate() error {
	switch {
	case q.Limit < 0 || q.Limit > MaxLimit:
		return fmt.Errorf("%w: limit is a number from 1 to %d", ErrRequest, MaxLimit)
	case q.List > MaxList:
		return fmt.Errorf("%w: at most %d flips are listed", ErrRequest, MaxList)
	case !q.From.IsZero() && !q.To.IsZero() && q.To.Before(q.From):
		return fmt.Errorf("%w: to is before from", ErrRequest)
	}
	for _, path := range q.Paths {
		if _, err := eval.ParsePath(path); err != nil {
			return fmt.Errorf("%w: paths: %w", ErrRequest, err)
		}
	}
	return nil
}

// Run replays decisions on the candidate. It returns when all are done, with the
// error of ctx when that ends before; nothing is changed by it.
func (r *Replayer) Run(ctx context.Context, candidate *eval.Snapshot, q Request) (*Report, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.List == 0 {
		q.List = DefaultList
	}
	start := r.options.Now()
	report, err := r.run(ctx, candidate, q)
	r.metrics.observe(report, err, r.options.Now().Sub(start))
	if err != nil {
		return nil, fmt.Errorf("replay decisions: %w", err)
	}
	return report, nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// block is a run of records on its way through the workers.
type block struct {
	number    int
	read      uint64 // records looked at
	decisions []decisionRecord
	outcomes  []outcome
}

// decisionRecord is a record of a decision, not looked into yet.
type decisionRecord struct {
	seq  uint64
	time time.Time
	body []byte // behind seq and time
	size int    // of the whole record
}

// read sends the decisions of the window to take, the newest first, until there
// are limit of them.
func (r *Replayer) read(ctx context.Context, q *Request, first, next uint64, take func(*block) error) error {
	left := q.Limit
	for number := 0; next > first && left > 0; number++ {
		begin := first
		if next-first > blockRecords {
			begin = next - blockRecords
		}
		b := &block{number: number, read: next - begin}
		if err := r.readBlock(ctx, q, begin, next, b); err != nil {
			return err
		}
		if excess := len(b.decisions) - left; excess > 0 {
			b.decisions = b.decisions[excess:]
		}
		left -= len(b.decisions)
		if err := take(b); err != nil {
			return err
		}
		next = begin
	}
	return nil
}

func (r *Replayer) readBlock(ctx context.Context, q *Request, begin, end uint64, b *block) error {
	err := r.log.Scan(ctx, begin, func(seq uint64, rec []byte) error {
		if d, ok := q.choose(rec); ok {
			b.decisions = append(b.decisions, d)
		}
		if seq+1 >= end {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("read records %d to %d: %w", begin, end-1, err)
	}
	return nil
}

// choose tells whether a record is of a decision in the window, and keeps it.
func (q *Request) choose(rec []byte) (decisionRecord, bool) {
	if !isDecision(rec) {
		return decisionRecord{}, false
	}
	seq, at, body, err := audit.ParseHead(rec)
	if err != nil || !q.From.IsZero() && at.Before(q.From) || !q.To.IsZero() && at.After(q.To) {
		return decisionRecord{}, false
	}
	return decisionRecord{seq: seq, time: at, body: append([]byte(nil), body...), size: len(rec)}, true
}
