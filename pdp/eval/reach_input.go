package eval

import (
	"cmp"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// inputTree is a set of parts of the input, in which a part swallows those
// inside it. The zero value is the empty set.
type inputTree struct {
	key   ast.Value // of this part in the one above; nil for the input itself
	whole bool      // this part is in the set
	parts []inputTree
}

// all puts the whole of t into the set.
func (t *inputTree) all() { t.whole, t.parts = true, nil }

// add puts the part at ref, which begins with input, into the set, up to the
// first term that is not known.
func (t *inputTree) add(ref ast.Ref) {
	n := t
	for _, term := range ref[1:] {
		if n.whole || !ast.IsScalar(term.Value) {
			break
		}
		n = n.part(term.Value)
	}
	n.all()
	t.bound()
}

// part returns the part of t at key, which is made if need be.
func (t *inputTree) part(key ast.Value) *inputTree {
	for i := range t.parts {
		if t.parts[i].key == key {
			return &t.parts[i]
		}
	}
	t.parts = append(t.parts, inputTree{key: key})
	return &t.parts[len(t.parts)-1]
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
		for i := range other.parts {
			t.part(other.parts[i].key).merge(&other.parts[i])
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
	for i := range t.parts {
		n += t.parts[i].size()
	}
	return n
}

// sorted returns t's parts in the order of their keys.
func (t *inputTree) sorted() []inputTree {
	return slices.SortedFunc(slices.Values(t.parts), func(a, b inputTree) int {
		// Numbers may be equal and have different texts.
		return cmp.Or(a.key.Compare(b.key), cmp.Compare(a.key.String(), b.key.String()))
	})
}

// refs spells out the set.
func (t *inputTree) refs() []ast.Ref { return t.appendRefs(nil, ast.InputRootRef) }

func (t *inputTree) appendRefs(refs []ast.Ref, at ast.Ref) []ast.Ref {
	if t.whole {
		return append(refs, at)
	}
	for _, sub := range t.sorted() {
		refs = sub.appendRefs(refs, append(slices.Clip(at), ast.NewTerm(sub.key)))
	}
	return refs
}
