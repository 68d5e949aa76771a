package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// Partial is a query that is evaluated as far as it can be while some documents
// are not known.
type Partial struct {
	Body  ast.Body  // from ParseQuery; it is used up
	Input ast.Value // nil: no input document
	Now   time.Time // required
	// Unknowns are the documents that are not known; nil means input.
	Unknowns []*ast.Term
	// DisableInlining names rules that stay calls.
	DisableInlining []string
	// Nondeterministic evaluates calls whose results change from one to the next.
	Nondeterministic bool
	// MaxBytes bounds the encoded answer; zero means that nothing does.
	MaxBytes int

	// What follows is Query's.

	Metrics    metrics.Metrics
	Instrument bool
	Trace      bool
}

// Residual is what is left of a partially evaluated query: it holds where one
// of the queries does.
type Residual struct {
	JSON  []byte // {"queries", "support"}, as OPA shows it
	Trace Trace
}

// residual is the JSON of a Residual.
type residual struct {
	Queries []ast.Body    `json:"queries,omitempty"`
	Support []*ast.Module `json:"support,omitempty"`
}

// Partial evaluates a query partially. The result has the residual as its value
// too. Errors are those of Ask.
func (s *Snapshot) Partial(ctx context.Context, q *Partial) (left Residual, res Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			left, res, err = Residual{}, Result{}, fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	if len(q.Body) == 0 {
		return Residual{}, Result{}, ErrEmptyQuery
	}
	res.Strict = asksStandard(q.Body)
	m := q.Metrics
	if m == nil {
		m = metrics.NoOp()
	}
	until := time.Now().Add(s.engine.Timeout())
	options := []func(*rego.Rego){
		rego.ParsedQuery(q.Body), rego.ParsedInput(q.Input), rego.ParsedUnknowns(q.Unknowns),
		rego.DisableInlining(q.DisableInlining), rego.NondeterministicBuiltins(q.Nondeterministic),
		rego.Instrument(q.Instrument), rego.Metrics(m), rego.StackTraces(true),
	}
	nd := builtins.NDBCache{}
	evaluation := []rego.EvalOption{
		rego.EvalTransaction(reading{}), rego.EvalMetrics(m), rego.EvalInstrument(q.Instrument),
		rego.EvalTime(q.Now), rego.EvalInterQueryBuiltinValueCache(s.engine.values),
		rego.EvalExternalCancel(&deadline{ctx: ctx, until: until, always: true}),
		rego.EvalNDBuiltinCache(nd),
	}
	var tracer *topdown.BufferTracer
	if q.Trace {
		tracer = topdown.NewBufferTracer()
		evaluation = append(evaluation, rego.EvalQueryTracer(tracer))
	}
	prepared, err := rego.New(append(options, s.regoOptions(res.Strict)...)...).PrepareForPartial(ctx)
	if err != nil {
		return Residual{}, Result{}, err
	}
	found, err := prepared.Partial(ctx, evaluation...)
	if tracer != nil {
		left.Trace = Trace(*tracer)
	}
	if err != nil {
		return left, res, err
	}
	if left.JSON, err = encodeResidual(&residual{found.Queries, found.Support}, q.MaxBytes); err != nil {
		return left, res, err
	}
	res.ND = ndObject(nd)
	res.Value, err = JSONValue(left.JSON)
	return left, res, err
}

// regoOptions are what every evaluation through package rego has.
func (s *Snapshot) regoOptions(strict bool) []func(*rego.Rego) {
	return []func(*rego.Rego){
		rego.Compiler(s.program.compiler), rego.Store(s.store), rego.Transaction(reading{}),
		rego.Runtime(s.engine.runtime), rego.UnsafeBuiltins(unsafeBuiltins()),
		rego.StrictBuiltinErrors(strict), rego.InterQueryBuiltinValueCache(s.engine.values),
	}
}

// encodeResidual encodes what is left unless it is longer than most.
func encodeResidual(r *residual, most int) ([]byte, error) {
	tooLarge := &LimitError{What: "answer", Limit: most, Unit: "bytes"}
	if most > 0 {
		size := astSizer{left: most}
		for _, q := range r.Queries {
			size.walk(q)
		}
		for _, m := range r.Support {
			size.walk(m)
		}
		if size.left < 0 {
			return nil, tooLarge
		}
	}
	b, err := json.Marshal(r)
	if err == nil && most > 0 && len(b) > most {
		err = tooLarge
	}
	return b, err
}

// astSizer takes from left at most what a syntax tree takes as JSON: no term is
// shorter than its type and value.
type astSizer struct{ left int }

func (s *astSizer) walk(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Term:
			s.left -= len(`{"type":"null","value":{}}`)
		case ast.String:
			s.left -= len(x)
		case ast.Number:
			s.left -= len(x)
		}
		return s.left < 0
	}).Walk(x)
}

// JSONValue parses JSON that comes from this process, and so has no bounds but
// those of its maker.
func JSONValue(text []byte) (ast.Value, error) {
	v, _, err := ParseInput(text, Limits{Depth: maxEncodeDepth, Members: math.MaxInt})
	if err != nil {
		return nil, fmt.Errorf("parse own JSON: %w", err)
	}
	return v, nil
}
