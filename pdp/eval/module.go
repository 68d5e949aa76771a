package eval

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// ErrEmptyModule is returned by ParseModule for a module without a package.
var ErrEmptyModule = errors.New("empty module")

// Module is one Rego module as it was received.
type Module struct {
	ID     string      // unique over a snapshot
	Raw    []byte      // the text
	Parsed *ast.Module // the compiler works on copies of it
	// Version is the one of the language that the text was parsed as; undefined
	// when nobody says.
	Version ast.RegoVersion
	Owner   string // name of the bundle that brought it; empty for one written through the API
}

// ParseModule parses Rego v1 text, annotations included. Syntax errors are an
// ast.Errors.
func ParseModule(id string, raw []byte) (*Module, error) {
	parsed, err := ast.ParseModuleWithOpts(id, string(raw), ast.ParserOptions{ProcessAnnotation: true})
	if err != nil {
		return nil, err
	}
	if parsed == nil {
		return nil, ErrEmptyModule
	}
	return &Module{ID: id, Raw: raw, Parsed: parsed}, nil
}

// Package returns the module's package as a path below data.
func (m *Module) Package() (storage.Path, error) {
	path, err := storage.NewPathForRef(m.Parsed.Package.Path)
	if err != nil {
		return nil, fmt.Errorf("package of module %s: %w", m.ID, err)
	}
	return path, nil
}

func errNoModule(id string) error {
	return &storage.Error{Code: storage.NotFoundErr, Message: fmt.Sprintf("policy id %q", id)}
}

// CompileError is returned when modules do not compile together, or when a
// rule and a base document claim the same path.
type CompileError struct {
	Errors ast.Errors
}

func (e *CompileError) Error() string { return e.Errors.Error() }

// Unwrap gives the compiler's own error list.
func (e *CompileError) Unwrap() error { return e.Errors }
