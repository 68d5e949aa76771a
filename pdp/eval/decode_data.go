package eval

import (
	"hash/maphash"
	"math"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// dataDepth is encoding/json's own bound, which OPA's data files have too.
	dataDepth = 10_000

	// sharedSlots is how many values a data document is searched for at a time
	// when one comes again, and maxShared how long the JSON text of such a value
	// may be.
	sharedSlots = 1 << 14
	maxShared   = 128
)

// ParseData reads a data document, which is trusted to be as large as it is and
// lives as long as a snapshot: values that occur again and again (role names,
// short lists of them) are made once and shared. The error is always an
// *InputError.
func ParseData(b []byte) (ast.Value, error) {
	p := parser{
		b: b, lim: Limits{Depth: dataDepth, Members: math.MaxInt, NumberDigits: DefaultNumberDigits},
		shared: &sharedTerms{seed: maphash.MakeSeed(), slots: make([]sharedTerm, sharedSlots)},
	}
	p.space()
	if p.i == len(b) {
		return nil, &InputError{Kind: InputEmpty, Offset: p.i, Message: "EOF"}
	}
	t, err := p.term(0)
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i < len(b) {
		return nil, p.invalid("after top-level value")
	}
	return t.Value, nil
}

// sharedTerms remembers values by their JSON text, the latest in each slot.
type sharedTerms struct {
	seed  maphash.Seed
	slots []sharedTerm
}

type sharedTerm struct {
	text string
	term *ast.Term
}

// slot returns the place of a text; nil when there is nothing to share.
func (s *sharedTerms) slot(text []byte) *sharedTerm {
	if s == nil || len(text) > maxShared {
		return nil
	}
	return &s.slots[maphash.Bytes(s.seed, text)%sharedSlots]
}

// share returns the term that stands for the text from start to the cursor: one
// made earlier, or t.
func (p *parser) share(start int, t *ast.Term) *ast.Term {
	text := p.b[start:p.i]
	slot := p.shared.slot(text)
	if slot == nil {
		return t
	}
	if slot.term == nil || slot.text != string(text) {
		slot.text, slot.term = string(text), t
	}
	return slot.term
}
