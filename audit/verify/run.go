package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// run is one verification. It belongs to the goroutine that calls Run; the
// workers of its pool own a batch between submit and done.
type run struct {
	ctx  context.Context // of Run, which ends before it does
	src  Source
	opts Options
	lay  layout
	rep  Report
	read uint64
	pool pool

	// The file.
	name       string
	first, end uint64 // the records that it may hold
	meta       meta
	lastFile   bool
	tiles      []row
	segs       []row
	refs       map[chain.Hash]wanted
	extra      [2]uint64       // records behind the stated end, first and last
	strange    map[string]bool // buckets in which a foreign key was found
	due        uint64          // the record that the reader expects, ahead of next

	// The pipeline.
	cur   *batch   // being filled
	queue []*batch // being hashed, oldest first

	state
}

// state is what is known of the log up to a record.
type state struct {
	next      uint64     // number of the record that is due
	head      chain.Hash // computed up to it
	headKnown bool
	unproven  uint64 // records since the last head that matched a stored one
	// doubt holds the other candidate for the head, after a tile whose hashes did not
	// match its row: either its records were altered or the row. The next stored
	// head tells.
	doubt *doubt

	whole       chain.Tree // over complete files
	wholeKnown  bool
	local       chain.Tree // over this file; its size counts from first
	localKnown  bool
	tail        []chain.Hash // leaves since the last complete tile
	broken      bool         // the tile at hand lacks a record
	noted       []uint64     // its records that have a finding already
	time        int64        // of record next-1
	timeKnown   bool
	segTime     int64 // of the first record of the segment
	segTimeKnow bool
}

type doubt struct {
	head    chain.Hash
	finding int // index in the report; what it is about is settled later
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// log verifies all files.
func (r *run) log() error {
	files, err := r.src.Files(r.ctx)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return ErrEmpty
	}
	r.wholeKnown = true
	due := uint64(0)
	for i, n := range files {
		r.lastFile = i == len(files)-1
		if n > due {
			r.missingFiles(due, n)
		}
		goOn, err := r.file(n)
		if err != nil || !goOn {
			return err
		}
		due = n + 1
	}
	if r.next == 0 && r.rep.ErrorsTotal == 0 {
		return ErrEmpty
	}
	r.rep.TotalEvents = max(r.rep.TotalEvents, r.next)
	return nil
}

func (r *run) missingFiles(from, to uint64) {
	first, last := from<<r.lay.file, to<<r.lay.file-1
	r.name = fileName(from)
	names := fileName(from)
	if to-from > 1 {
		names += " to " + fileName(to-1)
	}
	r.find(first, last, KindFileMissing, "%s not there, and %s is", names, fileName(to))
	r.lose()
}

// lose forgets what the records before tell about those that come.
func (r *run) lose() {
	r.headKnown, r.wholeKnown, r.timeKnown, r.doubt, r.unproven = false, false, false, nil, 0
}

func fileName(n uint64) string { return fmt.Sprintf("%08d.db", n) }

// file verifies one file. It returns false when nothing behind it can be read.
func (r *run) file(n uint64) (goOn bool, err error) {
	r.name, r.first, r.end = fileName(n), n<<r.lay.file, (n+1)<<r.lay.file
	r.next, r.local, r.localKnown, r.tail = r.first, chain.Tree{}, true, r.tail[:0]
	r.broken, r.noted, r.segTimeKnow = false, r.noted[:0], false
	r.strange = map[string]bool{}
	r.meta, r.refs, r.extra, r.due = meta{}, nil, [2]uint64{}, r.first

	buckets, flaw := r.src.Inspect(r.ctx, n)
	kind, damaged := "", false
	if flaw != nil {
		if kind, damaged = asDamage(flaw); !damaged {
			return false, flaw
		}
		if buckets == nil {
			r.damage(kind, flaw, r.first, r.end-1)
			return true, nil
		}
	}
	if len(buckets) == 0 && r.lastFile && flaw == nil {
		if n == 0 {
			return false, ErrEmpty
		}
		r.warn("file %s holds nothing yet", r.name)
		return true, nil
	}
	r.rep.Files++
	for _, b := range buckets {
		if !slices.Contains([]string{"meta", "rec", "tile", "seg", "blob"}, b) {
			r.warn("file %s: unknown bucket %q", r.name, b)
		}
	}
	ended, err := r.contents(n)
	if errors.Is(err, errNewer) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if flaw != nil && ended != kind {
		r.damage(kind, flaw, r.next, max(r.next, r.stated())-1)
	}
	return true, nil
}

var (
	// errNewer ends the verification at a file of a newer format.
	errNewer = errors.New("newer format")
	// errForeign skips a file that is another's.
	errForeign = errors.New("another file")
)

// contents verifies the buckets of a file. ended is the kind of damage that kept
// the records from being read to their end.
func (r *run) contents(n uint64) (ended string, err error) {
	err = r.begin(n)
	if errors.Is(err, errForeign) {
		r.lose()
		return "", nil
	}
	if kind, damaged := asDamage(err); damaged {
		r.damage(kind, err, r.first, r.end-1)
		return kind, nil
	}
	if err != nil {
		return "", err
	}
	err = r.src.Walk(r.ctx, n, "rec", r.entry)
	r.drain()
	if kind, damaged := asDamage(err); damaged {
		r.damage(kind, err, r.next, max(r.next+1, r.stated())-1)
		return kind, nil
	}
	if err != nil && !errors.Is(err, errStop) {
		return "", err
	}
	r.finish()
	err = r.blobs(n)
	if kind, damaged := asDamage(err); damaged {
		r.find(r.next, r.next, kind, "bucket blob: %v", err)
		return kind, nil
	}
	return "", err
}

