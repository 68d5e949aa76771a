// Package storetest states what every audit.Store must do, as a suite of tests
// that each implementation runs, and offers a store in memory with faults.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// Origin is the origin of the stores that the suite asks for.
const Origin = "verdict.example/storetest"

// Opener opens the store of a name, as the last store of that name left it. The
// suite closes one before it opens the next.
type Opener func(t testing.TB, name string) audit.Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"Empty", testEmpty},
		{"AppendThenRead", testAppendThenRead},
		{"Reopen", testReopen},
		{"WrongBatch", testWrongBatch},
		{"Blobs", testBlobs},
		{"Scan", testScan},
		{"Search", testSearch},
		{"Window", testWindow},
		{"Inspect", testInspect},
		{"ReadersBesideTheWriter", testReaders},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open) })
	}
}

// Batcher makes valid batches that continue a position.
type Batcher struct {
	Padding string // makes the records longer; free of quotes and controls

	pos   audit.Position
	first time.Time // of the segment
}

// NewBatcher returns the batcher that continues at the position.
func NewBatcher(pos audit.Position) *Batcher { return &Batcher{pos: pos, first: pos.Time} }

// Record returns the bytes of the record with that number and time.
func Record(seq uint64, at time.Time, tail string) []byte {
	return fmt.Appendf(nil, `{"seq":%d,"time":"%s","type":"system",%s}`, seq, at.UTC().Format("2006-01-02T15:04:05.000000Z"), tail)
}

// Next returns a batch of n records of the time at, and moves on.
func (b *Batcher) Next(n int, at time.Time) *audit.Batch {
	at = at.UTC().Truncate(time.Microsecond)
	out := &audit.Batch{First: b.pos.Next}
	for range n {
		seq := b.pos.Next
		if seq%chain.SegmentSize == 0 {
			b.first = at
		}
		rec := Record(seq, at, fmt.Sprintf(`"message":"number %d%s"`, seq, b.Padding))
		leaf := chain.Leaf(rec)
		out.Records = append(out.Records, rec)
		out.Leaves = append(out.Leaves, leaf)
		b.pos.Head = chain.Next(b.pos.Head, leaf)
		b.pos.Tree.Append(leaf)
		b.pos.Next, b.pos.Time = seq+1, at
		if root, ok := b.pos.Tree.Last(chain.TileLevel); ok {
			out.Tiles = append(out.Tiles, audit.Tile{Number: seq / chain.TileSize, Head: b.pos.Head, Root: root})
		}
		if root, ok := b.pos.Tree.Last(chain.SegmentLevel); ok {
			out.Segments = append(out.Segments, audit.Segment{
				Number: seq / chain.SegmentSize, First: b.first, Last: at, Head: b.pos.Head, Root: root,
			})
		}
	}
	out.After = b.pos
	return out
}

// begin is the time of the first records.
func begin() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 123456000, time.UTC) }

func appendAll(t testing.TB, s audit.Store, sizes ...int) {
	t.Helper()
	b := NewBatcher(s.Position())
	at := begin()
	if next := s.Position().Next; next > 0 {
		at = s.Position().Time
	}
	for _, n := range sizes {
		for n > 0 {
			part := int(min(uint64(n), s.Room()))
			at = at.Add(time.Second)
			if err := s.Append(b.Next(part, at)); err != nil {
				t.Fatal(err)
			}
			n -= part
		}
	}
}

func closeStore(t testing.TB, s audit.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func testEmpty(t *testing.T, open Opener) {
	for range 2 { // the second finds what the first made
		s := open(t, "log")
		p := s.Position()
		if p.Origin != Origin || p.Next != 0 || p.Head != chain.Genesis(Origin) || p.Tree.Size() != 0 || !p.Time.IsZero() {
			t.Errorf("position of an empty log: %d of %q, head %s, time %v", p.Next, p.Origin, p.Head, p.Time)
		}
		if s.Room() < 1 {
			t.Errorf("room for %d records", s.Room())
		}
		if _, err := s.Record(0); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("Record(0) = %v, want ErrNotFound", err)
		}
		if err := s.Scan(t.Context(), 0, func(uint64, []byte) error { return errors.New("called") }); err != nil {
			t.Errorf("Scan = %v", err)
		}
		if _, _, err := s.Search(t.Context(), begin(), begin(), func([]byte) bool { return true }); !errors.Is(err, audit.ErrNotFound) {
			t.Errorf("Search = %v, want ErrNotFound", err)
		}
		closeStore(t, s)
	}
}

