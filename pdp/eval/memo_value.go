package eval

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// owned copies one result for a Memo.
type owned struct {
	size int // about how many bytes the copy takes
}

// ownTerm returns a deep copy of t that shares no memory with it, and about how
// many bytes that takes. It returns nil for nil, and for a value that takes more
// than maxMemoValue or is not a plain document. What OPA sorts only when it is
// first needed is sorted already, so that many goroutines can read the copy.
func ownTerm(t *ast.Term) (*ast.Term, int) {
	if t == nil {
		return nil, 0
	}
	var o owned
	c := o.term(t)
	return c, o.size
}

// term returns a copy of t, or nil when that is too much.
func (o *owned) term(t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.Null:
		return ast.InternedNullTerm
	case ast.Boolean:
		return ast.InternedTerm(bool(v))
	case ast.Number:
		if shared := ast.InternedIntNumberTermFromString(string(v)); shared != nil {
			return shared
		}
		if o.take(40 + len(v)) {
			return ast.NewTerm(ast.Number(strings.Clone(string(v))))
		}
	case ast.String:
		if o.take(40 + len(v)) {
			return ast.NewTerm(ast.String(strings.Clone(string(v))))
		}
	case *ast.Array:
		if elems, ok := o.terms(v.Len(), v.Elem); ok {
			return ast.ArrayTerm(elems...)
		}
	case ast.Set:
		members := v.Slice()
		if elems, ok := o.terms(len(members), func(i int) *ast.Term { return members[i] }); ok {
			set := ast.NewSet(elems...)
			set.Slice() // sorts
			return ast.NewTerm(set)
		}
	case ast.Object:
		return o.object(v)
	default:
		o.size = maxMemoValue + 1
	}
	return nil
}

// terms copies n terms.
func (o *owned) terms(n int, at func(int) *ast.Term) ([]*ast.Term, bool) {
	if !o.take(160 + 32*n) {
		return nil, false
	}
	elems := make([]*ast.Term, n)
	for i := range elems {
		if elems[i] = o.term(at(i)); elems[i] == nil {
			return nil, false
		}
	}
	return elems, true
}

func (o *owned) object(v ast.Object) *ast.Term {
	if !o.take(160 + 80*v.Len()) {
		return nil
	}
	pairs := make([][2]*ast.Term, 0, v.Len())
	stopped := v.Until(func(k, v *ast.Term) bool {
		key, value := o.term(k), o.term(v)
		pairs = append(pairs, [2]*ast.Term{key, value})
		return key == nil || value == nil
	})
	if stopped {
		return nil
	}
	c := ast.NewObject(pairs...)
	c.Until(func(_, _ *ast.Term) bool { return true }) // sorts
	return ast.NewTerm(c)
}

// take counts n bytes and reports whether they are still within bounds.
func (o *owned) take(n int) bool {
	o.size += n
	return o.size <= maxMemoValue
}
