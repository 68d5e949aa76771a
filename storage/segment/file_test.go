package segment_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/audit/storetest"
	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/storage/segment"
)

func logFile(dir string, n int) string { return filepath.Join(dir, "log", fmt.Sprintf("%08d.db", n)) }

func closeStore(t testing.TB, s *segment.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// made returns the folder of a closed log of n records.
func made(t testing.TB, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	s := open(t, dir, small())
	fill(t, s, n, "")
	closeStore(t, s)
	return dir
}

// edit changes a closed file through bbolt.
func edit(t testing.TB, path string, fn func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// What is on the disk is what docs/audit-log.md says.
func TestFormat(t *testing.T) {
	dir := made(t, 512+300)
	for n, want := range []struct {
		first, next uint64
		sealed      []byte
	}{{0, 512, []byte{1}}, {512, 812, nil}} {
		db, err := bolt.Open(logFile(dir, n), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			m := tx.Bucket([]byte("meta"))
			for name, value := range map[string][]byte{
				"format": {0, 0, 0, 1}, "origin": []byte(storetest.Origin), "first": key(want.first), "next": key(want.next), "sealed": want.sealed,
			} {
				if got := m.Get([]byte(name)); !bytes.Equal(got, value) {
					t.Errorf("file %d: %s is %x, want %x", n, name, got, value)
				}
			}
			head, tree, block := chain.Hash(m.Get([]byte("prev"))), chain.Tree{}, chain.Tree{}
			var marks []byte
			if n == 0 && head != chain.Genesis(storetest.Origin) {
				t.Errorf("file 0: prev %s", head)
			}
			for seq := want.first; seq < want.next; seq++ {
				leaf := chain.Leaf(tx.Bucket([]byte("rec")).Get(key(seq)))
				head = chain.Next(head, leaf)
				tree.Append(leaf)
				block.Append(leaf)
				marks = append(marks, leaf[:4]...)
				if (seq+1)%256 == 0 {
					root := block.Root()
					if got, want := tx.Bucket([]byte("tile")).Get(key(seq/256)), slices.Concat(head[:], root[:], marks); !bytes.Equal(got, want) {
						t.Errorf("tile %d is %x, want %x", seq/256, got, want)
					}
					block, marks = chain.Tree{}, nil
				}
			}
			if got := m.Get([]byte("marks")); !bytes.Equal(got, marks) {
				t.Errorf("file %d: marks %x, want %x", n, got, marks)
			}
			if got := m.Get([]byte("size")); len(got) != 8 || binary.BigEndian.Uint64(got) == 0 {
				t.Errorf("file %d: size %x", n, got)
			}
			if !bytes.Equal(m.Get([]byte("head")), head[:]) {
				t.Errorf("file %d: head %x, want %s", n, m.Get([]byte("head")), head)
			}
			if b, _ := tree.MarshalBinary(); n == 0 && !bytes.Equal(m.Get([]byte("tree")), b) {
				t.Errorf("file 0: tree %x, want %x", m.Get([]byte("tree")), b)
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSegmentRows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	s := open(t, dir, segment.Options{Origin: storetest.Origin})
	fill(t, s, chain.SegmentSize+5000, "")
	closeStore(t, s)
	s = open(t, dir, segment.Options{})
	defer closeStore(t, s)
	first, err := s.Record(0)
	if err != nil {
		t.Fatal(err)
	}
	_, begin, _, err := audit.ParseHead(first)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(0); seq < chain.SegmentSize+5000; seq += 4096 {
		at := begin.Add(time.Duration(seq/4096) * time.Second)
		got, _, err := s.Search(t.Context(), at, at, func(rec []byte) bool {
			n, _, _, err := audit.ParseHead(rec)
			return err == nil && n == seq
		})
		if err != nil || got != seq {
			t.Errorf("Search for %d at %v = %d, %v", seq, at, got, err)
		}
	}
}

func TestSecondOpener(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	o := small()
	o.Command = "verdict serve"
	s := open(t, dir, o)
	_, err := segment.Open(dir, small())
	var locked *segment.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("Open = %v", err)
	}
	if want := fmt.Sprintf(`process %d, "verdict serve"`, os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%q does not name %s", err, want)
	}
	closeStore(t, s)
	closeStore(t, open(t, dir, small()))
}

func TestOrigin(t *testing.T) {
	dir := made(t, 3)
	o := small()
	o.Origin = "somebody else"
	if _, err := segment.Open(dir, o); !errors.Is(err, segment.ErrOrigin) {
		t.Errorf("another origin: %v", err)
	}
	o.Origin = ""
	s := open(t, dir, o)
	if got := s.Position().Origin; got != storetest.Origin {
		t.Errorf("origin %q", got)
	}
	closeStore(t, s)
	names := map[string]bool{}
	for range 3 {
		s := open(t, filepath.Join(t.TempDir(), "audit"), segment.Options{GrowBytes: 1 << 16})
		names[s.Position().Origin] = true
		closeStore(t, s)
	}
	if len(names) != 3 {
		t.Errorf("new logs are called %v", names)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	for _, n := range []int{0, 1} { // a sealed file and the last one
		dir := made(t, 600)
		edit(t, logFile(dir, n), func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{0, 0, 0, 2})
		})
		_, err := segment.Open(dir, small())
		if !errors.Is(err, segment.ErrFormat) || !strings.Contains(err.Error(), "version 2") || !strings.Contains(err.Error(), "up to 1") {
			t.Errorf("file %d: Open = %v", n, err)
		}
	}
}

// A half-made file of a crash during rotation is no obstacle.
func TestHalfMadeFile(t *testing.T) {
	dir := made(t, 512)
	half := logFile(dir, 1) + ".tmp"
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, small())
	fill(t, s, 1, "")
	closeStore(t, s)
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("%s: %v", half, err)
	}
	s = open(t, dir, small())
	if s.Position().Next != 513 {
		t.Errorf("next is %d", s.Position().Next)
	}
	closeStore(t, s)
	if err := os.Remove(logFile(dir, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := segment.Open(dir, small()); !errors.Is(err, segment.ErrDamaged) || !strings.Contains(err.Error(), "00000000.db is missing") {
		t.Errorf("without file 0: %v", err)
	}
}

// A file that was deleted, moved or replaced under the writer is noticed.
func TestInspectNoticesMissingFiles(t *testing.T) {
	for name, act := range map[string]func(path string) error{
		"deleted": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.Remove(path), os.WriteFile(path, b, 0o600))
		},
	} {
		for n := range 2 {
			dir := filepath.Join(t.TempDir(), "audit")
			s := open(t, dir, small())
			fill(t, s, 600, "")
			if _, err := s.Inspect(); err != nil {
				t.Fatal(err)
			}
			if err := act(logFile(dir, n)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Inspect(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%08d.db", n)) {
				t.Errorf("file %d %s: Inspect = %v", n, name, err)
			}
			closeStore(t, s)
		}
	}
}

// Damage at the end of the log is found at start, by file and place, and nothing
// is written.
func TestDamageIsRefused(t *testing.T) {
	bucket := func(name string) func(*bolt.Tx) *bolt.Bucket {
		return func(tx *bolt.Tx) *bolt.Bucket { return tx.Bucket([]byte(name)) }
	}
	rec, m, tile := bucket("rec"), bucket("meta"), bucket("tile")
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for _, tc := range []struct {
		name string
		file int
		do   func(*bolt.Tx) error
		want string
	}{
		{"last record edited", 1, func(tx *bolt.Tx) error { return rec(tx).Put(key(811), flip(rec(tx).Get(key(811)), 70)) }, "records 768 to 811"},
		{"record of the last block edited", 1, func(tx *bolt.Tx) error { return rec(tx).Put(key(600), flip(rec(tx).Get(key(600)), 70)) }, "records 512 to 767"},
		{"record renumbered", 1, func(tx *bolt.Tx) error { return rec(tx).Put(key(800), rec(tx).Get(key(799))) }, "record 800"},
		{"last record deleted", 1, func(tx *bolt.Tx) error { return rec(tx).Delete(key(811)) }, "299 records"},
		{"middle record deleted", 1, func(tx *bolt.Tx) error { return rec(tx).Delete(key(600)) }, "record 601 follows record 599"},
		{"record behind the end", 1, func(tx *bolt.Tx) error { return rec(tx).Put(key(812), []byte("x")) }, "301 records"},
		{"head", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("head"), flip(m(tx).Get([]byte("head")), 0)) }, "stored head"},
		{"tree", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("tree"), flip(m(tx).Get([]byte("tree")), 20)) }, "stored head"},
		{"tree size", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("tree"), flip(m(tx).Get([]byte("tree")), 7)) }, "tree"},
		{"next", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("next"), key(811)) }, "tree of 812 records"},
		{"time", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("time"), key(1)) }, "its time"},
		{"no head", 1, func(tx *bolt.Tx) error { return m(tx).Delete([]byte("head")) }, "meta head has 0 bytes"},
		{"sealed too early", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("sealed"), []byte{1}) }, "sealed true"},
		{"prev", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("prev"), make([]byte, 32)) }, "does not continue"},
		{"first", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("first"), key(0)) }, "starts with record 0"},
		{"origin", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("origin"), []byte("x")) }, "origin"},
		{"format 0", 1, func(tx *bolt.Tx) error { return m(tx).Put([]byte("format"), make([]byte, 4)) }, "format is 0"},
		{"tile gone", 1, func(tx *bolt.Tx) error { return tile(tx).Delete(key(2)) }, "tile 2 has 0 bytes"},
		{"tile root", 1, func(tx *bolt.Tx) error { return tile(tx).Put(key(2), flip(tile(tx).Get(key(2)), 40)) }, "hashes stored for them"},
		{"bucket gone", 1, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("blob")) }, `no bucket "blob"`},
		{"sealed file unsealed", 0, func(tx *bolt.Tx) error { return m(tx).Delete([]byte("sealed")) }, "sealed false"},
		{"sealed file of another head", 0, func(tx *bolt.Tx) error { return m(tx).Put([]byte("head"), make([]byte, 32)) }, "does not continue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := made(t, 812)
			edit(t, logFile(dir, tc.file), tc.do)
			before, err := os.ReadFile(logFile(dir, 1))
			if err != nil {
				t.Fatal(err)
			}
			s, err := segment.Open(dir, small())
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !errors.Is(err, segment.ErrDamaged) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "0000000") {
				t.Errorf("Open = %v, want %q", err, tc.want)
			}
			if after, err := os.ReadFile(logFile(dir, 1)); err != nil || !bytes.Equal(after, before) {
				t.Errorf("the file was changed: %v", err)
			}
			if _, err := segment.Open(dir, small()); errors.As(err, new(*segment.LockedError)) {
				t.Errorf("the lock was kept: %v", err)
			}
		})
	}
}

