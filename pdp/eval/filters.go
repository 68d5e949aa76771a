package eval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	filter "github.com/open-policy-agent/opa/v1/rego/compile"
	"github.com/open-policy-agent/opa/v1/server/failtracer"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// ErrMappings is wrapped by the error of a filter whose table mappings have
// another structure than they should.
var ErrMappings = filter.ErrInvalidMappings

// invalidUnknown is OPA's code of an annotation that names no document.
const invalidUnknown = "invalid_unknown"

// FilterTarget is a language that a filter is written in.
type FilterTarget struct{ Target, Dialect string }

// Filter asks for the condition under which a rule holds for a row of data that
// is not known, in the language of who has the data.
type Filter struct {
	Ref   ast.Ref   // the rule
	Input ast.Value // nil: no input document
	Now   time.Time // required
	// Unknowns and MaskRule are as FilterHints gives them, or as the caller wants.
	Unknowns        []ast.Ref
	MaskRule        ast.Ref
	DisableInlining []string
	Mappings        map[string]any // of tables and columns; nil: none
	Targets         []FilterTarget
	// MaxBytes bounds each encoded filter; zero means that nothing does.
	MaxBytes int

	Metrics    metrics.Metrics // nil: not measured
	Instrument bool
}

// Filters are the conditions that Filter asked for.
type Filters struct {
	Hints []failtracer.Hint

	found *filter.Filters
}

// FilterResult is a condition, with the columns that may not be shown. A Query
// that is nil never holds.
type FilterResult struct {
	Query any            `json:"query"`
	Masks map[string]any `json:"masks,omitempty"`
}

// For returns the condition in one language; nil when the rule never holds.
func (f *Filters) For(t FilterTarget) *FilterResult {
	found := f.found.For(t.Target, t.Dialect)
	if found.Query == nil {
		return nil
	}
	return &FilterResult{Query: found.Query, Masks: found.Masks}
}

// FilterHints returns what the annotations of the rule at ref say about its use
// as a filter: the documents that are not known, and the rule that says which
// columns to mask. Faulty annotations are an ast.Errors.
func (s *Snapshot) FilterHints(ref ast.Ref) (unknowns []ast.Ref, maskRule ast.Ref, err error) {
	c := s.program.compiler
	rules := c.GetRulesExact(ref)
	if len(rules) == 0 || c.GetAnnotationSet() == nil {
		return nil, nil, nil
	}
	rule := rules[0] // what annotations say of one rule here holds for its whole document
	var faults ast.Errors
	for _, a := range c.GetAnnotationSet().Chain(rule) {
		if a.Annotations == nil || a.Annotations.Compile == nil {
			continue
		}
		about := a.Annotations.Compile
		for _, unknown := range about.Unknowns {
			if !unknown.HasPrefix(ast.InputRootRef) && !unknown.HasPrefix(ast.DefaultRootRef) {
				faults = append(faults, ast.NewError(invalidUnknown, a.Annotations.Loc(), "unknowns must be prefixed with `input` or `data`: %v", unknown))
				continue
			}
			unknowns = append(unknowns, unknown)
		}
		if about.MaskRule != nil && maskRule == nil {
			if maskRule = about.MaskRule; !maskRule.HasPrefix(ast.DefaultRootRef) {
				maskRule = rule.Module.Package.Path.Extend(maskRule)
			}
		}
	}
	if len(faults) > 0 {
		return nil, nil, faults
	}
	return unknowns, maskRule, nil
}

// Filter makes filters. The result has them as its value too, by target and
// dialect. Errors are those of Ask, an ast.Errors for a rule that has no equal
// in a target's language, or wrap ErrMappings. One of PrepareError could not be
// prepared.
func (s *Snapshot) Filter(ctx context.Context, q *Filter) (f *Filters, res Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, res, err = nil, Result{}, fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	res.Strict = isStandard(q.Ref) || isStandard(q.MaskRule)
	m := q.Metrics
	if m == nil {
		m = metrics.NoOp()
	}
	until := time.Now().Add(s.engine.Timeout())
	m.Timer(metrics.CompilePrepPartial).Start()
	prepared, err := s.prepareFilter(ctx, q, m, res.Strict)
	if err != nil {
		return nil, res, &PrepareError{err}
	}
	m.Timer(metrics.CompilePrepPartial).Stop()
	fails, nd := failtracer.New(), builtins.NDBCache{}
	found, err := prepared.Compile(
		ctx, rego.EvalTransaction(reading{}), rego.EvalParsedInput(q.Input), rego.EvalTime(q.Now),
		rego.EvalInterQueryBuiltinValueCache(s.engine.values), rego.EvalQueryTracer(fails),
		rego.EvalNDBuiltinCache(nd),
		rego.EvalExternalCancel(&deadline{ctx: ctx, until: until, always: true}),
	)
	if err != nil {
		if notRefs(q.DisableInlining) {
			err = &PrepareError{err}
		}
		return nil, res, err
	}
	res.ND = ndObject(nd)
	f = &Filters{Hints: fails.Hints(q.Unknowns), found: found}
	res.Value, err = f.value(q)
	return f, res, err
}

// notRefs tells whether one of some texts is something else than a reference, of
// which the parser itself finds no fault.
func notRefs(texts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		_, err := ast.ParseRef(text)
		var faults ast.Errors
		return err != nil && !errors.As(err, &faults)
	})
}

func (s *Snapshot) prepareFilter(ctx context.Context, q *Filter, m metrics.Metrics, strict bool) (*filter.Prepared, error) {
	unknowns := make([]*ast.Term, len(q.Unknowns))
	for i, ref := range q.Unknowns {
		unknowns[i] = ast.NewTerm(ref)
	}
	options := []filter.CompileOption{
		filter.ParsedUnknowns(unknowns...),
		filter.ParsedQuery(ast.NewBody(ast.NewExpr(ast.NewTerm(q.Ref)))),
		filter.Metrics(m),
		filter.Mappings(q.Mappings),
		filter.MaskRule(q.MaskRule),
		filter.Rego(append(s.regoOptions(strict), rego.DisableInlining(q.DisableInlining), rego.Instrument(q.Instrument))...),
	}
	for _, t := range q.Targets {
		options = append(options, filter.Target(t.Target, t.Dialect))
	}
	return filter.New(options...).Prepare(ctx)
}

// PrepareError is returned for a filter that cannot be prepared, such as one in
// an unknown language.
type PrepareError struct{ err error }

func (e *PrepareError) Error() string { return e.err.Error() }
func (e *PrepareError) Unwrap() error { return e.err }

// value is {target: {dialect: filter}}.
func (f *Filters) value(q *Filter) (ast.Value, error) {
	all := map[string]map[string]*FilterResult{}
	for _, t := range q.Targets {
		if all[t.Target] == nil {
			all[t.Target] = map[string]*FilterResult{}
		}
		all[t.Target][t.Dialect] = f.For(t)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode filters: %w", err)
	}
	if q.MaxBytes > 0 && len(text) > q.MaxBytes {
		return nil, &LimitError{What: "answer", Limit: q.MaxBytes, Unit: "bytes"}
	}
	return JSONValue(text)
}
