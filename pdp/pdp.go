// Package pdp is the policy decision point: it evaluates a query on the active
// snapshot, records the outcome and only then gives it away.
//
// Every protocol asks through Decide. A decision that could not be recorded is
// not given: Decide then returns an error that wraps ErrUnrecorded, whatever the
// policy said.
package pdp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// ErrUnrecorded is wrapped by the error of a decision that was made and could
// not be recorded. The answer must not be given.
var ErrUnrecorded = errors.New("decision could not be recorded")

// ErrBatchTooLarge is returned for a batch whose inputs and answers are more
// than MaxBatchBytes. What of it was decided by then is recorded, and not
// answered.
var ErrBatchTooLarge = errors.New("batch is too large")

// MaxBatchBytes bounds what the inputs and answers of one batch take together,
// encoded: all of them are in memory until the batch is answered.
const MaxBatchBytes = 64 << 20

// Recorder appends a record to the audit log. Append returns when the record is
// as durable as the log's mode promises; an error means that the record may be
// missing. Submit queues without waiting for the disk. Both may be called from
// many goroutines and do not keep the record.
type Recorder interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
	Submit(ctx context.Context, r *audit.Record) (*audit.Ticket, error)
}

// Options configure a PDP. The zero value is usable.
type Options struct {
	Now  func() time.Time // the clock of decisions; nil means time.Now
	Rand io.Reader        // randomness of decision ids; nil means crypto/rand
	// MaskKeys are the names of members whose values never reach the log, at any
	// depth of input or result.
	MaskKeys mask.Keys
	// Background calls a function that keeps a processor busy for a while, the
	// compiler of a preview, and returns when it has; nil: it is called as any
	// other.
	Background func(func() error) error
}

// PDP answers queries. Its methods may be called from many goroutines.
type PDP struct {
	engine   *eval.Engine
	recorder Recorder
	options  Options
	ids      *idSource
	metrics  *decisionMetrics
	names    *names
	scratch  sync.Pool     // *scratch
	previews chan struct{} // holds one value for each preview that runs
}

// New returns a decision point over engine that records into recorder.
func New(engine *eval.Engine, recorder Recorder, o Options) *PDP {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Background == nil {
		o.Background = func(work func() error) error { return work() }
	}
	p := &PDP{engine: engine, recorder: recorder, options: o, ids: &idSource{rand: o.Rand}, metrics: newDecisionMetrics(), names: newNames(o.MaskKeys)}
	p.previews = make(chan struct{}, MaxPreviews)
	p.scratch.New = func() any { return &scratch{buf: make([]byte, 0, 4096)} }
	return p
}

// Collectors returns the metrics of the decision point.
func (p *PDP) Collectors() []prometheus.Collector { return p.metrics.collectors() }

// Engine returns the engine whose active snapshot decides.
func (p *PDP) Engine() *eval.Engine { return p.engine }

// NewID returns a fresh decision id, for answers to requests that never became
// a decision.
func (p *PDP) NewID() (string, error) { return p.ids.next(p.options.Now()) }

// Query is one question to the decision point.
type Query struct {
	Edge  string    // the protocol that asks, in the log
	Path  string    // decision path below data
	Input ast.Value // nil: no input document

	// Snapshot answers the query; nil means the active one. Questions that
	// belong together name the same.
	Snapshot *eval.Snapshot
	BatchID  string // ties the records of one batch

	// Ask answers in place of the document at Path, which then only names what is
	// asked in the record; nil: the document is asked for. Its result is as
	// Snapshot.Eval's.
	Ask func(ctx context.Context, s *eval.Snapshot, now time.Time) (eval.Result, error)
	// Details is a JSON object of what is asked beside Path, for the record.
	Details []byte

	// Copies are texts of the input that hold parts of it once more.
	Copies []Copy

	// Who asks. Strings are recorded as they are.

	Caller, ClientIP, UserAgent, CorrelationID, TraceID string

	// Strict and what follows are eval.Query's.

	Strict  bool
	Observe Observe

	// Fault tells that the question could not be understood: nothing is
	// evaluated, the fault is the error of the decision and is recorded as such,
	// with as much of the input as there is.
	Fault *Fault

	// previewOf marks a preview: the snapshot that is active, whose masking holds.
	previewOf *eval.Snapshot
}

// Copy says that what stands in one place of the input stands in others too, as
// text: where something of it is masked or erased, these are erased. Places are
// JSON Pointers as masking policies have them, from the record on.
type Copy struct {
	Of string // empty: these are always erased, since they are copies of nothing that could be masked
	At []string
}

// Fault is what is wrong with a question.
type Fault struct {
	Code, Message string
	// Denies tells that the question is answered by it: no. Its Message quotes
	// nothing of the input and is always recorded.
	Denies bool
}

func (f *Fault) Error() string { return f.Code + ": " + f.Message }

// Observe asks for what a person who looks into a decision wants to see.
type Observe struct {
	Metrics    Metrics
	Instrument bool
	Trace      bool
	RuleLabels bool
	// StackTraces lets an evaluation error tell the rules being evaluated.
	StackTraces bool
}

// Decision is the answer to a Query. Release gives its memory back.
type Decision struct {
	ID       string
	Value    ast.Value // nil: undefined
	JSON     []byte    // Value encoded; nil when undefined; valid until Release
	Allowed  bool      // the value is true, or an object that says so
	Receipt  audit.Receipt
	Snapshot *eval.Snapshot
	Result   eval.Result

	active  *eval.Snapshot // beside which a canary answered; else the same as Snapshot, or nil
	watched *watched       // nil: nobody is to be told of it
	pdp     *PDP
	scratch *scratch
}