// Every cut of the file and many flips end in an error or in a log that is whole:
// never a crash, never a log that lost records.
func TestHostileFile(t *testing.T) {
	dir := made(t, 400)
	path := logFile(dir, 0)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		openMutated(t, what, dir, 400)
	}
	for size := 0; size < len(whole); size += 4099 {
		try(fmt.Sprintf("cut to %d bytes", size), whole[:size])
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := bytes.Clone(whole)
		i := rnd.IntN(len(b))
		b[i] ^= 1 << rnd.IntN(8)
		try(fmt.Sprintf("byte %d", i), b)
	}
	for i := range 2 * 80 { // all of both meta pages' contents
		b := bytes.Clone(whole)
		at := i/80*8192 + i%80
		b[at] ^= 0x10
		try(fmt.Sprintf("byte %d", at), b)
	}
}

// openMutated opens a log whose file was tampered with. If that succeeds the log
// must be as long as it was, and appending to it must not crash.
func openMutated(t testing.TB, what, dir string, count uint64) {
	t.Helper()
	s, err := segment.Open(dir, small())
	if err != nil {
		return
	}
	defer s.Close()
	if next := s.Position().Next; next != count {
		t.Errorf("%s: opened with %d records of %d", what, next, count)
	}
	b := storetest.NewBatcher(s.Position())
	if err := s.Append(b.Next(1, s.Position().Time)); err == nil {
		_ = s.Scan(context.Background(), 0, func(uint64, []byte) error { return nil })
	}
}

