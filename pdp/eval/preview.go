package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of an overlay. Compiling cannot be cancelled, so that what is compiled
// is bounded in size and, rule by rule, as the text of an ad-hoc query is.
const (
	MaxOverlayModules = 32        // modules that are added, replaced or removed
	MaxOverlayBytes   = 256 << 10 // text of the modules together
	MaxOverlayRules   = 2000      // rules of the modules together
	// MaxOverlayWork bounds the cubes of the rules' expressions, together: the
	// compiler takes up to a second for as much.
	MaxOverlayWork = 100_000_000

	maxModuleID = 256 // bytes of the id of a module
)

// previewRevision names, in the revisions of a record, the overlay of a preview.
// The brackets keep it apart from every bundle name.
const previewRevision = "(preview)"

// Overlay is what a preview changes of a snapshot.
type Overlay struct {
	// Modules are texts by id; a nil text removes the module. One takes the place
	// of the module with its id, or else of the one in its package that has its
	// file name; where there is neither it is added.
	Modules map[string][]byte
	// Data is merged over the data document by the rules of RFC 7396: objects
	// member by member, null removes, everything else replaces.
	Data ast.Object
}

// Changes are the ids of the modules that an overlay added, replaced and
// removed, sorted.
type Changes struct {
	Added    []string `json:"added,omitempty"`
	Replaced []string `json:"replaced,omitempty"`
	Removed  []string `json:"removed,omitempty"`
}

// OverlayError is returned for an overlay that says something impossible.
type OverlayError struct {
	Module  string // id
	Message string
}

func (e *OverlayError) Error() string { return "module " + strconv.Quote(e.Module) + ": " + e.Message }

// Preview builds a snapshot with an overlay laid over s, beside s, which stays
// as it is. It answers queries as any other and can never become the active
// one. Who owns a path is not asked: nothing is written. Modules of the overlay
// are compiled in the compiler's strict mode and may not call what ad-hoc
// queries may not. Errors are a *CompileError, also for syntax, a *LimitError or
// an *OverlayError.
func (s *Snapshot) Preview(o *Overlay) (*Snapshot, Changes, error) {
	modules, changes, err := s.overlayModules(o)
	if err != nil {
		return nil, Changes{}, err
	}
	data := s.data
	if o.Data != nil {
		data = MergePatch(data, o.Data)
	}
	program := s.program
	if len(o.Modules) > 0 {
		program, err = strictProgram(modules, previewRevision, s.engine.caps, nonEmpty(data))
	} else {
		err = program.checkConflicts(nonEmpty(data))
	}
	if err != nil {
		return nil, Changes{}, err
	}
	next := &Snapshot{
		engine: s.engine, program: program, store: &store{data: data, modules: modules},
		bundles: s.bundles, packed: s.packed, data: data,
		generation: s.generation, apiWrites: s.apiWrites, masks: s.masks,
	}
	next.revisions = maps.Clone(s.revisions)
	next.revisions[previewRevision] = o.digest()[:12]
	next.encoded = encodeRevisions(next.revisions, s.apiWrites)
	return next, changes, nil
}

// overlayModules lays the modules over those of the snapshot.
func (s *Snapshot) overlayModules(o *Overlay) (map[string]*Module, Changes, error) {
	var changes Changes
	if len(o.Modules) == 0 {
		return s.store.modules, changes, nil
	}
	given, err := o.parse()
	if err != nil {
		return nil, changes, err
	}
	modules := maps.Clone(s.store.modules)
	if modules == nil {
		modules = map[string]*Module{}
	}
	for _, id := range slices.Sorted(maps.Keys(o.Modules)) {
		m := given[id]
		switch _, there := s.store.modules[id]; {
		case m == nil && !there:
			return nil, changes, &OverlayError{Module: id, Message: "there is no such module to remove"}
		case m == nil:
			delete(modules, id)
			changes.Removed = append(changes.Removed, id)
			continue
		case there:
			changes.Replaced = append(changes.Replaced, id)
		default:
			old, err := s.counterpart(m)
			if err != nil {
				return nil, changes, err
			}
			if old == "" {
				changes.Added = append(changes.Added, id)
			} else {
				delete(modules, old)
				changes.Replaced = append(changes.Replaced, old)
			}
		}
		modules[id] = m
	}
	slices.Sort(changes.Replaced)
	if twice := duplicate(changes.Replaced); twice != "" {
		return nil, changes, &OverlayError{Module: twice, Message: "two modules of the overlay would take its place; name it by its id"}
	}
	return modules, changes, nil
}