// Release returns the decision's buffers. Neither the decision nor its JSON may
// be used afterwards. It may be left out at the cost of garbage.
func (d *Decision) Release() {
	if d.scratch != nil {
		d.scratch.release(d.pdp)
		d.scratch, d.JSON = nil, nil
	}
}

// Decide evaluates the query, records the outcome and returns it. When the
// evaluation fails the failure is recorded and returned, together with a
// Decision that has an id and no value; for the standard decisions it is a
// denial with reason policy_error, or policy_stale, instead. Errors that wrap ErrUnrecorded mean
// that nothing may be answered.
func (p *PDP) Decide(ctx context.Context, q *Query) (*Decision, error) {
	d, evalErr, err := p.evaluate(ctx, q)
	if err != nil {
		return nil, err
	}
	receipt, err := p.recorder.Append(ctx, &d.scratch.record)
	if err != nil {
		p.metrics.unrecorded.Inc()
		d.Release()
		return nil, fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	d.recorded(receipt)
	return d, evalErr
}

// Outcome is one answer of a batch.
type Outcome struct {
	Decision *Decision
	Err      error // the evaluation's error, as Decide returns it
}

// DecideBatch answers several queries with one wait for the disk. Every query
// is recorded on its own. An error means that nothing may be answered; it wraps
// ErrUnrecorded or ErrBatchTooLarge. A batch ends with ctx.
func (p *PDP) DecideBatch(ctx context.Context, queries []Query) ([]Outcome, error) {
	return p.DecideUntil(ctx, queries, nil)
}

// DecideUntil is DecideBatch that stops at the first outcome which is enough;
// what comes after it is not evaluated. A nil enough never stops.
func (p *PDP) DecideUntil(ctx context.Context, queries []Query, enough func(Outcome) bool) ([]Outcome, error) {
	outcomes := make([]Outcome, 0, len(queries))
	tickets := make([]*audit.Ticket, 0, len(queries))
	end := func(err error) ([]Outcome, error) {
		for _, t := range tickets {
			_, _ = t.Wait(ctx) // the batch has failed already; a ticket must be waited for
		}
		for _, o := range outcomes {
			o.Decision.Release()
		}
		return nil, err
	}
	fail := func(err error) ([]Outcome, error) {
		p.metrics.unrecorded.Inc()
		return end(fmt.Errorf("%w: %w", ErrUnrecorded, err))
	}
	size := 0
	for i := range queries {
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
		d, evalErr, err := p.evaluate(ctx, &queries[i])
		if err != nil {
			return fail(err)
		}
		outcomes = append(outcomes, Outcome{Decision: d, Err: evalErr})
		t, err := p.recorder.Submit(ctx, &d.scratch.record)
		if err != nil {
			return fail(err)
		}
		tickets = append(tickets, t)
		if size += len(d.scratch.buf); size > MaxBatchBytes {
			return end(fmt.Errorf("%w: inputs and answers exceed %d bytes", ErrBatchTooLarge, MaxBatchBytes))
		}
		if enough != nil && enough(outcomes[i]) {
			break
		}
	}
	for i, t := range tickets {
		receipt, err := t.Wait(ctx)
		if err != nil {
			tickets = tickets[i+1:]
			return fail(err)
		}
		outcomes[i].Decision.recorded(receipt)
	}
	return outcomes, nil
}

// reached is the path of what the answer is made of. What is asked in another
// way than by a path may read anything.
func (q *Query) reached() string {
	if q.Ask != nil {
		return ""
	}
	return q.Path
}

// eval asks the snapshot.
func (q *Query) eval(ctx context.Context, s *eval.Snapshot, now time.Time) (eval.Result, error) {
	if q.Fault != nil {
		return eval.Result{}, q.Fault
	}
	if err := s.Stale(q.reached(), now); err != nil {
		return eval.Result{}, err
	}
	if q.Ask != nil {
		return q.Ask(ctx, s, now)
	}
	return s.Eval(ctx, &eval.Query{
		Path: q.Path, Input: q.Input, Now: now, Strict: q.Strict,
		Metrics: q.Observe.Metrics, Instrument: q.Observe.Instrument,
		Trace: q.Observe.Trace, RuleLabels: q.Observe.RuleLabels, StackTraces: q.Observe.StackTraces,
	})
}

// evaluate runs the query and fills the record of its outcome. evalErr is the
// failure of the evaluation, err one that leaves nothing to record.
func (p *PDP) evaluate(ctx context.Context, q *Query) (d *Decision, evalErr, err error) {
	now := p.options.Now()
	id, err := p.ids.next(now)
	if err != nil {
		return nil, nil, fmt.Errorf("make decision id: %w", err)
	}
	snapshot := q.Snapshot
	if snapshot == nil {
		snapshot = p.engine.Active()
	}
	started := time.Now()
	a := p.ask(ctx, q, snapshot, now)
	took := time.Since(started)
	evalErr = a.err
	d = &Decision{ID: id, Value: a.res.Value, Snapshot: a.snapshot, Result: a.res, active: a.active, pdp: p, scratch: p.scratch.Get().(*scratch)}
	failure := evalErr
	if evalErr != nil {
		d.Value = nil
		if deny := standardDenial(q, failure); deny != nil && q.Ask == nil {
			d.Value, evalErr = deny, nil
		}
	}
	if err := p.fill(ctx, q, d, failure, now, took); err != nil {
		d.Release()
		return nil, nil, err
	}
	if a.tried != nil {
		a.mark(ctx, q, d, now, took)
	}
	p.metrics.observe(q.Edge, d.scratch.record.Outcome, took)
	return d, evalErr, nil
}
