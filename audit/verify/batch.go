package verify

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/verdict-pdp/verdict/audit/chain"
)

const (
	// maxRecord is the largest record of the format, in bytes.
	maxRecord = 1<<16 - 1
	// markSize is the number of bytes of a leaf hash that a mark keeps.
	markSize = 4
	// workers hash records; one goroutine beside them reads and one record after the
	// other extends the chain.
	workers = 2
	// ahead is the number of tiles that are read ahead of the chain.
	ahead = workers + 1
)

// entry is one record of a batch. Read by the reader, then filled by a worker.
type entry struct {
	key        uint64
	start, end int // of the bytes in the batch's buffer

	large  bool // too large to be kept; the leaf was computed when it was read
	leaf   chain.Hash
	seq    uint64 // as the record itself says
	time   int64
	prefix bool // it starts as a record must
	json   bool
}

// ref is a reference of a record to a blob.
type ref struct {
	seq  uint64
	sum  chain.Hash
	size uint64
}

// batch holds the records of one tile. Reader, worker and chain have it in turn.
type batch struct {
	tile    uint64
	buf     []byte
	entries []entry

	root chain.Hash // of the leaves, when all are there
	refs []ref
	done chan struct{}
}

func (b *batch) reset(tile uint64) {
	b.tile, b.buf, b.entries, b.refs = tile, b.buf[:0], b.entries[:0], b.refs[:0]
}

func (b *batch) add(key uint64, rec []byte) {
	if len(rec) > maxRecord {
		b.entries = append(b.entries, entry{key: key, large: true, leaf: chain.Leaf(rec)})
		return
	}
	start := len(b.buf)
	b.buf = append(b.buf, rec...)
	b.entries = append(b.entries, entry{key: key, start: start, end: len(b.buf)})
}

func (b *batch) record(e *entry) []byte { return b.buf[e.start:e.end] }

// pool hashes batches.
type pool struct {
	in   chan *batch
	all  sync.WaitGroup
	idle []*batch
}

func (p *pool) start() {
	p.in = make(chan *batch, ahead)
	for range workers {
		p.all.Go(func() { // ends with stop
			w := worker{}
			for b := range p.in {
				w.work(b)
				b.done <- struct{}{}
			}
		})
	}
	for range ahead {
		p.idle = append(p.idle, &batch{done: make(chan struct{}, 1)})
	}
}

func (p *pool) stop() {
	close(p.in)
	p.all.Wait()
}

type worker struct {
	json  checker
	nodes []chain.Hash
}

func (w *worker) work(b *batch) {
	w.nodes = w.nodes[:0]
	for i := range b.entries {
		e := &b.entries[i]
		if !e.large {
			rec := b.record(e)
			e.leaf = chain.Leaf(rec)
			e.seq, e.time, e.prefix = parsePrefix(rec)
			e.json = w.json.valid(rec)
			if bytes.Contains(rec, refEnd) && bytes.Contains(rec, refStart) {
				b.refs = appendRefs(b.refs, e.key, rec)
			}
		}
		w.nodes = append(w.nodes, e.leaf)
	}
	// Of use for a whole tile only, whose size is a power of two.
	if n := len(w.nodes); n&(n-1) == 0 && n > 0 {
		for ; n > 1; n /= 2 {
			for i := range n / 2 {
				w.nodes[i] = chain.Node(w.nodes[2*i], w.nodes[2*i+1])
			}
		}
		b.root = w.nodes[0]
	}
}

// A member too large for a record is replaced by
//
//	{"sha256":"64 hex digits","size":N,"blob":true}
//
// or, where a list is due, by a list of this one object. What a caller sent is
// recorded with its keys in order and so never has this form.
var (
	refStart = []byte(`{"sha256":"`)
	refSize  = []byte(`","size":`)
	refEnd   = []byte(`,"blob":true}`)
)

func appendRefs(dst []ref, seq uint64, rec []byte) []ref {
	var members map[string]json.RawMessage
	if json.Unmarshal(rec, &members) != nil {
		return dst
	}
	for _, m := range members {
		if len(m) > 1 && m[0] == '[' {
			m = m[1 : len(m)-1]
		}
		if sum, size, ok := parseRef(m); ok {
			dst = append(dst, ref{seq: seq, sum: sum, size: size})
		}
	}
	return dst
}

func parseRef(m []byte) (sum chain.Hash, size uint64, ok bool) {
	m, found := bytes.CutPrefix(m, refStart)
	if !found || len(m) < 2*chain.HashSize {
		return sum, 0, false
	}
	if _, err := hex.Decode(sum[:], m[:2*chain.HashSize]); err != nil {
		return sum, 0, false
	}
	m, found = bytes.CutPrefix(m[2*chain.HashSize:], refSize)
	digits, found2 := bytes.CutSuffix(m, refEnd)
	size, err := strconv.ParseUint(string(digits), 10, 64)
	return sum, size, found && found2 && err == nil
}
