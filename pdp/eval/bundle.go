package eval

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Bundle is a loaded set of modules and data with a name and a revision. It is
// not changed once a snapshot holds it.
type Bundle struct {
	Name     string
	Revision string // for humans and records; never empty
	// Roots are the paths that the bundle alone may define, without slashes at
	// the ends; one empty root owns everything outside of `verdict`, and below
	// it data beside the rules of the base layer. Nil: the bundle owns nothing,
	// and others may write beside what it brought.
	Roots []string
	// Base marks the standard policies. Nobody writes into the packages of a
	// base layer through the API, though it has no roots.
	Base     bool
	Modules  []*Module
	Data     ast.Object // may be nil
	Manifest ast.Value  // as shown below data.system.bundles; nil for none
	// DataFiles are what each data file brought, by its path, so that the same
	// file need not be read again for another revision; may be nil.
	DataFiles map[string]DataFile
}

// DataFile is a data file that was read.
type DataFile struct {
	SHA256 [32]byte
	Data   ast.Object // from the root of the bundle
}

// OwnedError is returned for a write below a path that belongs to a bundle.
// Its text is the one OPA's clients know.
type OwnedError struct {
	Path   string // empty: the whole document
	Bundle string
	root   bool
}

func (e *OwnedError) Error() string {
	switch {
	case e.root:
		return "can't write to document root with bundle roots configured"
	case e.Path == "":
		return fmt.Sprintf("all paths owned by bundle %q", e.Bundle)
	}
	return fmt.Sprintf("path %v is owned by bundle %q", e.Path, e.Bundle)
}

// checkOwner returns an *OwnedError when path is claimed by one of bundles.
func checkOwner(bundles []*Bundle, path storage.Path) error {
	for _, b := range bundles {
		if len(path) == 0 && len(b.Roots) > 0 {
			return &OwnedError{Bundle: b.Name, root: true}
		}
		for _, root := range b.Roots {
			if root == "" {
				return &OwnedError{Bundle: b.Name}
			}
			if overlaps(path, strings.Split(root, "/")) {
				return &OwnedError{Path: strings.Join(path, "/"), Bundle: b.Name}
			}
		}
	}
	return nil
}

// overlaps tells whether one path is a prefix of the other.
func overlaps(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
