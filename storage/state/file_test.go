package state_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
)

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, state.Options{Command: "first one"})
	_, err := state.Open(dir, state.Options{})
	var locked *state.LockedError
	if !errors.As(err, &locked) || locked.Holder != fmt.Sprintf("%d first one", os.Getpid()) {
		t.Fatalf("Open = %v, want a LockedError", err)
	}
	for _, part := range []string{fmt.Sprint(os.Getpid()), "first one", filepath.Join(dir, "lock")} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []state.Options{{Command: "a\nb"}, {SweepEvery: -1}, {WatchEvents: -1}, {WatchBytes: -1}} {
		if _, err := state.Open(t.TempDir(), o); err == nil {
			t.Errorf("opened with %+v", o)
		}
	}
	if _, err := state.Open("/dev/null/x", state.Options{}); err == nil {
		t.Error("opened in a file")
	}
}

// filled makes a store with some pages and returns its folder and file.
func filled(t testing.TB) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir, state.Options{})
	for _, name := range []string{"one", "two"} {
		b := bucket(t, s, name)
		for n := range 4 {
			var ops []storage.Op
			for i := range storage.MaxOps {
				key := fmt.Sprintf("k%d.%d", n, i)
				ops = append(ops, storage.Put(key, bytes.Repeat([]byte(key), 10)).Until(time.Now().Add(time.Hour)))
			}
			if _, err := b.Apply(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := bucket(t, s, "small").Apply(t.Context(), storage.Put("a", nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "state.db")
}

// use opens the store, takes a snapshot and writes; it returns the snapshot, or
// the first error.
func use(dir string) ([]byte, error) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	s, err := state.Open(dir, state.Options{Now: func() time.Time { return at }})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var first bytes.Buffer
	if err := s.Snapshot(context.Background(), &first); err != nil {
		return nil, err
	}
	for _, name := range []string{"one", "two", "small"} {
		b, err := s.Bucket(name)
		if err != nil {
			return nil, err
		}
		for i := range 4 {
			if _, err := b.Apply(context.Background(), storage.Put(fmt.Sprintf("k1.%d", i*60), make([]byte, 3000))); err != nil {
				return nil, err
			}
		}
	}
	return first.Bytes(), s.Snapshot(context.Background(), &bytes.Buffer{})
}

// A file that is cut off anywhere is an error. (One that lacks only free pages
// at its end is whole.)
func TestTruncated(t *testing.T) {
	dir, path := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := int(inUse(whole)) * 4096
	for n := 0; n < used; n += 4096 {
		for _, size := range []int{n, n + 1, n + 4095} {
			if err := os.WriteFile(path, whole[:min(size, used-1)], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := use(dir); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("cut off at %d of %d: %v, want ErrDamaged", size, used, err)
			}
		}
	}
	if err := os.WriteFile(path, whole[:used], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := use(dir); err != nil {
		t.Errorf("with all pages that are in use: %v", err)
	}
}

// inUse is the number of pages that the newer meta page gives.
func inUse(file []byte) uint64 {
	var count, last uint64
	for _, at := range []int{16, 4096 + 16} {
		if txid := binary.NativeEndian.Uint64(file[at+48:]); txid >= last {
			count, last = binary.NativeEndian.Uint64(file[at+40:]), txid
		}
	}
	return count
}

// A changed file neither crashes the process nor gives other entries.
func TestDamaged(t *testing.T) {
	dir, path := filled(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:inUse(whole)*4096]
	expected, err := use(dir)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	found := 0
	const rounds = 150
	for range rounds {
		changed := bytes.Clone(whole)
		page := r.IntN(len(changed)/4096) * 4096
		switch at := page + r.IntN(4096); r.IntN(4) {
		case 0: // in the header of the page or of its first elements
			changed[page+r.IntN(64)] ^= 1 << r.IntN(8)
		case 1:
			changed[at] ^= 1 << r.IntN(8)
		case 2: // another page in its place
			copy(changed[page:page+4096], whole[r.IntN(len(whole)/4096)*4096:])
		case 3:
			clear(changed[page : page+4096])
		}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := use(dir)
		switch {
		case errors.Is(err, storage.ErrDamaged) || errors.Is(err, storage.ErrFormat):
			found++
		case err != nil:
			t.Errorf("seed %d: %v, want ErrDamaged", seed, err)
		case !bytes.Equal(got, expected):
			t.Errorf("seed %d: the file gives other entries", seed)
		}
	}
	t.Logf("%d of %d changes were found", found, rounds)
}

func TestNewerFormat(t *testing.T) {
	dir, path := filled(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{0, 0, 0, 7}) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	_, err = use(dir)
	if !errors.Is(err, storage.ErrFormat) || !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("Open = %v, want ErrFormat with both versions", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("the file was changed")
	}
}

// What a crash left half-made is removed.
func TestLeftovers(t *testing.T) {
	dir, _ := filled(t)
	for _, name := range []string{"state.db.new", "restore.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := use(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("left: %v, %v", files, err)
	}
}
