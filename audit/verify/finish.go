package verify

import (
	"fmt"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// finish compares what a file states about its end with its records.
func (r *run) finish() {
	m := &r.meta
	if r.extra[1] != 0 {
		r.find(r.extra[0], r.extra[1], KindRecordExtra, "there are records behind the stated end %d", m.next)
	}
	due := r.next
	if m.known["next"] {
		due = m.next
	}
	if !r.lastFile {
		due = r.end // a later file says that this one is full
	}
	if r.next < due {
		r.missing(due, r.lastFile)
		r.advance(due)
	}
	r.checkEnd()
	if !r.headKnown && m.known["head"] && r.next == m.next {
		r.head, r.headKnown = m.head, true
	}
	full := r.next == r.end
	if m.sealed && !full {
		r.find(r.next, r.next, KindMeta, "the file is sealed and not full")
	}
	if root, ok := r.local.Last(r.lay.file); full && r.wholeKnown && r.localKnown && ok {
		r.wholeKnown = r.whole.AppendSubtree(r.lay.file, root) == nil
		r.local = chain.Tree{}
	} else if full {
		r.wholeKnown = false
	}
}

// checkEnd compares head, tree and time in bucket meta with those computed. The
// records since the last complete tile are covered by nothing else.
func (r *run) checkEnd() {
	m := &r.meta
	if !m.known["next"] || r.next != m.next {
		return
	}
	last := max(r.next, r.first+1) - 1
	headOK := !r.headKnown || !m.known["head"] || r.head == m.head
	if !headOK && r.doubt != nil && r.doubt.head == m.head {
		r.settle()
		headOK = true
	}
	tailFrom := r.next - uint64(len(r.tail))
	bad, tailBad := r.checkTree()
	switch {
	case r.broken: // a record is missing, as was said
	case !headOK && tailBad:
		if !r.locate(bad, tailFrom) {
			r.altered(m.marks, tailFrom, r.next)
		}
		r.unproven = 0
	case !headOK:
		r.find(last, last, KindHead, "the stored head is not that of the records")
		r.unproven = 0
	case bad != nil:
		r.find(bad.from, bad.last, KindMeta, "bucket meta: tree is not that of the records")
	}
	if headOK && !r.broken {
		r.proven()
		if m.known["marks"] {
			r.checkMarks(m.marks, tailFrom, r.next, KindMeta)
		}
	}
	if m.known["time"] && r.timeKnown && m.time != r.time {
		r.find(last, last, KindMeta, "bucket meta: time is not that of the last record")
	}
}

// span is a run of records.
type span struct{ from, last uint64 }

// checkTree compares the stored compact range with the computed one. It returns
// the records under the first subtree that differs, and whether they lie in the
// unfinished tile.
func (r *run) checkTree() (bad *span, inTail bool) {
	if !r.meta.known["tree"] || r.broken {
		return nil, false
	}
	for _, leaf := range r.tail {
		r.local.Append(leaf)
	}
	computed := map[int]chain.Hash{}
	if r.localKnown {
		for _, p := range parts(&r.local) {
			computed[p.level] = p.root
		}
	}
	whole := r.whole
	if r.local.Size() == 1<<r.lay.file { // it now counts with the complete files
		if root, ok := r.local.Last(r.lay.file); ok && r.localKnown {
			delete(computed, r.lay.file)
			r.wholeKnown = r.wholeKnown && whole.AppendSubtree(r.lay.file, root) == nil
		}
	}
	if r.wholeKnown {
		for _, p := range parts(&whole) {
			computed[p.level] = p.root
		}
	}
	from := uint64(0)
	for _, p := range r.meta.tree {
		if root, ok := computed[p.level]; ok && root != p.root {
			return &span{from, from + 1<<p.level - 1}, p.level < r.lay.tile
		}
		from += 1 << p.level
	}
	return nil, false
}

// locate narrows an alteration in the unfinished tile by the stored compact
// range, when there are no marks. It reports whether it made a finding.
func (r *run) locate(bad *span, tailFrom uint64) bool {
	if len(r.meta.marks) > 0 || len(r.noted) > 0 || bad.from < tailFrom {
		return false
	}
	detail := "one or more of these records are not what was hashed when they were written"
	if bad.from == bad.last {
		detail = "the record is not what was hashed when it was written"
	}
	r.find(bad.from, bad.last, KindRecordAltered, "%s", detail)
	return true
}

// wholeTree returns the tree over the whole log.
func (r *run) wholeTree() chain.Tree {
	t := r.whole
	for _, p := range parts(&r.local) {
		if err := t.AppendSubtree(p.level, p.root); err != nil {
			panic(fmt.Sprintf("verify: the parts of a tree do not fit: %v", err)) // the sizes were checked
		}
	}
	return t
}
