package eval

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

const (
	// maxPrepared bounds the queries kept ready. Paths come from callers, so
	// one that asks for ever new ones must not fill the memory.
	maxPrepared = 4096

	// maxCompileErrors is how many errors of one compilation are reported, as
	// in OPA's server.
	maxCompileErrors = 10

	// resultVar binds the value of a query. It is written as the evaluator
	// writes a wildcard, so that traces show it as one.
	resultVar = ast.Var(ast.WildcardPrefix + "term1")
)

// program is a compiled set of modules with the queries prepared on it. Data
// may change without it, so several snapshots can share one.
type program struct {
	compiler *ast.Compiler
	reaches  *Reaches

	prepared sync.Map     // decision path -> *prepared
	kept     atomic.Int32 // entries of prepared
}

// prepared is one query, ready to run any number of times at once.
type prepared struct {
	ref      ast.Ref
	body     ast.Body
	compiler ast.QueryCompiler
	entry    *Entry // what the query can depend on
	strict   bool   // built-in errors are always strict below data.verdict
}

// compile makes a program of modules. nonEmpty tells whether base data exists
// at a path, for the conflict check.
func compile(modules map[string]*Module, caps *ast.Capabilities, nonEmpty func([]string) (bool, error)) (*program, error) {
	parsed := make(map[string]*ast.Module, len(modules))
	for id, m := range modules {
		parsed[id] = m.Parsed
	}
	c := ast.NewCompiler().
		SetErrorLimit(maxCompileErrors).
		WithCapabilities(caps).
		WithPathConflictsCheck(nonEmpty)
	if c.Compile(parsed); c.Failed() {
		return nil, &CompileError{Errors: c.Errors}
	}
	return &program{compiler: c, reaches: Analyze(c)}, nil
}

// prepare returns the query for a decision path; fresh tells that it had to be
// compiled now.
func (p *program) prepare(path string) (q *prepared, fresh bool, err error) {
	if found, ok := p.prepared.Load(path); ok {
		return found.(*prepared), false, nil
	}
	ref, err := ParsePath(path)
	if err != nil {
		return nil, true, err
	}
	body, err := pathQuery(ref)
	if err != nil {
		return nil, true, err
	}
	qc := p.compiler.QueryCompiler()
	body, err = qc.Compile(body)
	if err != nil {
		return nil, true, fmt.Errorf("prepare %v: %w", ref, err)
	}
	q = &prepared{ref: ref, body: body, compiler: qc, entry: p.reaches.Entry(ref), strict: isStandard(ref)}
	if p.kept.Load() < maxPrepared {
		if _, loaded := p.prepared.LoadOrStore(path, q); !loaded {
			p.kept.Add(1)
		}
	}
	return q, true, nil
}

// isStandard tells whether ref lies at or below data.verdict.
func isStandard(ref ast.Ref) bool {
	return len(ref) > 1 && ref[1].Value.Compare(ast.String("verdict")) == 0
}

// checkConflicts reports rules that claim a path where base data stands.
func (p *program) checkConflicts(nonEmpty func([]string) (bool, error)) error {
	if errs := ast.CheckPathConflicts(p.compiler, nonEmpty); len(errs) > 0 {
		return &CompileError{Errors: errs}
	}
	return nil
}

// nonEmpty tells for the conflict check whether base data forbids a rule at a
// path: a value stands there, or something that is no object stands above it.
func nonEmpty(data ast.Object) func([]string) (bool, error) {
	return func(path []string) (bool, error) {
		if _, err := readDocument(data, path); err == nil {
			return true, nil
		}
		for i := len(path) - 1; i > 0; i-- {
			node, err := readDocument(data, storage.Path(path[:i]))
			if err != nil {
				continue
			}
			_, isObject := node.(ast.Object)
			return !isObject, nil
		}
		return false, nil
	}
}