func testAppendThenRead(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	b := NewBatcher(s.Position())
	var want [][]byte
	for i := range 40 {
		batch := b.Next(int(min(uint64(1+i*i%37), s.Room())), begin().Add(time.Duration(i)*time.Millisecond))
		for _, rec := range batch.Records {
			want = append(want, bytes.Clone(rec))
		}
		if err := s.Append(batch); err != nil {
			t.Fatal(err)
		}
		for _, rec := range batch.Records { // the bytes are ours again
			clear(rec)
		}
		if p := s.Position(); p != batch.After {
			t.Fatalf("position %d after a batch to %d", p.Next, batch.After.Next)
		}
	}
	for seq, rec := range want {
		got, err := s.Record(uint64(seq))
		if err != nil || !bytes.Equal(got, rec) {
			t.Fatalf("record %d = %q, %v, want %q", seq, got, err, rec)
		}
	}
	if _, err := s.Record(uint64(len(want))); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("record behind the end: %v, want ErrNotFound", err)
	}
}

func testReopen(t *testing.T, open Opener) {
	s := open(t, "log")
	for range 5 {
		appendAll(t, s, 100, 1, 255, 3)
		want := s.Position()
		closeStore(t, s)
		s = open(t, "log")
		got := s.Position()
		if got.Next != want.Next || got.Head != want.Head || got.Tree.Root() != want.Tree.Root() ||
			!got.Time.Equal(want.Time) || got.Origin != want.Origin {
			t.Fatalf("reopened at %d, %s, %v, want %d, %s, %v", got.Next, got.Head, got.Time, want.Next, want.Head, want.Time)
		}
	}
	closeStore(t, s)
	other := open(t, "another")
	defer closeStore(t, other)
	if other.Position().Next != 0 {
		t.Errorf("another log has %d records", other.Position().Next)
	}
}

func testWrongBatch(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	appendAll(t, s, 3)
	for name, spoil := range map[string]func(*audit.Batch){
		"empty":      func(b *audit.Batch) { b.Records = nil },
		"too early":  func(b *audit.Batch) { b.First-- },
		"too late":   func(b *audit.Batch) { b.First++ },
		"wrong size": func(b *audit.Batch) { b.After.Next++ },
	} {
		batch := NewBatcher(s.Position()).Next(2, begin())
		spoil(batch)
		if err := s.Append(batch); err == nil {
			t.Errorf("%s: appended", name)
		}
		if s.Position().Next != 3 {
			t.Fatalf("%s: position %d", name, s.Position().Next)
		}
	}
}

