package eval

import (
	"encoding/json"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxShareDepth is how deep ShareData looks; below it a value is the one or the
// other as a whole.
const maxShareDepth = 32

// ShareData returns a document that is equal to next and has the values of old
// wherever they are equal, so that two revisions of a document take little more
// memory than one. Neither is changed.
func ShareData(old, next ast.Object) ast.Object {
	if old == nil || next == nil {
		return next
	}
	shared, _ := shareObject(old, next, 0)
	return shared
}

// shareObject returns old itself, and true, when both are equal.
func shareObject(old, next ast.Object, depth int) (shared ast.Object, same bool) {
	type member struct {
		key, value *ast.Term
		fresh      bool // nothing of the value is old
	}
	members, kept := make([]member, 0, next.Len()), 0
	old.Foreach(func(k, was *ast.Term) {
		v := next.Get(k)
		if v == nil {
			return
		}
		value, equal, fresh := shareValue(was, v, depth+1)
		if equal {
			kept++
		}
		members = append(members, member{k, value, fresh})
	})
	if kept == old.Len() && kept == next.Len() {
		return old, true
	}
	next.Foreach(func(k, v *ast.Term) {
		if old.Get(k) == nil {
			members = append(members, member{k, v, true})
		}
	})
	// A parsed term keeps the chunk of terms alive that it was cut from. Where
	// most is old, what is new is copied, so that it does not keep all the rest.
	detached := kept*2 >= len(members)
	merged := ast.NewObjectWithCapacity(len(members))
	for _, m := range members {
		if detached && m.fresh {
			m.key, m.value = detach(m.key), detach(m.value)
		}
		merged.Insert(m.key, m.value)
	}
	return merged, false
}

// shareValue tells whether it returns old, and whether nothing in what it
// returns is.
func shareValue(old, next *ast.Term, depth int) (shared *ast.Term, same, fresh bool) {
	a, ok1 := old.Value.(ast.Object)
	b, ok2 := next.Value.(ast.Object)
	if ok1 && ok2 && depth < maxShareDepth {
		obj, same := shareObject(a, b, depth)
		if same {
			return old, true, false
		}
		return ast.NewTerm(obj), false, false
	}
	if old == next || identical(old.Value, next.Value) {
		return old, true, false
	}
	return next, false, true
}

// detach copies a term and all that it holds.
func detach(t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.String:
		return ast.StringTerm(strings.Clone(string(v)))
	case ast.Number:
		return ast.NumberTerm(json.Number(strings.Clone(string(v))))
	case *ast.Array:
		elems := make([]*ast.Term, v.Len())
		for i := range elems {
			elems[i] = detach(v.Elem(i))
		}
		return ast.ArrayTerm(elems...)
	case ast.Object:
		obj := ast.NewObjectWithCapacity(v.Len())
		v.Foreach(func(k, v *ast.Term) { obj.Insert(detach(k), detach(v)) })
		return ast.NewTerm(obj)
	}
	return t
}

// identical is stricter than equal: 1 and 1.0 are not, since the text of a number
// is kept.
func identical(a, b ast.Value) bool {
	switch a := a.(type) {
	case ast.Number:
		n, ok := b.(ast.Number)
		return ok && a == n
	case *ast.Array:
		other, ok := b.(*ast.Array)
		if !ok || a.Len() != other.Len() {
			return false
		}
		for i := range a.Len() {
			if !identical(a.Elem(i).Value, other.Elem(i).Value) {
				return false
			}
		}
		return true
	case ast.Object:
		other, ok := b.(ast.Object)
		return ok && a.Len() == other.Len() && !a.Until(func(k, v *ast.Term) bool {
			t := other.Get(k)
			return t == nil || !identical(v.Value, t.Value)
		})
	}
	return a.Compare(b) == 0
}
