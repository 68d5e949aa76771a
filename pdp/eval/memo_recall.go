package eval

import (
	"hash/maphash"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// slotState is what one query knows about a document.
type slotState uint8

const (
	slotFresh     slotState = iota // not asked for yet
	slotMissed                     // asked for, not in the memo
	slotValue                      // has a value
	slotUndefined                  // is undefined
)

type slot struct {
	state slotState
	value *ast.Term
}

// pendingKey is a key that was looked for in vain; what the document turns out
// to be is kept under it when the query has succeeded.
type pendingKey struct {
	entry    *Entry
	hash     uint64
	from, to int // in keys.buf
}

// Recall is one query's view of a Memo. It is the evaluator's cache of rule
// results, and answers from the memo what the query has not evaluated itself. It
// must not be used where more than the value of a query is of interest: what is
// recalled leaves no trace and calls no built-in.
//
// A Recall belongs to one goroutine, from Begin to End.
type Recall struct {
	memo   *Memo
	entry  *Entry
	strict bool
	input  ast.Term // its value is nil when there is no input

	answer *memoEntry // of the whole query
	asked  int        // index of the whole query's key in pending; -1 without

	slots   []slot // of the documents, by Entry.slot
	touched []int  // slots that are not fresh

	keys    keyEncoder
	pending []pendingKey

	// other holds what is no document of its own, such as calls of functions;
	// nil until it is needed. with replaces everything while a with modifier is
	// in force, which may change the input, the data and the rules.
	other topdown.VirtualCache
	with  topdown.VirtualCache
	depth int // nested with modifiers
}

// Begin returns the view of a query for the document of e. Strict tells that an
// error of a built-in fails the query; such results are kept apart. The input is
// nil when there is none.
func (m *Memo) Begin(e *Entry, input ast.Value, strict bool) *Recall {
	r, _ := m.unused.Get().(*Recall)
	if r == nil {
		r = &Recall{memo: m, slots: make([]slot, m.reaches.slots)}
		r.keys.each = r.keys.member
	}
	r.entry, r.input.Value, r.strict, r.asked = e, input, strict, -1
	found, missed := r.recall(e)
	if missed {
		r.asked = len(r.pending) - 1
	}
	if r.answer = found; found == nil && e.slot >= 0 {
		r.mark(e.slot, slotMissed, nil)
	}
	return r
}

// Answer returns the result of the whole query if it was kept; a nil value means
// that it is undefined. The value is shared and must not be changed.
func (r *Recall) Answer() (v ast.Value, ok bool) {
	if r.answer == nil {
		return nil, false
	}
	if r.answer.value == nil {
		return nil, true
	}
	return r.answer.value.Value, true
}

// End gives up the view, which must not be used any more. When ok is true the
// query ran to its end without any error, v is its result (nil if undefined),
// and what it found out is kept. Otherwise nothing is: a rule's value may have
// been stored before a conflict was seen.
func (r *Recall) End(v ast.Value, ok bool) {
	if ok {
		for i := range r.pending {
			r.publish(i, v)
		}
	}
	for _, i := range r.touched {
		r.slots[i] = slot{}
	}
	clear(r.pending)
	r.touched, r.pending, r.keys.buf = r.touched[:0], r.pending[:0], r.keys.buf[:0]
	r.entry, r.input.Value, r.answer = nil, nil, nil
	r.other, r.with, r.depth = nil, nil, 0
	r.memo.unused.Put(r)
}

// publish keeps the result for a key that was missed, if there is one.
func (r *Recall) publish(i int, result ast.Value) {
	p := &r.pending[i]
	var value *ast.Term
	switch {
	case i == r.asked:
		if result != nil {
			value = ast.NewTerm(result)
		}
	case p.entry.slot < 0 || r.slots[p.entry.slot].state == slotMissed:
		return
	default:
		value = r.slots[p.entry.slot].value
	}
	r.memo.insert(p.hash, r.keys.buf[p.from:p.to], value)
}

// recall looks for the result of e. If there is none, missed tells that its key
// was left in pending.
func (r *Recall) recall(e *Entry) (found *memoEntry, missed bool) {
	if !e.worthwhile() {
		return nil, false
	}
	e.spell()
	from := len(r.keys.buf)
	input := &r.input
	if input.Value == nil {
		input = nil
	}
	if !r.keys.key(e, input, r.strict) {
		e.miss()
		r.keys.buf = r.keys.buf[:from]
		return nil, false
	}
	key := r.keys.buf[from:]
	hash := maphash.Bytes(r.memo.seed, key)
	if found = r.memo.find(hash, key); found != nil {
		e.hit()
		r.keys.buf = r.keys.buf[:from]
		return found, false
	}
	e.miss()
	r.pending = append(r.pending, pendingKey{entry: e, hash: hash, from: from, to: len(r.keys.buf)})
	return nil, true
}

func (r *Recall) mark(i int, state slotState, value *ast.Term) {
	if r.slots[i].state == slotFresh {
		r.touched = append(r.touched, i)
	}
	r.slots[i] = slot{state: state, value: value}
}

// Get is part of topdown.VirtualCache.
func (r *Recall) Get(ref ast.Ref) (*ast.Term, bool) {
	if r.with != nil {
		return r.with.Get(ref)
	}
	e := r.memo.reaches.document(ref)
	if e == nil {
		if r.other == nil {
			return nil, false
		}
		return r.other.Get(ref)
	}
	s := &r.slots[e.slot]
	if s.state == slotFresh {
		found, _ := r.recall(e)
		switch {
		case found == nil:
			r.mark(e.slot, slotMissed, nil)
		case found.value == nil:
			r.mark(e.slot, slotUndefined, nil)
		default:
			r.mark(e.slot, slotValue, found.value)
		}
	}
	return s.value, s.state == slotUndefined
}

// Put is part of topdown.VirtualCache.
func (r *Recall) Put(ref ast.Ref, value *ast.Term) {
	if r.with != nil {
		r.with.Put(ref, value)
		return
	}
	e := r.memo.reaches.document(ref)
	switch {
	case e == nil:
		if r.other == nil {
			r.other = topdown.NewVirtualCache()
		}
		r.other.Put(ref, value)
	case value == nil:
		r.mark(e.slot, slotUndefined, nil)
	default:
		r.mark(e.slot, slotValue, value)
	}
}

// Push is part of topdown.VirtualCache.
func (r *Recall) Push() {
	if r.depth++; r.depth == 1 {
		r.with = topdown.NewVirtualCache()
		return
	}
	r.with.Push()
}

// Pop is part of topdown.VirtualCache.
func (r *Recall) Pop() {
	if r.depth--; r.depth == 0 {
		r.with = nil
		return
	}
	r.with.Pop()
}

// Keys is part of topdown.VirtualCache.
func (r *Recall) Keys() []ast.Ref {
	if r.with != nil {
		return r.with.Keys()
	}
	var refs []ast.Ref
	if r.other != nil {
		refs = r.other.Keys()
	}
	return append(refs, r.memo.reaches.held(r.slots)...)
}
