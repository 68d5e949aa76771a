package verify

import (
	"encoding/json"
	"slices"

	"github.com/verdict-pdp/verdict/audit/chain"
)

const (
	eventGenesis   = "system.genesis"
	eventClockStep = "system.clock_step"

	// progressEvery is the number of records between two calls of Progress.
	progressEvery = 1 << 16
)

// tile extends the chain by the records of a batch.
func (r *run) tile(b *batch) {
	base := r.first >> r.lay.tile
	for i := range b.entries {
		e := &b.entries[i]
		if e.key > r.next {
			r.skip(e.key)
		}
		r.record(b, e)
		r.head = chain.Next(r.head, e.leaf)
		if r.doubt != nil {
			r.doubt.head = chain.Next(r.doubt.head, e.leaf)
		}
		r.tail = append(r.tail, e.leaf)
		r.unproven++
		r.next = e.key + 1
		r.read++
		if r.read%progressEvery == 0 && r.opts.Progress != nil {
			r.opts.Progress(r.read, r.rep.TotalEvents)
		}
	}
	for _, ref := range b.refs {
		r.want(ref)
	}
	if r.next&(1<<r.lay.tile-1) == 0 && len(b.entries) > 0 {
		r.boundary(b.tile-base, b.root)
	}
}

// skip notes that the records from next up to to are missing, and goes on behind
// them from what the tiles say.
func (r *run) skip(to uint64) {
	r.missing(to, false)
	r.advance(to)
}

func (r *run) missing(to uint64, atEnd bool) {
	r.find(r.next, to-1, KindRecordMissing, "no such record, and the log goes on to %d", max(r.stated(), to)-1)
	if n := len(r.rep.Errors) - 1; atEnd && r.rep.ErrorsTotal <= keptFindings {
		r.rep.Errors[n].result = resultOf(KindRecordMissing, true)
		r.rep.Errors[n].Detail = "the log ends before the end that it states"
	}
}

func (r *run) advance(to uint64) {
	mask := uint64(1)<<r.lay.tile - 1
	for r.next < to {
		r.broken, r.headKnown, r.timeKnown, r.doubt, r.unproven = true, false, false, nil, 0
		if r.next = min(to, r.next|mask+1); r.next&mask == 0 {
			r.boundary((r.next-1-r.first)>>r.lay.tile, chain.Hash{})
		}
	}
}

// record checks one record by itself and against the one before.
func (r *run) record(b *batch, e *entry) {
	bad := func(kind, detail string, args ...any) {
		r.find(e.key, e.key, kind, detail, args...)
		r.noted = append(r.noted, e.key)
	}
	was, wasKnown := r.time, r.timeKnown
	r.time, r.timeKnown = e.time, false
	switch {
	case e.large:
		bad(KindRecordMalformed, "the record is larger than %d bytes", maxRecord)
		return
	case !e.prefix:
		bad(KindRecordMalformed, "the record does not start with its number and time")
		return
	case e.seq != e.key:
		bad(KindRecordSwapped, "the record says that it is record %d", e.seq)
		return
	case !e.json:
		bad(KindRecordMalformed, "the record is not one JSON object")
		return
	case e.key == 0 && event(b.record(e)) != eventGenesis:
		bad(KindRecordMalformed, "record 0 is not %s", eventGenesis)
	}
	r.timeKnown = true
	if wasKnown && e.time < was && event(b.record(e)) != eventClockStep {
		r.find(e.key, e.key, KindTimeWentBack, "the record is %d us older than the one before, and not %s", was-e.time, eventClockStep)
	}
	if e.key&(1<<r.lay.segment-1) == 0 {
		r.segTime, r.segTimeKnow = e.time, true
	}
}

func event(rec []byte) string {
	var v struct {
		Event string `json:"event"`
	}
	_ = json.Unmarshal(rec, &v) // what is no JSON has no event
	return v.Event
}

// boundary compares the end of tile i of the file with its stored row. root is
// the computed root, of no meaning when the tile lacks a record.
func (r *run) boundary(i uint64, root chain.Hash) {
	w := &r.tiles[i]
	from := r.first + i<<r.lay.tile
	switch {
	case !w.present && r.broken: // what is missing was noted
		r.localKnown = false
	case !w.present:
		r.find(from, r.next-1, KindTile, "the row of tile %d is missing", from>>r.lay.tile)
	case r.broken:
		root, r.head, r.headKnown = w.root, w.head, true
	default:
		root = r.compare(w, from, root)
	}
	if r.localKnown {
		r.localKnown = r.local.AppendSubtree(r.lay.tile, root) == nil
	}
	if r.next&(1<<r.lay.segment-1) == 0 {
		r.segment((r.next - 1 - r.first) >> r.lay.segment)
	}
	r.tail, r.noted, r.broken = r.tail[:0], r.noted[:0], false
}

