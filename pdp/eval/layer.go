package eval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// layered is what bundles bring together.
type layered struct {
	modules map[string]*Module
	data    ast.Object
}

// layer lays the bundles over the base layer among them: a base package that a
// root names is left out, and so are base data below a root; elsewhere a value
// of a bundle stands in place of the base's.
func layer(bundles []*Bundle) (*layered, error) {
	if err := CheckBundles(bundles); err != nil {
		return nil, err
	}
	l := &layered{modules: map[string]*Module{}}
	base, over, manifests := ast.NewObject(), ast.NewObject(), ast.NewObject()
	for _, b := range bundles {
		if err := l.addModules(b, bundles); err != nil {
			return nil, err
		}
		if b.Manifest != nil {
			manifests.Insert(ast.StringTerm(b.Name), ast.ObjectTerm(
				ast.Item(ast.StringTerm("manifest"), ast.NewTerm(b.Manifest)),
				ast.Item(ast.StringTerm("etag"), ast.StringTerm("")),
			))
		}
		if b.Data == nil {
			continue
		}
		into := &over
		if b.Base {
			into = &base
		}
		merged, err := mergeDocuments(*into, b.Data, nil)
		if err != nil {
			return nil, fmt.Errorf("bundle %s: %w", b.Name, err)
		}
		*into = merged
	}
	if manifests.Len() > 0 {
		system := ast.NewObject(ast.Item(ast.StringTerm("system"), ast.ObjectTerm(
			ast.Item(ast.StringTerm("bundles"), ast.NewTerm(manifests)))))
		merged, err := mergeDocuments(over, system, nil)
		if err != nil {
			return nil, fmt.Errorf("bundle manifests: %w", err)
		}
		over = merged
	}
	for _, b := range bundles {
		for _, root := range b.Roots {
			if root != "" && !b.Base {
				base = without(base, strings.Split(root, "/"))
			}
		}
	}
	l.data = overlay(base, over)
	return l, nil
}

func (l *layered) addModules(b *Bundle, bundles []*Bundle) error {
	for _, m := range b.Modules {
		if b.Base {
			pkg, err := m.Package()
			if err != nil {
				return err
			}
			if slices.ContainsFunc(bundles, func(o *Bundle) bool { return o.replaces(pkg) }) {
				continue
			}
		}
		if _, ok := l.modules[m.ID]; ok {
			return fmt.Errorf("bundle %s: module %s exists already", b.Name, m.ID)
		}
		own := *m
		own.Owner = b.Name
		l.modules[m.ID] = &own
	}
	return nil
}

// without returns the document without what stands at path.
func without(doc ast.Object, path []string) ast.Object {
	key := keyTerm(path[0])
	child := doc.Get(key)
	switch {
	case child == nil:
		return doc
	case len(path) == 1:
		return copyObject(doc, key, nil)
	}
	obj, ok := child.Value.(ast.Object)
	if !ok {
		return doc
	}
	return copyObject(doc, key, ast.NewTerm(without(obj, path[1:])))
}

// overlay returns the document with another laid over it: objects are merged,
// any other value stands in place of what was there.
func overlay(under, over ast.Object) ast.Object {
	if under.Len() == 0 {
		return over
	}
	if over.Len() == 0 {
		return under
	}
	merged := ast.NewObject()
	under.Foreach(func(k, v *ast.Term) { merged.Insert(k, v) })
	over.Foreach(func(k, v *ast.Term) {
		if old := under.Get(k); old != nil {
			a, ok1 := old.Value.(ast.Object)
			b, ok2 := v.Value.(ast.Object)
			if ok1 && ok2 {
				v = ast.NewTerm(overlay(a, b))
			}
		}
		merged.Insert(k, v)
	})
	return merged
}

// rebase carries what the API wrote over to other bundles: what lies below a
// root is left behind, everything else stays.
type rebase struct {
	bundles []*Bundle
	dropped []string // paths left behind
}

