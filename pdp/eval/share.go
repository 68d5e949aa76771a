package eval

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxPointer is how many steps a pointer into the input may have.
const maxPointer = 32

// Share is a stable part of all subjects: the same subject is always in it or
// never, and one that is in it is in every larger one of the same name too.
type Share struct {
	name    string
	pointer []pointerStep
	limit   uint64 // hashes below it are in
	all     bool
}

// pointerStep is one step of a JSON Pointer (RFC 6901): the name of a member, or
// the index of an element.
type pointerStep struct {
	name  *ast.Term
	index int // negative: it is none
}

// NewShare returns the part of percent, above 0 and at most 100, of the subjects
// that pointer, a JSON Pointer into the input, finds. Shares of another name
// have other subjects in them.
func NewShare(name, pointer string, percent float64) (*Share, error) {
	if !(percent > 0 && percent <= 100) {
		return nil, fmt.Errorf("share of %v percent: it must be above 0 and at most 100", percent)
	}
	s := &Share{name: name, all: percent == 100}
	if !s.all {
		s.limit = uint64(percent / 100 * math.MaxUint64)
	}
	if pointer == "" {
		return s, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("pointer %q: it must begin with a slash (RFC 6901)", pointer)
	}
	for part := range strings.SplitSeq(pointer[1:], "/") {
		step := pointerStep{name: ast.StringTerm(strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")), index: -1}
		if n, err := strconv.Atoi(part); err == nil && strconv.Itoa(n) == part {
			step.index = n
		}
		if s.pointer = append(s.pointer, step); len(s.pointer) > maxPointer {
			return nil, fmt.Errorf("pointer %q: it has more than %d steps", pointer, maxPointer)
		}
	}
	return s, nil
}

// Has tells whether the subject of an input is in the share. One that the
// pointer does not find, or that is no string, number or boolean, is not.
func (s *Share) Has(input ast.Value) bool {
	v := input
	for _, step := range s.pointer {
		var t *ast.Term
		switch at := v.(type) {
		case ast.Object:
			t = at.Get(step.name)
		case *ast.Array:
			if step.index >= 0 && step.index < at.Len() {
				t = at.Elem(step.index)
			}
		}
		if t == nil {
			return false
		}
		v = t.Value
	}
	var room [256]byte
	text := append(append(room[:0], s.name...), 0)
	switch v := v.(type) {
	case ast.String:
		text = append(append(text, 's'), v...)
	case ast.Number:
		text = append(append(text, 'n'), v...)
	case ast.Boolean:
		text = strconv.AppendBool(append(text, 'b'), bool(v))
	default:
		return false
	}
	if s.all {
		return true
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:]) < s.limit
}