// compare compares a tile that has all its records with its row, and returns the
// root to go on with, so that one fault does not make others of all that follow.
func (r *run) compare(w *row, from uint64, root chain.Hash) chain.Hash {
	rootOK, headOK := root == w.root, !r.headKnown || r.head == w.head
	if !headOK && r.doubt != nil && r.doubt.head == w.head {
		r.settle()
		headOK = true
	}
	switch {
	case rootOK && headOK:
		r.head, r.headKnown = w.head, true
		r.doubt = nil
		r.proven()
		r.checkMarks(w.marks, from, r.next, KindTile)
	case rootOK:
		r.find(r.next-1, r.next-1, KindTile, "the stored head of tile %d is not that of its records", from>>r.lay.tile)
		r.doubt = &doubt{head: w.head, finding: -1}
		r.unproven = 0
	case headOK:
		r.find(from, r.next-1, KindTile, "the stored root of tile %d is not that of its records", from>>r.lay.tile)
		r.doubt = nil
		r.proven()
	default:
		at := r.altered(w.marks, from, r.next)
		r.doubt = &doubt{head: r.head, finding: at}
		r.head, r.unproven = w.head, 0
		return w.root
	}
	return root
}

// proven counts the records up to here as verified.
func (r *run) proven() {
	r.rep.VerifiedEvents += r.unproven
	r.unproven = 0
}

// settle decides a doubt for its head: not the records were altered but the row
// of their tile.
func (r *run) settle() {
	r.head = r.doubt.head
	if i := r.doubt.finding; i >= 0 && i < len(r.rep.Errors) {
		f := &r.rep.Errors[i]
		f.Kind, f.Detail = KindTile, "the stored row of the tile is not that of its records"
		r.localKnown, r.wholeKnown = false, false // they took the row for true
	}
	r.doubt = nil
}

// altered notes which of the records [from, to) are not what was hashed: by their
// marks where there are any, else all. It returns the index of a finding that may
// have to be revised, or -1.
func (r *run) altered(marks []byte, from, to uint64) int {
	exact := false
	for i, leaf := range r.tail {
		seq := from + uint64(i)
		if len(marks) != markSize*len(r.tail) || string(leaf[:markSize]) == string(marks[markSize*i:][:markSize]) {
			continue
		}
		exact = true
		if !slices.Contains(r.noted, seq) {
			r.find(seq, seq, KindRecordAltered, "the record is not what was hashed when it was written")
		}
	}
	if exact || len(r.noted) > 0 {
		return -1
	}
	r.find(from, to-1, KindRecordAltered, "one or more of these records are not what was hashed when they were written")
	return len(r.rep.Errors) - 1
}

// checkMarks compares marks with records that are known to be right.
func (r *run) checkMarks(marks []byte, from, to uint64, kind string) {
	if marks == nil {
		return
	}
	if len(marks) != markSize*len(r.tail) {
		r.find(from, to-1, kind, "there are marks of %d records, not %d", len(marks)/markSize, len(r.tail))
		return
	}
	for i, leaf := range r.tail {
		if string(leaf[:markSize]) != string(marks[markSize*i:][:markSize]) {
			seq := from + uint64(i)
			r.find(seq, seq, kind, "the mark of the record is not that of its hash")
		}
	}
}

// segment compares the end of segment i of the file with its row.
func (r *run) segment(i uint64) {
	w := &r.segs[i]
	from, last := r.first+i<<r.lay.segment, r.next-1
	bad := func(detail string) { r.find(from, last, KindSegment, "segment %d: %s", from>>r.lay.segment, detail) }
	if !w.present {
		if !r.broken {
			bad("the row is missing")
		}
		return
	}
	if r.headKnown && r.head != w.head && (r.doubt == nil || r.doubt.head != w.head) {
		bad("the stored head is not that of its records")
	}
	if root, ok := r.local.Last(r.lay.segment); r.localKnown && ok && root != w.root {
		bad("the stored root is not that of its records")
	}
	if r.timeKnown && r.time != w.last || r.segTimeKnow && r.segTime != w.first {
		bad("the stored times are not those of its first and last record")
	}
	r.segTimeKnow = false
}
