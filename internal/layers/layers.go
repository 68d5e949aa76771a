// Package layers checks which package of a module may import which. A package
// stands in a row and imports only packages of lower rows, or it stands at
// the side and follows the rules there. The rows of this module are data in
// the package's test.
package layers

import (
	"fmt"
	"slices"
	"strings"
)

// Package is one package of the module and what it imports. Paths inside the
// module are relative to it.
type Package struct {
	Path    string
	Imports []string // inside the module
	Outside []string // outside the module, the standard library included
}

// Place is where packages stand and what that allows.
type Place struct {
	// Path is the package, or a folder with all packages under it when it
	// ends in "/...".
	Path string
	// Row is the layer; a package imports lower rows only.
	Row int
	// Side marks an implementation: it imports rows up to SideRow only and
	// is imported by the top row only. Its Row is not looked at.
	Side bool
	// StandardOnly forbids every import that is not of the standard library.
	StandardOnly bool
	// Never lists packages that it does not import though their row is
	// lower.
	Never []string
}

// Guard keeps a package outside the module to a few importers.
type Guard struct {
	// Outside is the import path; those under it are guarded too.
	Outside string
	// Importers are the packages that may import it.
	Importers []string
}

// Table is the whole rule.
type Table struct {
	Top     int // the row that may import what stands at the side
	SideRow int // the highest row that what stands at the side may import
	Places  []Place
	Guards  []Guard
}

// Check gives one message for each import that the table forbids, and one
// for each package that it does not know. A package whose name ends in "test"
// holds tests: it may import all, and no other package may import it.
func (t Table) Check(packages []Package) []string {
	var found []string
	for _, p := range packages {
		if isTest(p.Path) {
			continue
		}
		place, ok := t.find(p.Path)
		if !ok {
			found = append(found, fmt.Sprintf("%s stands in no row; add it to the table in internal/layers", p.Path))
			continue
		}
		for _, imported := range p.Imports {
			if message := t.inside(place, imported); message != "" {
				found = append(found, p.Path+" imports "+imported+": "+message)
			}
		}
		for _, imported := range p.Outside {
			if message := t.outside(place, p.Path, imported); message != "" {
				found = append(found, p.Path+" imports "+imported+": "+message)
			}
		}
	}
	return found
}

// inside says why a package may not import one of the module, or nothing.
func (t Table) inside(place Place, imported string) string {
	if isTest(imported) {
		return "it is for tests only"
	}
	target, ok := t.find(imported)
	switch {
	case !ok:
		return "" // reported where the package itself is met
	case place.StandardOnly:
		return "only the standard library may be imported here"
	case slices.Contains(place.Never, imported):
		return "the table forbids it by name"
	case target.Side && (place.Side || place.Row != t.Top):
		return "what stands at the side is wired by the top row only"
	case target.Side:
		return ""
	case place.Side && target.Row > t.SideRow:
		return fmt.Sprintf("what stands at the side imports rows 0 to %d only, and this is row %d", t.SideRow, target.Row)
	case place.Side:
		return ""
	case target.Row == place.Row:
		return fmt.Sprintf("both stand in row %d", place.Row)
	case target.Row > place.Row:
		return fmt.Sprintf("row %d is above row %d", target.Row, place.Row)
	}
	return ""
}

// outside says why a package may not import one of another module, or
// nothing.
func (t Table) outside(place Place, path, imported string) string {
	if first, _, _ := strings.Cut(imported, "/"); place.StandardOnly && strings.Contains(first, ".") {
		return "only the standard library may be imported here"
	}
	for _, g := range t.Guards {
		if under(imported, g.Outside) && !slices.Contains(g.Importers, path) {
			return "only " + strings.Join(g.Importers, ", ") + " may"
		}
	}
	return ""
}

// find gives the place of path: its own entry before one of a folder.
func (t Table) find(path string) (Place, bool) {
	var folder *Place
	for i, p := range t.Places {
		if p.Path == path {
			return p, true
		}
		if dir, ok := strings.CutSuffix(p.Path, "/..."); ok && under(path, dir) {
			folder = &t.Places[i]
		}
	}
	if folder == nil {
		return Place{}, false
	}
	return *folder, true
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func isTest(path string) bool { return strings.HasSuffix(path, "test") }