func FuzzOpen(f *testing.F) {
	dir := made(f, 300)
	whole, err := os.ReadFile(logFile(dir, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{1}, uint32(len(whole)))
	f.Add(uint32(8192+16), []byte{0xff, 0xff}, uint32(len(whole)))
	f.Add(uint32(16384), bytes.Repeat([]byte{0}, 16), uint32(40000))
	f.Fuzz(func(t *testing.T, at uint32, change []byte, size uint32) {
		b := bytes.Clone(whole)
		at %= uint32(len(b))
		for i := range change {
			if int(at)+i < len(b) {
				b[int(at)+i] ^= change[i]
			}
		}
		b = b[:min(int(size), len(b))]
		dir := filepath.Join(t.TempDir(), "audit")
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "log"), 0o700), os.WriteFile(logFile(dir, 0), b, 0o600)); err != nil {
			t.Fatal(err)
		}
		openMutated(t, fmt.Sprintf("%x at %d, %d bytes", change, at, size), dir, 300)
	})
}

// A running log that is verified while it grows.
func TestLiveVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	store := open(t, dir, segment.Options{Origin: storetest.Origin})
	log, err := audit.Open(store, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 2)
	go func() { ran <- log.Run(ctx) }()
	writing, stop := context.WithCancel(ctx)
	go func() {
		for writing.Err() == nil {
			if _, err := log.Append(ctx, decision()); err != nil {
				ran <- err
				return
			}
		}
		ran <- nil
	}()
	for range 5 {
		report, err := verify.Run(ctx, store.Source(), verify.Options{Live: true})
		if err != nil || report.Result != verify.OK {
			t.Fatalf("verify: %+v, %v", report, err)
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
