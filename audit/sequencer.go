package audit

import (
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// maxStep is how far the wall clock may jump before a system.clock_step record
// says so. Smaller steps back are bridged by holding the last time.
const maxStep = time.Second

// The times that a record can bear.
const (
	minMicros = 0
	maxMicros = 253402300799999999 // 9999-12-31T23:59:59.999999Z
)

// sequencer numbers, times and chains records. One goroutine uses it: that of
// Open, then that of Run.
type sequencer struct {
	now func() time.Time

	pos          Position  // after the last numbered record
	micros       int64     // pos.Time
	segmentFirst time.Time // time of the first record of the segment that pos is in
	lastNow      time.Time // of the last tick in this run; zero before
	lastWall     int64     // lastNow in microseconds

	stamp []byte // micros as text
	batch Batch
}

func newSequencer(store Store, now func() time.Time) (*sequencer, error) {
	s := &sequencer{now: now, pos: store.Position()}
	if s.pos.Next == 0 {
		return s, nil
	}
	s.micros = s.pos.Time.UnixMicro()
	if s.pos.Next%chain.SegmentSize != 0 {
		first := s.pos.Next &^ (chain.SegmentSize - 1)
		rec, err := store.Record(first)
		if err != nil {
			return nil, fmt.Errorf("read record %d: %w", first, err)
		}
		if _, s.segmentFirst, _, err = ParseHead(rec); err != nil {
			return nil, fmt.Errorf("read record %d: %w", first, err)
		}
	}
	return s, nil
}

// tick reads the clock for the next records. stepped says that their time cannot
// be compared with that of the records before, and what those bore.
func (s *sequencer) tick() (from time.Time, stepped bool) {
	now := s.now()
	wall := min(max(now.UnixMicro(), minMicros), maxMicros)
	before := s.micros
	if s.pos.Next > 0 {
		back := time.Duration(before-wall) * time.Microsecond
		if before-wall > maxMicros/2000 { // years: beyond what a Duration holds
			back = maxStep + 1
		}
		var forth time.Duration
		if !s.lastNow.IsZero() {
			// Sub uses the monotonic clock where there is one.
			forth = time.Duration(wall-s.lastWall)*time.Microsecond - now.Sub(s.lastNow)
		}
		stepped = back > maxStep || forth > maxStep
		if !stepped {
			s.micros = max(wall, before)
		}
	}
	if stepped || s.pos.Next == 0 {
		s.micros = wall
	}
	s.lastNow, s.lastWall = now, wall
	s.pos.Time = time.UnixMicro(s.micros).UTC()
	s.stamp = s.pos.Time.AppendFormat(s.stamp[:0], timeLayout)
	return time.UnixMicro(before).UTC(), stepped
}

// number makes the batch of the entries, in order, at the time of the last tick.
// The batch is valid until the next call.
func (s *sequencer) number(entries []*entry) *Batch {
	b := &s.batch
	b.First = s.pos.Next
	b.Records, b.Leaves, b.Blobs = b.Records[:0], b.Leaves[:0], b.Blobs[:0]
	b.Tiles, b.Segments = b.Tiles[:0], b.Segments[:0]
	for _, e := range entries {
		seq := s.pos.Next
		e.seal(seq, s.stamp)
		leaf := chain.Leaf(e.rec)
		e.receipt = Receipt{Seq: seq, Leaf: leaf, Time: s.pos.Time}
		s.pos.Head = chain.Next(s.pos.Head, leaf)
		s.pos.Tree.Append(leaf)
		s.pos.Next++
		b.Records = append(b.Records, e.rec)
		b.Leaves = append(b.Leaves, leaf)
		b.Blobs = append(b.Blobs, e.blobs...)
		if seq%chain.SegmentSize == 0 {
			s.segmentFirst = s.pos.Time
		}
		if s.pos.Next%chain.TileSize == 0 {
			s.complete(b)
		}
	}
	b.After = s.pos
	return b
}

// complete adds the rows of the tile, and of the segment, that end here.
func (s *sequencer) complete(b *Batch) {
	// A tile's or segment's root is part of the tree, or the last Append made it.
	root, _ := s.pos.Tree.Last(chain.TileLevel)
	b.Tiles = append(b.Tiles, Tile{Number: s.pos.Next/chain.TileSize - 1, Head: s.pos.Head, Root: root})
	if s.pos.Next%chain.SegmentSize == 0 {
		root, _ = s.pos.Tree.Last(chain.SegmentLevel)
		b.Segments = append(b.Segments, Segment{
			Number: s.pos.Next/chain.SegmentSize - 1,
			First:  s.segmentFirst, Last: s.pos.Time,
			Head: s.pos.Head, Root: root,
		})
	}
}