func testBlobs(t *testing.T, open Opener) {
	s := open(t, "log")
	defer func() { closeStore(t, s) }()
	large := bytes.Repeat([]byte("blob"), 1<<18)
	sums := []chain.Hash{{1}, {2}, {3}}
	b := NewBatcher(s.Position())
	for i, sum := range sums {
		batch := b.Next(2, begin())
		batch.Blobs = []audit.Blob{{Sum: sum, Bytes: large[i:]}}
		if err := s.Append(batch); err != nil {
			t.Fatal(err)
		}
		appendAll(t, s, 400)
		b = NewBatcher(s.Position())
	}
	closeStore(t, s)
	s = open(t, "log")
	for i, sum := range sums {
		if got, err := s.Blob(sum); err != nil || !bytes.Equal(got, large[i:]) {
			t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := s.Blob(chain.Hash{9}); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("unknown blob: %v, want ErrNotFound", err)
	}
}

func testScan(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	appendAll(t, s, 1, 700, 300, 200)
	const count = 1201
	for _, from := range []uint64{0, 1, 255, 256, 700, count - 1, count, count + 7} {
		next := from
		err := s.Scan(t.Context(), from, func(seq uint64, rec []byte) error {
			got, _, _, err := audit.ParseHead(rec)
			if err != nil || got != seq || seq != next {
				t.Fatalf("got record %d as %d, want %d: %v", got, seq, next, err)
			}
			next++
			return nil
		})
		if want := max(from, count); err != nil || next != want {
			t.Errorf("Scan from %d ended at %d, want %d: %v", from, next, want, err)
		}
	}
	stop := errors.New("stop")
	calls := 0
	if err := s.Scan(t.Context(), 0, func(uint64, []byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("Scan = %v after %d calls, want the error of the first", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err := s.Scan(ctx, 0, func(uint64, []byte) error { cancel(); calls++; return nil })
	if !errors.Is(err, context.Canceled) || calls >= count {
		t.Errorf("Scan = %v after %d calls, want the end of ctx", err, calls)
	}
	// Appending inside fn must not deadlock.
	if err := s.Scan(t.Context(), count-1, func(uint64, []byte) error { appendAll(t, s, 1); return nil }); err != nil {
		t.Error(err)
	}
}

func testSearch(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	b := NewBatcher(s.Position())
	at := make(map[uint64]time.Time)
	for i := range 60 { // an hour, with the clock set back by ten minutes in the middle
		when := begin().Add(time.Duration(i) * time.Minute)
		if i >= 30 {
			when = when.Add(-10 * time.Minute)
		}
		at[s.Position().Next] = when
		n := int(min(50, s.Room()))
		if err := s.Append(b.Next(n, when)); err != nil {
			t.Fatal(err)
		}
	}
	for seq, when := range at {
		text := fmt.Appendf(nil, `"message":"number %d"`, seq)
		got, rec, err := s.Search(t.Context(), when.Add(-time.Second), when.Add(time.Second),
			func(rec []byte) bool { return bytes.Contains(rec, text) })
		if err != nil || got != seq || !bytes.Contains(rec, text) {
			t.Errorf("Search for %d = %d, %q, %v", seq, got, rec, err)
		}
	}
	if _, _, err := s.Search(t.Context(), begin(), begin().Add(time.Hour), func([]byte) bool { return false }); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("Search for nothing = %v, want ErrNotFound", err)
	}
}

func testInspect(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	before, err := s.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, 1000, 1000)
	after, err := s.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Files) == 0 || after.Used <= before.Used {
		t.Errorf("used %d bytes in %d files after 2,000 records, %d before", after.Used, len(after.Files), before.Used)
	}
}

// Readers see whole batches, and only what is in the log for good.
func testReaders(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	appendAll(t, s, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			var seen uint64
			for ctx.Err() == nil {
				var last uint64
				err := s.Scan(ctx, seen-min(seen, 300), func(seq uint64, rec []byte) error {
					if got, _, _, err := audit.ParseHead(rec); err != nil || got != seq {
						return fmt.Errorf("record %d says %d: %v", seq, got, err)
					}
					last = seq
					return nil
				})
				if err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if ctx.Err() == nil && last < seen {
					t.Errorf("the log went from %d back to %d", seen, last)
				}
				seen = max(seen, last)
				if _, err := s.Inspect(); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond) // leaves the writer some of a small machine
			}
		})
	}
	for range 60 {
		appendAll(t, s, 50)
	}
	cancel()
	readers.Wait()
}

// testWindow asks for records by their time.
func testWindow(t *testing.T, open Opener) {
	s := open(t, "log")
	defer closeStore(t, s)
	if first, next, err := s.Window(t.Context(), begin(), begin()); err != nil || first != next {
		t.Errorf("of an empty log: [%d, %d), %v", first, next, err)
	}
	b := NewBatcher(s.Position())
	for i := range 40 {
		for left := 100; left > 0; {
			n := int(min(uint64(left), s.Room()))
			if err := s.Append(b.Next(n, begin().Add(time.Duration(i)*time.Second))); err != nil {
				t.Fatal(err)
			}
			left -= n
		}
	}
	for _, tc := range []struct {
		from, to    time.Duration
		first, next uint64 // of the records in the window
	}{
		{0, time.Hour, 0, 4000},
		{-time.Hour, 0, 0, 100},
		{5 * time.Second, 6 * time.Second, 500, 700},
		{39 * time.Second, time.Hour, 3900, 4000},
		{2500 * time.Millisecond, 2600 * time.Millisecond, 300, 300},
	} {
		first, next, err := s.Window(t.Context(), begin().Add(tc.from), begin().Add(tc.to))
		if err != nil || tc.first < tc.next && (first > tc.first || next < tc.next) || next > 4000 || first > next {
			t.Errorf("[%v, %v] gives [%d, %d), %v; the records are [%d, %d)", tc.from, tc.to, first, next, err, tc.first, tc.next)
		}
	}
}