// modules returns those of the API that stay.
func (r *rebase) modules(old, next map[string]*Module) ([]*Module, error) {
	var kept []*Module
	for id, m := range old {
		if m.Owner != "" {
			continue
		}
		pkg, err := m.Package()
		if err != nil {
			return nil, err
		}
		if yes, _ := ownedBy(r.bundles, pkg); yes {
			r.dropped = append(r.dropped, "policy:"+id)
			continue
		}
		if taken, ok := next[id]; ok {
			return nil, &ClashError{Bundle: taken.Owner, Path: id, Reason: "the API wrote a policy with this id"}
		}
		kept = append(kept, m)
	}
	return kept, nil
}

// data merges three documents: the bundles' data before, the same with what the
// API wrote, and the bundles' data now. Nil is absence.
func (r *rebase) data(before, written, now *ast.Term, at []string) (*ast.Term, error) {
	if untouched(before, written) {
		return now, nil
	}
	mine, above := ownedBy(r.bundles, at)
	if mine && len(at) > 0 {
		r.dropped = append(r.dropped, "data:/"+strings.Join(at, "/"))
		return now, nil
	}
	docs, objects := [3]ast.Object{}, true
	for i, t := range []*ast.Term{before, written, now} {
		docs[i] = ast.NewObject()
		if t == nil {
			continue
		}
		obj, ok := t.Value.(ast.Object)
		if objects = objects && ok; ok {
			docs[i] = obj
		}
	}
	if objects && (written != nil || now != nil && above) {
		return r.members(docs, written, now, at)
	}
	if above {
		if now == nil {
			return now, nil
		}
		return nil, &ClashError{Bundle: r.ownerBelow(at), Path: strings.Join(at, "/"), Reason: "the API wrote a value above a root"}
	}
	return written, nil
}

// members merges objects, key by key.
func (r *rebase) members(docs [3]ast.Object, written, now *ast.Term, at []string) (*ast.Term, error) {
	merged, changed := ast.NewObject(), now == nil
	var keys []*ast.Term
	docs[2].Foreach(func(k, _ *ast.Term) { keys = append(keys, k) })
	for _, doc := range docs[:2] {
		doc.Foreach(func(k, _ *ast.Term) {
			if docs[2].Get(k) == nil && (doc == docs[0] || docs[0].Get(k) == nil) {
				keys = append(keys, k)
			}
		})
	}
	for _, k := range keys {
		name, _ := k.Value.(ast.String)
		now := docs[2].Get(k)
		v, err := r.data(docs[0].Get(k), docs[1].Get(k), now, append(at[:len(at):len(at)], string(name)))
		if err != nil {
			return nil, err
		}
		changed = changed || v != now
		if v != nil {
			merged.Insert(k, v)
		}
	}
	switch {
	case !changed:
		return now, nil
	case now == nil && merged.Len() == 0 && len(at) > 0 && written != nil && written.Value.(ast.Object).Len() > 0:
		return nil, nil // everything below was left behind
	}
	return ast.NewTerm(merged), nil
}

func (r *rebase) ownerBelow(at []string) string {
	for _, b := range r.bundles {
		if _, above := ownedBy([]*Bundle{b}, at); above {
			return b.Name
		}
	}
	return ""
}

// untouched tells cheaply that two values are one. Objects that differ in
// place only are looked into by the caller.
func untouched(a, b *ast.Term) bool {
	switch {
	case a == nil || b == nil:
		return a == b
	case a == b:
		return true
	}
	x, ok1 := a.Value.(ast.Object)
	y, ok2 := b.Value.(ast.Object)
	if ok1 && ok2 {
		return x == y
	}
	return !ok1 && !ok2 && a.Value.Compare(b.Value) == 0
}

// carry lays what the API wrote before over what the bundles bring now.
func (d *Draft) carry(l *layered) error {
	r := &rebase{bundles: d.bundles}
	kept, err := r.modules(d.from.store.modules, l.modules)
	if err != nil {
		return err
	}
	for _, m := range kept {
		l.modules[m.ID] = m
	}
	data, err := r.data(ast.NewTerm(d.from.packed), ast.NewTerm(d.from.data), ast.NewTerm(l.data), storage.Path{})
	if err != nil {
		return err
	}
	d.data = data.Value
	slices.Sort(r.dropped)
	d.dropped = r.dropped
	if same := untouched(data, ast.NewTerm(l.data)); same && len(kept) == 0 {
		d.apiWrites = 0
	}
	return nil
}
