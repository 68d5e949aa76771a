package eval

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"golang.org/x/sync/singleflight"
)

const (
	// maxPrepared and maxPreparedPath bound the queries kept ready, by number and
	// by the bytes of each path: a segment of a path takes some 200 bytes. Paths
	// come from callers, also from those nobody knows (/health/...), so one that
	// asks for ever new ones must not fill the memory.
	maxPrepared     = 4096
	maxPreparedPath = 256

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
	flight   singleflight.Group // of paths being compiled

	ready atomic.Pointer[readyQueries] // nil until there is one
}

// readyQueries are the queries kept ready. When they are too many they are
// exchanged for an empty set: those in use are back at their next request, and
// no caller can keep them out for good.
type readyQueries struct {
	byPath sync.Map     // decision path -> *prepared
	kept   atomic.Int32 // entries of byPath
}

// prepared is one query, ready to run any number of times at once.
type prepared struct {
	ref      ast.Ref
	body     ast.Body
	compiler ast.QueryCompiler
	entry    *Entry // what the query can depend on
	strict   bool   // built-in errors are always strict below data.verdict

	reading sync.Once  // of reads
	reads   [][]string // what of data the answer can be made of
	touched sync.Map   // *Bundle -> whether reads touch what it owns
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
	if q = p.find(path); q != nil {
		return q, false, nil
	}
	// Of many that ask for a path at once one compiles it, the others wait.
	made, err, _ := p.flight.Do(path, func() (any, error) { return p.make(path) })
	if err != nil {
		return nil, true, err
	}
	return made.(*prepared), true, nil
}

// make compiles the query for a path and keeps it ready.
func (p *program) make(path string) (*prepared, error) {
	ref, err := ParsePath(path)
	if err != nil {
		return nil, err
	}
	body, err := pathQuery(ref)
	if err != nil {
		return nil, err
	}
	qc := p.compiler.QueryCompiler()
	body, err = qc.Compile(body)
	if err != nil {
		return nil, fmt.Errorf("prepare %v: %w", ref, err)
	}
	q := &prepared{ref: ref, body: body, compiler: qc, entry: p.reaches.Entry(ref), strict: isStandard(ref)}
	if len(path) <= maxPreparedPath {
		p.keep(path, q)
	}
	return q, nil
}

// find returns the query kept ready for a path, or nil.
func (p *program) find(path string) *prepared {
	if r := p.ready.Load(); r != nil {
		if q, ok := r.byPath.Load(path); ok {
			return q.(*prepared)
		}
	}
	return nil
}

// keep keeps a query ready.
func (p *program) keep(path string, q *prepared) {
	r := p.ready.Load()
	if r == nil || r.kept.Load() >= maxPrepared {
		next := &readyQueries{}
		if !p.ready.CompareAndSwap(r, next) {
			next = p.ready.Load()
		}
		r = next
	}
	if _, loaded := r.byPath.LoadOrStore(path, q); !loaded {
		r.kept.Add(1)
	}
}

// paths returns the paths whose queries are kept ready.
func (p *program) paths() (paths []string) {
	if r := p.ready.Load(); r != nil {
		r.byPath.Range(func(k, _ any) bool {
			paths = append(paths, k.(string))
			return true
		})
	}
	return paths
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
