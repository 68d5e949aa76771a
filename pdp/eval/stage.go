package eval

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrStale is returned by Swap when another snapshot became active since the
// staged one was begun. Stage again.
var ErrStale = errors.New("another snapshot became active meanwhile")

// Stage builds the snapshot that Write would make active, and changes nothing.
// It holds no lock, so that it may be looked at for as long as it takes. The
// active snapshot itself is returned when fn changes nothing.
func (e *Engine) Stage(fn func(*Draft) error) (*Snapshot, error) {
	d := newDraft(e.Active())
	if err := fn(d); err != nil {
		return nil, err
	}
	if !d.changed() {
		return d.from, nil
	}
	return d.build()
}

// Revive returns a snapshot with the content of one that was active before, to
// be swapped in without being built again.
func (e *Engine) Revive(old *Snapshot) *Snapshot {
	next := *old.Unstaged()
	next.generation = e.Active().generation + 1
	next.Warm(e.Active().Prepared())
	return &next
}

// Swap makes a snapshot of Stage or Revive the active one, after then has
// returned nil: this is where the change is recorded. It returns ErrStale when
// the active snapshot is not the one that next was begun with, and the error of
// then as it is; nothing has changed in both cases.
func (e *Engine) Swap(next *Snapshot, then func() error) error {
	e.writer.Lock()
	defer e.writer.Unlock()
	if e.Active().generation+1 != next.generation {
		return ErrStale
	}
	return e.replace(next, then)
}

// Capabilities returns what policies may use. It must not be changed.
func (e *Engine) Capabilities() *ast.Capabilities { return e.caps }

// strictProgram is compile with the compiler's strict mode, whose errors count
// in the modules of owner only: what others brought was accepted before.
func strictProgram(modules map[string]*Module, owner string, caps *ast.Capabilities, nonEmpty func([]string) (bool, error)) (*program, error) {
	parsed := make(map[string]*ast.Module, len(modules))
	own := map[string]bool{}
	for id, m := range modules {
		parsed[id] = m.Parsed
		if m.Owner == owner {
			own[id] = true
		}
	}
	c := ast.NewCompiler().
		SetErrorLimit(0).
		WithStrict(true).
		WithCapabilities(caps).
		WithPathConflictsCheck(nonEmpty)
	if c.Compile(parsed); !c.Failed() {
		return &program{compiler: c, reaches: Analyze(c)}, nil
	}
	var errs ast.Errors
	for _, e := range c.Errors {
		if len(errs) < maxCompileErrors && e.Location != nil && own[e.Location.File] {
			errs = append(errs, e)
		}
	}
	if len(errs) > 0 {
		return nil, &CompileError{Errors: errs}
	}
	return compile(modules, caps, nonEmpty)
}
