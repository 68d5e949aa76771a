package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// ErrPanic is wrapped by the error of an evaluation that panicked.
var ErrPanic = errors.New("evaluation panicked")

// Query asks a snapshot for the document at one path. Everything that can
// change the result is part of it.
type Query struct {
	Path  string    // decision path, as ParsePath takes it
	Input ast.Value // nil: no input document
	Now   time.Time // what the evaluation takes for the current time; required
	// Strict makes an error of a built-in function the error of the query
	// instead of an undefined expression. Below data.verdict it is always on.
	Strict bool

	// What follows repeats an evaluation from its record, or measures one.

	// ND are recorded results of non-deterministic built-ins, as ParseND gives
	// them: a call that is among them is not made. Result.ND has them too.
	ND ast.Object
	// Seed is what chance is made of; nil: the system's.
	Seed io.Reader
	// Background takes no turn from decisions. Whoever sets it bounds how many
	// run at once.
	Background bool
	// Fresh uses no result that is remembered from another evaluation.
	Fresh bool

	// What follows costs time and is for people who look into a decision.

	Metrics    metrics.Metrics // nil: not measured
	Instrument bool            // fine-grained timers into Metrics
	Trace      bool
	RuleLabels bool
	// StackTraces lets an error tell the rules that were being evaluated. It costs
	// time only when there is an error.
	StackTraces bool
}

// Result is the outcome of a query that was evaluated.
type Result struct {
	Value  ast.Value // nil: undefined
	Strict bool      // built-in errors were strict
	// ND are the results of non-deterministic built-ins, by name and arguments;
	// nil when none was called. They are there after an error too.
	ND         ast.Object
	Trace      Trace
	RuleLabels []map[string]any
}

// Same tells whether two results are equal; nil is undefined.
func Same(a, b ast.Value) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Compare(b) == 0
}

// Eval evaluates a query. It returns when the answer is there, when ctx ends or
// when the engine's timeout is over, whichever is first. Errors are the
// evaluator's own (IsCancelled tells a timeout apart), an ast.Errors when the
// path cannot be asked, or wrap ErrPath or ErrPanic.
func (s *Snapshot) Eval(ctx context.Context, q *Query) (res Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			res, err = Result{}, fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	p, err := s.prepareTimed(q)
	if err != nil {
		return Result{}, err
	}
	res.Strict = q.Strict || p.strict
	var recall *Recall
	if s.memo != nil && !q.observed() && !q.Fresh {
		recall = s.memo.Begin(p.entry, q.Input, res.Strict)
		if v, ok := recall.Answer(); ok {
			res.Value = v
			recall.End(nil, false) // nothing new was found out
			return res, nil
		}
	}
	err = s.run(ctx, q, p, recall, &res)
	if recall != nil {
		recall.End(res.Value, err == nil)
	}
	return res, err
}

// run evaluates a prepared query.
func (s *Snapshot) run(ctx context.Context, q *Query, p *prepared, recall *Recall, res *Result) error {
	limit := &deadline{ctx: ctx, engine: s.engine}
	if q.Background {
		limit.until = time.Now().Add(slotsPerProcessor * s.engine.Timeout())
	} else {
		if err := s.engine.enter(ctx); err != nil {
			return err
		}
		defer s.engine.leave()
		limit.until = time.Now().Add(s.engine.Timeout())
	}
	run := topdown.NewQuery(p.body).
		WithQueryCompiler(p.compiler).
		WithCompiler(s.program.compiler).
		WithStore(s.store).
		WithTransaction(reading{}).
		WithRuntime(s.engine.runtime).
		WithInterQueryBuiltinValueCache(s.engine.values).
		WithTime(q.Now).
		WithStrictBuiltinErrors(res.Strict).
		WithStackTraces(q.StackTraces).
		WithCancel(limit)
	if q.Metrics == nil {
		run.WithBaseCache(baseDocuments{s.data})
	} // else OPA's own cache, whose counters are among OPA's metrics
	if q.Input != nil {
		run.WithInput(ast.NewTerm(q.Input))
	}
	if q.Seed != nil {
		run.WithSeed(q.Seed)
	}
	if recall != nil {
		run.WithVirtualCache(recall)
	}
	var nd builtins.NDBCache
	if !p.entry.Reach().Deterministic {
		nd = ndCache(q.ND)
		run.WithNDBuiltinCache(nd)
	}
	finish := observe(run, q, res)
	err := run.Iter(ctx, func(qr topdown.QueryResult) error {
		if res.Value == nil {
			res.Value = qr[resultVar].Value
		}
		return nil
	})
	finish()
	res.ND = ndObject(nd)
	if err != nil {
		res.Value = nil
	}
	return err
}

// observed tells whether more than the value is asked for, which only an
// evaluation can show.
func (q *Query) observed() bool { return q.Trace || q.RuleLabels || q.Metrics != nil }

// prepareTimed finds the prepared query and, when asked for metrics, keeps
// OPA's names for what it took.
func (s *Snapshot) prepareTimed(q *Query) (*prepared, error) {
	if q.Metrics == nil {
		p, _, err := s.program.prepare(q.Path)
		return p, err
	}
	hit := q.Metrics.Counter(metrics.ServerQueryCacheHit)
	if p := s.program.find(q.Path); p != nil {
		hit.Incr()
		return p, nil
	}
	compile := q.Metrics.Timer(metrics.RegoQueryCompile)
	compile.Start()
	defer compile.Stop()
	p, _, err := s.program.prepare(q.Path)
	return p, err
}

// observe connects what the query wants to see beside its result.
func observe(run *topdown.Query, q *Query, res *Result) (finish func()) {
	if q.Metrics == nil {
		run.WithMetrics(metrics.NoOp())
	} else {
		run.WithMetrics(q.Metrics)
		if q.Instrument {
			run.WithInstrumentation(topdown.NewInstrumentation(q.Metrics))
		}
	}
	if !q.Trace && !q.RuleLabels {
		return func() {}
	}
	var tracer *topdown.BufferTracer
	var labels *topdown.EvaluatedRuleTracker
	if q.Trace {
		tracer = topdown.NewBufferTracer()
		run.WithQueryTracer(tracer)
	}
	if q.RuleLabels {
		labels = &topdown.EvaluatedRuleTracker{}
		run.WithEvaluatedRuleTracker(labels)
	}
	return func() {
		if tracer != nil {
			res.Trace = Trace(*tracer)
		}
		if labels != nil {
			res.RuleLabels = labels.Labels
		}
	}
}

// IsCancelled tells whether err is an evaluation that was stopped by its
// deadline or by its caller.
func IsCancelled(err error) bool { return topdown.IsCancel(err) }

// ErrorCode returns the evaluator's code of err, such as eval_conflict_error,
// or the empty string when err is not the evaluator's.
func ErrorCode(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// EvaluatorCode tells whether code, of the error in a record, stands for an
// evaluation that was begun. Other codes name questions that never were.
func EvaluatorCode(code string) bool {
	switch code {
	case topdown.InternalErr, topdown.CancelErr, topdown.ConflictErr, topdown.TypeErr, topdown.BuiltinErr, topdown.WithMergeErr, OtherCode:
		return true
	}
	return false
}

// CancelCode is the code of an evaluation that was stopped.
const CancelCode = topdown.CancelErr

// OtherCode stands in records for an error without a code of its own.
const OtherCode = "evaluation_error"
