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

const (
	// MaxQueryText is the longest text of an ad-hoc query, in bytes.
	MaxQueryText = 16 << 10

	// maxExpressions and maxNesting bound what the text holds, calls and terms
	// inside of terms included: compiling cannot be cancelled, and takes time that
	// grows with the cube of the one (0.2 s at the bound) and faster with the
	// other.
	maxExpressions = 200
	maxNesting     = 16

	// maxRows bounds the rows of an answer, which cost memory even when they
	// bind nothing.
	maxRows = 100_000
)

// ErrEmptyQuery is returned for an ad-hoc query without an expression.
var ErrEmptyQuery = errors.New("cannot evaluate empty query")

// LimitError is returned for a question or an answer that is beyond a bound.
type LimitError struct {
	What  string // what is too large
	Limit int
	Unit  string // bytes or rows
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s exceeds limit of %d %s", e.What, e.Limit, e.Unit)
}

// Adhoc is a question in Rego's own text instead of a path. Everything that can
// change the result is part of it.
type Adhoc struct {
	Body  ast.Body  // from ParseQuery; it is used up
	Input ast.Value // nil: no input document
	Now   time.Time // required
	// MaxBytes bounds the encoded answer; zero means that nothing does.
	MaxBytes int

	// What follows is Query's.

	Metrics    metrics.Metrics
	Instrument bool
	Trace      bool
	RuleLabels bool
}

// ParseQuery parses the text of an ad-hoc query. Syntax errors are an
// ast.Errors, a text longer than MaxQueryText is a *LimitError.
func ParseQuery(text string) (ast.Body, error) {
	if len(text) > MaxQueryText {
		return nil, &LimitError{What: "query", Limit: MaxQueryText, Unit: "bytes"}
	}
	body, err := ast.ParseBodyWithOpts(text, ast.ParserOptions{})
	if err != nil {
		return nil, err
	}
	size := querySize{}
	size.walk(body)
	switch {
	case size.expressions > maxExpressions:
		return nil, &LimitError{What: "query", Limit: maxExpressions, Unit: "expressions"}
	case size.deepest > maxNesting:
		return nil, &LimitError{What: "nesting of the query", Limit: maxNesting, Unit: "levels"}
	}
	return body, nil
}

// querySize counts the expressions and calls of a query and how deep they and
// its terms are nested.
type querySize struct {
	expressions, depth, deepest int
}

func (s *querySize) walk(x any) {
	vis := ast.NewBeforeAfterVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Expr:
			s.expressions++
			s.enter()
		case ast.Call:
			s.expressions++
			s.enter()
		case *ast.Array, ast.Object, ast.Set, *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
			s.enter()
		case ast.Ref:
			if len(x) > 1 {
				s.enter()
			}
		}
		return s.deepest > maxNesting
	}, func(x any) {
		switch x := x.(type) {
		case *ast.Expr, ast.Call, *ast.Array, ast.Object, ast.Set, *ast.ArrayComprehension, *ast.ObjectComprehension, *ast.SetComprehension:
			s.depth--
		case ast.Ref:
			if len(x) > 1 {
				s.depth--
			}
		}
	})
	vis.Walk(x)
}

func (s *querySize) enter() {
	s.depth++
	s.deepest = max(s.deepest, s.depth)
}

// Ask evaluates an ad-hoc query. The value of the result is an array with one
// object a row, which holds the variables that the row binds; nil when there is
// no row. Errors are those of Eval, an ast.Errors for a query that does not
// compile, or a *LimitError.
func (s *Snapshot) Ask(ctx context.Context, q *Adhoc) (res Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			res, err = Result{}, fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	if len(q.Body) == 0 {
		return Result{}, ErrEmptyQuery
	}
	res.Strict = asksStandard(q.Body)
	timed := q.Metrics
	if timed == nil {
		timed = metrics.NoOp()
	}
	until := time.Now().Add(s.engine.Timeout())
	compile := timed.Timer(metrics.RegoQueryCompile)
	compile.Start()
	qc, body, err := s.compileAdhoc(q.Body)
	compile.Stop()
	if err != nil {
		return Result{}, err
	}
	nd := builtins.NDBCache{}
	run := topdown.NewQuery(body).
		WithQueryCompiler(qc).
		WithCompiler(s.program.compiler).
		WithStore(s.store).
		WithTransaction(reading{}).
		WithRuntime(s.engine.runtime).
		WithInterQueryBuiltinValueCache(s.engine.values).
		WithTime(q.Now).
		WithStrictBuiltinErrors(res.Strict).
		WithStackTraces(true).
		WithNDBuiltinCache(nd).
		WithCancel(&deadline{ctx: ctx, until: until, always: true})
	if q.Metrics == nil {
		run.WithBaseCache(baseDocuments{s.data})
	}
	if q.Input != nil {
		run.WithInput(ast.NewTerm(q.Input))
	}
	finish := observe(run, &Query{Metrics: q.Metrics, Instrument: q.Instrument, Trace: q.Trace, RuleLabels: q.RuleLabels}, &res)
	rows := rowCollector{names: qc.RewrittenVars(), left: q.MaxBytes, max: q.MaxBytes}
	err = run.Iter(ctx, rows.add)
	finish()
	if err != nil {
		return res, err
	}
	if len(rows.found) > 0 {
		res.Value = ast.NewArray(rows.found...)
	}
	res.ND = ndObject(nd)
	return res, nil
}

