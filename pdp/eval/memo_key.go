package eval

import (
	"encoding/binary"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Tags of the encoding of a value in a memo's key. Each is followed by what
// makes the encoding of one value no prefix of another's.
const (
	tagAbsent byte = iota
	tagNull
	tagFalse
	tagTrue
	tagNumber // length, text
	tagString // length, bytes
	tagArray  // number of elements, elements
	tagObject // number of members, names and values in OPA's order
	tagSet    // number of members, members in OPA's order
)

// projection is an inputTree laid out for walking along an input.
type projection struct {
	key   *ast.Term // of this part in the one above
	whole bool
	parts []projection
}

func project(t *inputTree) projection {
	p := projection{whole: t.whole}
	if t.key != nil {
		p.key = ast.NewTerm(t.key)
	}
	for _, sub := range t.sorted() {
		p.parts = append(p.parts, project(&sub))
	}
	return p
}

// keyEncoder appends keys. As encoder does, it keeps its state in fields because
// ast.Object is iterated by a callback.
type keyEncoder struct {
	buf   []byte
	limit int // length that buf must not exceed
	bad   bool
	each  func(k, v *ast.Term) bool // the method member, bound once
}

// key appends the key of e's result for an input, and reports whether it is
// short enough to be used. It is injective: equal keys mean equal entries,
// modes, and values of all parts of the input that e can depend on.
func (k *keyEncoder) key(e *Entry, input *ast.Term, strict bool) bool {
	k.limit, k.bad = len(k.buf)+maxMemoKey, false
	mode := byte(0)
	if strict {
		mode = 1
	}
	k.buf = binary.AppendUvarint(append(k.buf, mode), uint64(e.id))
	k.part(&e.want, input)
	return !k.bad
}

// part appends the values of the parts of t that p names.
func (k *keyEncoder) part(p *projection, t *ast.Term) {
	if p.whole {
		k.value(t)
		return
	}
	for i := range p.parts {
		var sub *ast.Term
		if t != nil {
			sub = t.Get(p.parts[i].key)
		}
		k.part(&p.parts[i], sub)
	}
}

func (k *keyEncoder) value(t *ast.Term) {
	if len(k.buf) > k.limit {
		k.bad = true
	}
	if k.bad {
		return
	}
	if t == nil {
		k.buf = append(k.buf, tagAbsent)
		return
	}
	switch v := t.Value.(type) {
	case ast.Null:
		k.buf = append(k.buf, tagNull)
	case ast.Boolean:
		if v {
			k.buf = append(k.buf, tagTrue)
		} else {
			k.buf = append(k.buf, tagFalse)
		}
	case ast.Number:
		k.text(tagNumber, string(v))
	case ast.String:
		k.text(tagString, string(v))
	case *ast.Array:
		k.count(tagArray, v.Len())
		for i := range v.Len() {
			k.value(v.Elem(i))
		}
	case ast.Object:
		k.count(tagObject, v.Len())
		v.Until(k.each)
	case ast.Set:
		k.count(tagSet, v.Len())
		for _, t := range v.Slice() {
			k.value(t)
		}
	default:
		k.bad = true
	}
}

func (k *keyEncoder) member(key, value *ast.Term) bool {
	k.value(key)
	k.value(value)
	return k.bad
}

func (k *keyEncoder) text(tag byte, s string) {
	k.count(tag, len(s))
	if len(k.buf)+len(s) > k.limit {
		k.bad = true
		return
	}
	k.buf = append(k.buf, s...)
}

func (k *keyEncoder) count(tag byte, n int) {
	k.buf = binary.AppendUvarint(append(k.buf, tag), uint64(n))
}
