package eval

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Draft is a snapshot in the making. It is valid inside one Engine.Write call
// and used by one goroutine.
type Draft struct {
	from    *Snapshot
	bundles []*Bundle
	modules map[string]*Module // copied from the snapshot at the first change
	packed  ast.Object
	data    ast.Value

	modulesChanged, dataChanged bool
	apiWrites                   uint64
	dropped                     []string
	strict                      string // name of a bundle
}

func newDraft(from *Snapshot) *Draft {
	return &Draft{
		from: from, bundles: from.bundles, modules: from.store.modules,
		packed: from.packed, data: from.data, apiWrites: from.apiWrites,
	}
}

func (d *Draft) changed() bool { return d.modulesChanged || d.dataChanged }

// SetBundles replaces all bundles. What the API wrote below a root of the new
// ones is gone, everything else that it wrote stays; Dropped names the former.
// Two bundles that claim one path are a *ClashError; two that define a module id
// or a value at one path are an error as well.
func (d *Draft) SetBundles(bundles []*Bundle) error {
	l, err := layer(bundles)
	if err != nil {
		return err
	}
	d.bundles, d.data = slices.Clone(bundles), l.data
	if d.apiWrites > 0 {
		if err := d.carry(l); err != nil {
			return err
		}
	}
	d.modules, d.packed = l.modules, l.data
	d.modulesChanged, d.dataChanged = true, true
	return nil
}

// Dropped lists what the API wrote and SetBundles left behind: policy ids after
// "policy:" and paths after "data:".
func (d *Draft) Dropped() []string { return d.dropped }

// RequireStrict makes the build fail where a module of the bundle breaks the
// rules of the compiler's strict mode.
func (d *Draft) RequireStrict(bundle string) { d.strict = bundle }

// Read returns the base document at path as the draft has it.
func (d *Draft) Read(path storage.Path) (ast.Value, error) { return readDocument(d.data, path) }

// CheckOwner returns an *OwnedError when path belongs to a bundle.
func (d *Draft) CheckOwner(path storage.Path) error { return checkOwner(d.bundles, path) }

// Patch changes the data document by one operation. Errors are *storage.Error
// or *OwnedError. A write of the root replaces what the API wrote and keeps
// what the bundles brought.
func (d *Draft) Patch(op storage.PatchOp, path storage.Path, value ast.Value) error {
	if err := d.CheckOwner(path); err != nil {
		return err
	}
	next, err := writeDocument(d.data, op, path, value)
	if err != nil {
		return err
	}
	if len(path) == 0 {
		if next, err = mergeDocuments(d.packed, next.(ast.Object), nil); err != nil {
			return &storage.Error{Code: storage.InvalidPatchErr, Message: err.Error()}
		}
	}
	d.data, d.dataChanged = next, true
	d.apiWrites++
	return nil
}

// MakeFolder makes every node along path an object, adding those that are
// missing. A node that is something else is a storage write conflict.
func (d *Draft) MakeFolder(path storage.Path) error {
	next, err := makeFolder(d.data, path)
	if err != nil {
		return err
	}
	d.data, d.dataChanged = next, true
	return nil
}

// Module returns a module of the draft by its id.
func (d *Draft) Module(id string) (*Module, error) {
	m, ok := d.modules[id]
	if !ok {
		return nil, errNoModule(id)
	}
	return m, nil
}

// PutModule adds or replaces a module that comes through the API. Errors are
// *OwnedError when its package, or the module it would replace, belongs to a
// bundle or to the standard policies.
func (d *Draft) PutModule(m *Module) error {
	if err := d.CheckModule(m); err != nil {
		return err
	}
	if old, ok := d.modules[m.ID]; ok {
		if err := d.CheckModule(old); err != nil {
			return err
		}
	}
	d.ownModules()
	d.modules[m.ID] = m
	d.apiWrites++
	return nil
}

// DeleteModule removes a module under the conditions of PutModule.
func (d *Draft) DeleteModule(id string) error {
	old, err := d.Module(id)
	if err != nil {
		return err
	}
	if err := d.CheckModule(old); err != nil {
		return err
	}
	d.ownModules()
	delete(d.modules, id)
	d.apiWrites++
	return nil
}

func (d *Draft) ownModules() {
	if !d.modulesChanged {
		d.modules = maps.Clone(d.modules)
		if d.modules == nil {
			d.modules = map[string]*Module{}
		}
		d.modulesChanged = true
	}
}

// CheckModule returns an *OwnedError for a module whose package a bundle or the
// base layer owns, or that has a rule where the base layer has one: the head of
// a rule may reach into a package below the module's own.
func (d *Draft) CheckModule(m *Module) error {
	path, err := m.Package()
	if err != nil {
		return err
	}
	if err := d.CheckOwner(path); err != nil {
		return err
	}
	for _, b := range d.bundles {
		if !b.Base {
			continue
		}
		for _, own := range b.Modules {
			if own.ID == m.ID || own.Parsed.Package.Path.Equal(m.Parsed.Package.Path) {
				return &OwnedError{Path: path.String()[1:], Bundle: b.Name}
			}
		}
	}
	rules, err := baseRules(d.bundles)
	if err != nil {
		return err
	}
	for _, own := range rules {
		if at := own.meets(path, m); at != nil {
			return &OwnedError{Path: strings.Join(at, "/"), Bundle: own.bundle}
		}
	}
	return nil
}

// build makes the snapshot. Compiled modules are kept when only data changed.
func (d *Draft) build() (*Snapshot, error) {
	data, ok := d.data.(ast.Object)
	if !ok {
		return nil, errors.New("build snapshot: the data document is no object")
	}
	program := d.from.program
	if d.modulesChanged {
		p, err := d.compile(data)
		if err != nil {
			return nil, err
		}
		program = p
	} else if err := program.checkConflicts(nonEmpty(data)); err != nil {
		return nil, err
	}
	next := newSnapshot(d.from.engine, program, d.bundles, d.modules, d.packed, data, d.apiWrites)
	next.generation = d.from.generation + 1
	if d.modulesChanged {
		next.Warm(d.from.Prepared())
	}
	return next, nil
}

func (d *Draft) compile(data ast.Object) (*program, error) {
	caps := d.from.engine.caps
	if d.strict != "" {
		return strictProgram(d.modules, d.strict, caps, nonEmpty(data))
	}
	return compile(d.modules, caps, nonEmpty(data))
}