// compileAdhoc compiles a query on the snapshot's modules.
func (s *Snapshot) compileAdhoc(body ast.Body) (ast.QueryCompiler, ast.Body, error) {
	qc := s.program.compiler.QueryCompiler().
		WithUnsafeBuiltins(unsafeBuiltins()).
		WithStageAfterID("ResolveRefs", ast.QueryCompilerStageDefinition{
			Name: "RewriteToCaptureValue", MetricName: "query_compile_stage_rewrite_to_capture_value",
			Stage: (&capturing{types: s.program.compiler.TypeEnv}).stage,
		})
	compiled, err := qc.Compile(body)
	return qc, compiled, err
}

// unsafeBuiltins are kept out of the text of queries: what OPA's server keeps
// out, and what can take minutes in a single step, which no deadline ends.
// Policies may call them.
func unsafeBuiltins() map[string]struct{} {
	return map[string]struct{}{
		ast.HTTPSend.Name:              {},
		"bits.lsh":                     {},
		ast.ReachablePathsBuiltin.Name: {},
	}
}

// rowCollector turns the evaluator's results into rows, within bounds.
type rowCollector struct {
	names map[ast.Var]ast.Var // of variables that the compiler renamed
	found []*ast.Term
	left  int // bytes
	max   int // bytes; zero: no bound
}

func (c *rowCollector) add(qr topdown.QueryResult) error {
	if len(c.found) == maxRows {
		return &LimitError{What: "answer", Limit: maxRows, Unit: "rows"}
	}
	row := ast.NewObject()
	c.left -= 3
	for name, value := range qr {
		if given, ok := c.names[name]; ok {
			name = given
		}
		if name.IsGenerated() || name.IsWildcard() {
			continue
		}
		c.left -= len(name) + 4
		if !jsonSize(value.Value, &c.left) && c.max > 0 {
			return &LimitError{What: "answer", Limit: c.max, Unit: "bytes"}
		}
		row.Insert(ast.StringTerm(string(name)), value)
	}
	if c.max > 0 && c.left < 0 {
		return &LimitError{What: "answer", Limit: c.max, Unit: "bytes"}
	}
	c.found = append(c.found, ast.NewTerm(row))
	return nil
}

// jsonSize takes from left at most what v takes as JSON and reports whether
// there was enough. It stops where there is not.
func jsonSize(v ast.Value, left *int) bool {
	switch v := v.(type) {
	case ast.String:
		*left -= len(v) + 2
	case ast.Number:
		*left -= len(v)
	case ast.Object:
		*left -= 2
		v.Until(func(k, v *ast.Term) bool {
			*left -= 2
			return !jsonSize(k.Value, left) || !jsonSize(v.Value, left)
		})
	case *ast.Array:
		*left -= 2
		v.Until(func(t *ast.Term) bool {
			*left--
			return !jsonSize(t.Value, left)
		})
	case ast.Set:
		*left -= 2
		v.Until(func(t *ast.Term) bool {
			*left--
			return !jsonSize(t.Value, left)
		})
	default:
		*left -= 4
	}
	return *left >= 0
}

// asksStandard tells whether a query names data.verdict, or may: there an error
// of a built-in must not be an undefined expression.
func asksStandard(body ast.Body) (yes bool) {
	ast.WalkRefs(body, func(ref ast.Ref) bool {
		if len(ref) > 1 && ref.HasPrefix(ast.DefaultRootRef) {
			_, ground := ref[1].Value.(ast.String)
			yes = yes || !ground || isStandard(ref)
		}
		return yes
	})
	return yes
}