// begin reads what a file says about itself and compares it with what is known.
func (r *run) begin(n uint64) error {
	m, problems, err := r.readMeta(n)
	r.meta = m
	if m.known["format"] && m.format > format {
		r.find(r.first, r.end-1, KindFormatNewer, "the file has format %d; this verdict knows up to %d", m.format, format)
		return errNewer
	}
	if err != nil {
		return err
	}
	if m.known["format"] && m.format != format {
		problems = append(problems, fmt.Sprintf("format is %d", m.format))
	}
	if m.known["first"] && m.first != r.first {
		r.find(r.first, r.end-1, KindMeta, "this is the file of the records from %d on", m.first)
		return errForeign
	}
	if m.known["origin"] {
		switch {
		case n == 0 || r.rep.Origin == "":
			r.rep.Origin = m.origin
		case m.origin != r.rep.Origin:
			problems = append(problems, fmt.Sprintf("origin is %q and was %q", m.origin, r.rep.Origin))
		}
	}
	if n == 0 && m.known["origin"] {
		r.head, r.headKnown = chain.Genesis(m.origin), true
	}
	if m.known["prev"] {
		if r.headKnown && m.prev != r.head {
			problems = append(problems, "prev is not the head at the end of the file before")
		}
		if !r.headKnown {
			r.head, r.headKnown = m.prev, true
		}
	}
	for _, p := range problems {
		r.find(r.first, r.first, KindMeta, "bucket meta: %s", p)
	}
	r.rep.TotalEvents = max(r.rep.TotalEvents, r.stated())
	if r.tiles, err = r.readRows(n, "tile", r.lay.tile); err != nil {
		return err
	}
	r.segs, err = r.readRows(n, "seg", r.lay.segment)
	return err
}

// stated is the end of the file as it says itself, 0 when it does not.
func (r *run) stated() uint64 {
	if r.meta.known["next"] {
		return r.meta.next
	}
	return 0
}

// entry takes one entry of bucket rec.
func (r *run) entry(key, value []byte) error {
	r.rep.Bytes += uint64(len(value))
	if len(key) != 8 {
		return r.foreign("rec", key, r.due)
	}
	seq := binary.BigEndian.Uint64(key)
	if seq < r.first || seq >= r.end {
		return r.foreign("rec", key, r.due)
	}
	if r.meta.known["next"] && seq >= r.meta.next {
		if r.opts.Live {
			return errStop
		}
		if r.extra[1] == 0 {
			r.extra[0] = seq
		}
		r.extra[1] = seq
		return nil
	}
	if r.cur == nil || r.cur.tile != seq>>r.lay.tile {
		if r.cur != nil && seq>>r.lay.tile < r.cur.tile {
			r.find(seq, seq, KindRecordExtra, "the record comes out of order")
			return nil
		}
		r.submit()
		if err := r.ctx.Err(); err != nil {
			return err
		}
		r.take(seq >> r.lay.tile)
	}
	if n := len(r.cur.entries); n > 0 && seq <= r.cur.entries[n-1].key {
		r.find(seq, seq, KindRecordExtra, "the record is there twice, or out of order")
		return nil
	}
	r.cur.add(seq, value)
	r.due = seq + 1
	return nil
}

// take starts a batch, when all are in use after the oldest went into the chain.
func (r *run) take(tile uint64) {
	if len(r.pool.idle) == 0 {
		r.chainOldest()
	}
	n := len(r.pool.idle) - 1
	r.cur, r.pool.idle = r.pool.idle[n], r.pool.idle[:n]
	r.cur.reset(tile)
}

func (r *run) submit() {
	if r.cur != nil {
		r.pool.in <- r.cur
		r.queue = append(r.queue, r.cur)
		r.cur = nil
	}
}

func (r *run) drain() {
	r.submit()
	for len(r.queue) > 0 {
		r.chainOldest()
	}
}

func (r *run) chainOldest() {
	b := r.queue[0]
	<-b.done
	r.queue = slices.Delete(r.queue, 0, 1)
	r.tile(b)
	r.pool.idle = append(r.pool.idle, b)
}

// damage notes that a file could be read up to record seq only.
func (r *run) damage(kind string, err error, seq, last uint64) {
	r.find(seq, last, kind, "%v", err)
	r.lose()
}

func (r *run) find(seq, last uint64, kind, detail string, args ...any) {
	r.rep.add(Finding{
		Seq: seq, Last: max(seq, last), Kind: kind, File: r.name,
		Detail: fmt.Sprintf(detail, args...), result: resultOf(kind, false),
	})
}

// foreign notes a key that has no place in its bucket, the first of a bucket only.
func (r *run) foreign(bucket string, key []byte, seq uint64) error {
	if !r.strange[bucket] {
		r.strange[bucket] = true
		text := fmt.Sprintf("%x", key)
		if len(key) > 40 {
			text = fmt.Sprintf("%x... (%d bytes)", key[:40], len(key))
		}
		r.find(seq, seq, KindKeyForeign, "bucket %s has the key %s, and perhaps others that do not belong there", bucket, text)
	}
	return nil
}

// maxWarnings bounds the warnings of a report.
const maxWarnings = 100

func (r *run) warn(text string, args ...any) {
	if len(r.rep.Warnings) < maxWarnings {
		r.rep.Warnings = append(r.rep.Warnings, fmt.Sprintf(text, args...))
	}
}
