package eval

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
)

const (
	// DefaultMemoBytes bounds a Memo when nothing else is asked for.
	DefaultMemoBytes = 16 << 20

	// maxMemoKey and maxMemoValue are the sizes up to which a result is worth
	// keeping: what reads or makes more is cheaper to evaluate than to store.
	maxMemoKey   = 1 << 10
	maxMemoValue = 4 << 10

	memoEntryBytes = 256 // table slots are made for entries of this size
	memoOverhead   = 112 // what an entry takes beside its key and value
	memoWays       = 4   // entries that may stand in place of one another
	maxSweep       = 256 // table slots one insertion may look at to make room

	// A document that has been missed this often more than it was hit eight
	// times is left alone for a while: its inputs do not repeat.
	memoCredit = 1 << 16
	memoGain   = 8
	memoPause  = 4 * memoCredit
)

// Memo keeps results of deterministic documents: of rules, while a query is
// evaluated, and of whole queries. A result is found by the values of the parts
// of the input that it can depend on, compared in full. A Memo belongs to one
// snapshot and is thrown away with it, so nothing in it can be out of date.
//
// It is a table of atomic pointers without locks. Its methods may be called from
// any goroutine.
type Memo struct {
	reaches *Reaches
	seed    maphash.Seed
	budget  int64 // bytes for entries
	size    int   // of the table, a power of two

	table  atomic.Pointer[[]atomic.Pointer[memoEntry]] // made by the first insertion
	used   atomic.Int64                                // bytes of all entries in the table
	hand   atomic.Uint32                               // where to make room next
	unused sync.Pool                                   // of *Recall
}

// Entry is a document whose results a Memo can keep. It is made by Reaches, is
// valid for every Memo over them and safe for concurrent use.
type Entry struct {
	ref  ast.Ref
	id   uint32
	slot int // among the documents of the rule tree; -1 for any other ref

	summary       *summary
	deterministic bool
	opaque        bool      // of the Reaches
	spelled       sync.Once // guards reach and want, which few entries need
	reach         Reach
	want          projection

	credit atomic.Int32 // see worthwhile
}

// memoEntry is one kept result; only touched changes once it is published.
type memoEntry struct {
	hash    uint64
	key     string
	value   *ast.Term // nil: undefined
	cost    int64
	touched atomic.Bool // found since it was last passed over for eviction
}

// NewMemo returns an empty memo for the rules behind r. It takes at most about
// the given number of bytes; zero means DefaultMemoBytes.
func NewMemo(r *Reaches, maxBytes int) *Memo {
	if maxBytes <= 0 {
		maxBytes = DefaultMemoBytes
	}
	size := 1 << bits.Len(uint(max(maxBytes/memoEntryBytes, 2*memoWays)-1))
	return &Memo{reaches: r, seed: maphash.MakeSeed(), budget: int64(maxBytes), size: size}
}

// Entry returns what stands for the document at ref in a Memo. Make it once for
// a ref and keep it: it learns whether keeping results pays.
func (r *Reaches) Entry(ref ast.Ref) *Entry {
	if e := r.document(ref); e != nil {
		return e
	}
	return r.newEntry(ref, r.union(ref))
}

func (r *Reaches) newEntry(ref ast.Ref, s *summary) *Entry {
	e := &Entry{ref: ref, id: r.ids.Add(1), slot: -1, summary: s, deterministic: !s.anyhow && !r.opaque, opaque: r.opaque}
	e.credit.Store(memoCredit)
	return e
}

// Reach returns what the document can depend on.
func (e *Entry) Reach() Reach {
	e.spell()
	return e.reach
}

func (e *Entry) spell() {
	e.spelled.Do(func() {
		e.reach = Reach{Inputs: e.summary.inputs.refs(), Deterministic: e.deterministic, Unrecorded: e.summary.unkept || e.opaque}
		e.want = project(&e.summary.inputs)
	})
}

// worthwhile tells whether to look for e's results now. The counter goes down
// to zero with misses, then to the end of the pause, and begins anew.
func (e *Entry) worthwhile() bool {
	if !e.deterministic {
		return false
	}
	if e.credit.Load() > 0 {
		return true
	}
	if e.credit.Add(-1) < -memoPause {
		e.credit.Store(memoCredit)
	}
	return false
}

func (e *Entry) hit() {
	if e.credit.Load() < memoCredit {
		e.credit.Add(memoGain)
	}
}

func (e *Entry) miss() { e.credit.Add(-1) }

// find returns the entry of a key, or nil.
func (m *Memo) find(hash uint64, key []byte) *memoEntry {
	table := m.table.Load()
	if table == nil {
		return nil
	}
	for i := range memoWays {
		e := (*table)[m.way(hash, i)].Load()
		if e != nil && e.hash == hash && e.key == string(key) {
			if !e.touched.Load() {
				e.touched.Store(true)
			}
			return e
		}
	}
	return nil
}

func (m *Memo) way(hash uint64, i int) int {
	return int(hash)&(m.size-1)&^(memoWays-1) | i
}

// insert keeps a result: a copy that shares no memory with value.
func (m *Memo) insert(hash uint64, key []byte, value *ast.Term) {
	own, size := ownTerm(value)
	if own == nil && value != nil {
		return
	}
	e := &memoEntry{hash: hash, key: string(key), value: own, cost: int64(size + len(key) + memoOverhead)}
	table := m.table.Load()
	if table == nil {
		fresh := make([]atomic.Pointer[memoEntry], m.size)
		m.table.CompareAndSwap(nil, &fresh)
		table = m.table.Load()
	}
	m.put(&(*table)[m.victim(*table, hash, key)], e)
	for i := 0; i < maxSweep && m.used.Load() > m.budget; i++ {
		at := &(*table)[int(m.hand.Add(1))&(m.size-1)]
		if old := at.Load(); old != nil && old != e && at.CompareAndSwap(old, nil) {
			m.used.Add(-old.cost)
		}
	}
}

// put stores e and takes what stood there off the count.
func (m *Memo) put(at *atomic.Pointer[memoEntry], e *memoEntry) {
	m.used.Add(e.cost)
	if old := at.Swap(e); old != nil {
		m.used.Add(-old.cost)
	}
}

// victim chooses where a key goes: where it already is, else where nothing is,
// else where nothing was found lately.
func (m *Memo) victim(table []atomic.Pointer[memoEntry], hash uint64, key []byte) int {
	best, rank := m.way(hash, int(hash>>62)), 0
	for i := range memoWays {
		at := m.way(hash, i)
		switch e := table[at].Load(); {
		case e == nil:
			if rank < 2 {
				best, rank = at, 2
			}
		case e.hash == hash && e.key == string(key):
			return at
		case !e.touched.Load():
			if rank < 1 {
				best, rank = at, 1
			}
		default:
			e.touched.Store(false)
		}
	}
	return best
}
