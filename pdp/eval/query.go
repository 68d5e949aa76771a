package eval

import (
	"context"
	"errors"
	"fmt"
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
	// nil when none was called.
	ND         ast.Object
	Trace      Trace
	RuleLabels []map[string]any
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
	if s.memo != nil && !q.observed() {
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
	if err := s.engine.enter(ctx); err != nil {
		return err
	}
	defer s.engine.leave()
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
		WithCancel(&deadline{ctx: ctx, until: time.Now().Add(s.engine.Timeout()), engine: s.engine})
	if q.Metrics == nil {
		run.WithBaseCache(baseDocuments{s.data})
	} // else OPA's own cache, whose counters are among OPA's metrics
	if q.Input != nil {
		run.WithInput(ast.NewTerm(q.Input))
	}
	if recall != nil {
		run.WithVirtualCache(recall)
	}
	var nd builtins.NDBCache
	if !p.entry.Reach().Deterministic {
		nd = builtins.NDBCache{}
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
	if err != nil {
		res.Value = nil
		return err
	}
	res.ND = ndObject(nd)
	return nil
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

// ndObject turns the evaluator's cache of non-deterministic results into one
// value: {built-in: {arguments as JSON text: result}}.
func ndObject(nd builtins.NDBCache) ast.Object {
	if len(nd) == 0 {
		return nil
	}
	obj := ast.NewObject()
	for name, calls := range nd {
		obj.Insert(ast.StringTerm(name), ast.NewTerm(calls))
	}
	return obj
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
