package eval

import (
	"errors"
	"fmt"
	"maps"
	"slices"

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
}

func newDraft(from *Snapshot) *Draft {
	return &Draft{
		from: from, bundles: from.bundles, modules: from.store.modules,
		packed: from.packed, data: from.data, apiWrites: from.apiWrites,
	}
}

func (d *Draft) changed() bool { return d.modulesChanged || d.dataChanged }

// SetBundles replaces everything by the content of bundles, writes through the
// API included. Two bundles that define a module id or a value at one path are
// an error.
func (d *Draft) SetBundles(bundles []*Bundle) error {
	modules := map[string]*Module{}
	packed := ast.NewObject()
	manifests := ast.NewObject()
	for _, b := range bundles {
		for _, m := range b.Modules {
			if _, ok := modules[m.ID]; ok {
				return fmt.Errorf("bundle %s: module %s exists already", b.Name, m.ID)
			}
			owned := *m
			owned.Owner = b.Name
			modules[m.ID] = &owned
		}
		if b.Data != nil {
			merged, err := mergeDocuments(packed, b.Data, nil)
			if err != nil {
				return fmt.Errorf("bundle %s: %w", b.Name, err)
			}
			packed = merged
		}
		if b.Manifest != nil {
			manifests.Insert(ast.StringTerm(b.Name), ast.ObjectTerm(
				ast.Item(ast.StringTerm("manifest"), ast.NewTerm(b.Manifest)),
				ast.Item(ast.StringTerm("etag"), ast.StringTerm("")),
			))
		}
	}
	if manifests.Len() > 0 {
		var err error
		system := ast.NewObject(ast.Item(ast.StringTerm("system"), ast.ObjectTerm(
			ast.Item(ast.StringTerm("bundles"), ast.NewTerm(manifests)))))
		if packed, err = mergeDocuments(packed, system, nil); err != nil {
			return fmt.Errorf("bundle manifests: %w", err)
		}
	}
	d.bundles, d.modules, d.packed, d.data = slices.Clone(bundles), modules, packed, packed
	d.apiWrites = 0
	d.modulesChanged, d.dataChanged = true, true
	return nil
}

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
// base layer owns.
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
		p, err := compile(d.modules, d.from.engine.caps, nonEmpty(data))
		if err != nil {
			return nil, err
		}
		program = p
	} else if err := program.checkConflicts(nonEmpty(data)); err != nil {
		return nil, err
	}
	next := newSnapshot(d.from.engine, program, d.bundles, d.modules, d.packed, data, d.apiWrites)
	if d.modulesChanged {
		next.Warm(d.from.Prepared())
	}
	return next, nil
}
