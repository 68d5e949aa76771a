package eval

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// inputTree is a set of parts of the input, in which a part swallows those
// inside it.
type inputTree struct {
	whole    bool // this part is in the set
	children map[ast.Value]*inputTree
}

// all puts the whole input into the set.
func (t *inputTree) all() { t.whole, t.children = true, nil }

// add puts the part at ref into the set, up to the first term that is not known.
func (t *inputTree) add(ref ast.Ref) {
	n := t
	for _, term := range ref[1:] {
		if n.whole || !ast.IsScalar(term.Value) {
			break
		}
		n = n.child(term.Value)
	}
	n.all()
	t.bound()
}

func (t *inputTree) child(key ast.Value) *inputTree {
	next := t.children[key]
	if next == nil {
		if t.children == nil {
			t.children = map[ast.Value]*inputTree{}
		}
		next = &inputTree{}
		t.children[key] = next
	}
	return next
}

// union adds the parts in other, which stays as it is.
func (t *inputTree) union(other *inputTree) {
	t.merge(other)
	t.bound()
}

func (t *inputTree) merge(other *inputTree) {
	switch {
	case t.whole:
	case other.whole:
		t.all()
	default:
		for key, sub := range other.children {
			t.child(key).merge(sub)
		}
	}
}

func (t *inputTree) bound() {
	if t.size() > maxReachInputs {
		t.all()
	}
}

func (t *inputTree) size() int {
	if t.whole {
		return 1
	}
	n := 0
	for _, sub := range t.children {
		n += sub.size()
	}
	return n
}

// keys returns the names of t's children, sorted.
func (t *inputTree) keys() []ast.Value {
	keys := make([]ast.Value, 0, len(t.children))
	for key := range t.children {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, ast.Value.Compare)
	return keys
}

// refs spells out the set.
func (t *inputTree) refs() []ast.Ref { return t.appendRefs(nil, ast.InputRootRef) }

func (t *inputTree) appendRefs(refs []ast.Ref, at ast.Ref) []ast.Ref {
	if t.whole {
		return append(refs, at)
	}
	for _, key := range t.keys() {
		refs = t.children[key].appendRefs(refs, append(slices.Clip(at), ast.NewTerm(key)))
	}
	return refs
}