// counterpart finds the id of the one module that has the package and the file
// name of m; empty when there is none.
func (s *Snapshot) counterpart(m *Module) (found string, err error) {
	for id, old := range s.store.modules {
		if path.Base(id) != path.Base(m.ID) || !old.Parsed.Package.Path.Equal(m.Parsed.Package.Path) {
			continue
		}
		if found != "" {
			ids := []string{found, id}
			slices.Sort(ids)
			return "", &OverlayError{Module: m.ID, Message: "it could replace " + strings.Join(ids, " or ") + "; name one by its id"}
		}
		found = id
	}
	return found, nil
}

func duplicate(sorted []string) string {
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i]
		}
	}
	return ""
}

// parse reads the modules, within bounds.
func (o *Overlay) parse() (map[string]*Module, error) {
	if err := o.checkSize(); err != nil {
		return nil, err
	}
	var faults ast.Errors
	rules, work := 0, 0
	parsed := make(map[string]*Module, len(o.Modules))
	for _, id := range slices.Sorted(maps.Keys(o.Modules)) {
		text := o.Modules[id]
		if text == nil {
			continue
		}
		m, err := ParseModule(id, text)
		var syntax ast.Errors
		switch {
		case errors.As(err, &syntax):
			faults = append(faults, syntax...)
			continue
		case err != nil:
			return nil, &OverlayError{Module: id, Message: err.Error()}
		}
		if rules += len(m.Parsed.Rules); rules > MaxOverlayRules {
			return nil, &LimitError{What: "overlay", Limit: MaxOverlayRules, Unit: "rules"}
		}
		cost, bad := checkRules(m.Parsed)
		faults = append(faults, bad...)
		if work += cost; work > MaxOverlayWork {
			return nil, &LimitError{What: "overlay", Limit: MaxOverlayWork, Unit: "steps of the compiler (the cube of a rule's expressions)"}
		}
		m.Owner = previewRevision
		parsed[id] = m
	}
	if len(faults) > 0 {
		return nil, &CompileError{Errors: faults[:min(len(faults), maxCompileErrors)]}
	}
	return parsed, nil
}

// checkSize bounds what is parsed.
func (o *Overlay) checkSize() error {
	if len(o.Modules) > MaxOverlayModules {
		return &LimitError{What: "overlay", Limit: MaxOverlayModules, Unit: "modules"}
	}
	size := 0
	for id, text := range o.Modules {
		if id == "" || len(id) > maxModuleID {
			return &OverlayError{Module: id[:min(len(id), 32)], Message: fmt.Sprintf("an id has 1 to %d bytes", maxModuleID)}
		}
		if size += len(text); size > MaxOverlayBytes {
			return &LimitError{What: "overlay", Limit: MaxOverlayBytes, Unit: "bytes of modules"}
		}
	}
	return nil
}

// checkRules finds rules whose compilation would take too long, and built-ins
// that are refused. work grows with the time that the others will take.
func checkRules(m *ast.Module) (work int, faults ast.Errors) {
	refused := unsafeBuiltins()
	for _, rule := range m.Rules {
		size := querySize{}
		size.walk(rule)
		switch {
		case size.expressions > maxExpressions:
			faults = append(faults, ast.NewError(ast.CompileErr, rule.Location, "the rule has more than %d expressions, the limit of a preview", maxExpressions))
			continue
		case size.deepest > maxNesting:
			faults = append(faults, ast.NewError(ast.CompileErr, rule.Location, "the rule is nested deeper than %d levels, the limit of a preview", maxNesting))
			continue
		}
		work += size.expressions * size.expressions * size.expressions
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			if _, ok := refused[ref.String()]; ok {
				faults = append(faults, ast.NewError(ast.CompileErr, ref[0].Location, "the built-in %v is refused in a preview", ref))
			}
			return false
		})
	}
	return work, faults
}

// digest names the overlay: the hash of all of it.
func (o *Overlay) digest() string {
	h := sha256.New()
	for _, id := range slices.Sorted(maps.Keys(o.Modules)) {
		text := o.Modules[id]
		fmt.Fprintf(h, "module %q %t %d\n%s\n", id, text != nil, len(text), text)
	}
	if o.Data != nil {
		fmt.Fprintf(h, "data %s\n", o.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// MergePatch returns the target with a merge patch applied (RFC 7396, section
// 2); neither is changed. A nil target is an empty object.
func MergePatch(target, patch ast.Object) ast.Object {
	merged := ast.NewObject()
	if target != nil {
		target.Foreach(func(k, v *ast.Term) {
			if patch.Get(k) == nil {
				merged.Insert(k, v)
			}
		})
	}
	patch.Foreach(func(k, v *ast.Term) {
		switch below := v.Value.(type) {
		case ast.Null:
		case ast.Object:
			var old ast.Object
			if target != nil {
				if t := target.Get(k); t != nil {
					old, _ = t.Value.(ast.Object)
				}
			}
			merged.Insert(k, ast.NewTerm(MergePatch(old, below)))
		default:
			merged.Insert(k, v)
		}
	})
	return merged
}
