package storagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

func archived(t *testing.T, open Opener) *harness {
	t.Helper()
	h := start(t, open)
	if h.Archive == nil {
		t.Skip("the store offers no archive")
	}
	return h
}

func snapshot(t testing.TB, h *harness) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := h.Archive.Snapshot(t.Context(), &out); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	return out.Bytes()
}

func testSnapshot(t *testing.T, open Opener) {
	from := archived(t, open)
	until := from.clock.now().Add(time.Hour)
	one, two := from.bucket("one"), from.bucket("two")
	var ops []storage.Op
	for i := range 200 {
		ops = append(ops, storage.Put(fmt.Sprintf("k%03d", i), fmt.Appendf(nil, "%d", i)))
	}
	apply(t, one, ops...)
	apply(t, one, storage.Put("until", []byte("1")).Until(until), storage.Put("gone", nil).Until(from.clock.now()), storage.Delete("k007"))
	apply(t, two, storage.Put("a", bytes.Repeat([]byte("v"), storage.MaxValue)))
	stream := snapshot(t, from)
	if again := snapshot(t, from); !bytes.Equal(again, stream) {
		t.Error("the same entries at the same time give other bytes")
	}

	to := start(t, open)
	apply(t, to.bucket("one"), storage.Put("k000", []byte("other")), storage.Put("other", nil))
	revision := apply(t, to.bucket("three"), storage.Put("a", nil))[0]
	if err := to.Archive.Restore(t.Context(), iotest.HalfReader(bytes.NewReader(stream))); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	for range 2 {
		for _, name := range []string{"one", "two"} {
			expected, _ := mustAll(t, from.bucket(name), "", 0)
			if got, _ := mustAll(t, to.bucket(name), "", 0); text(got) != text(expected) {
				t.Errorf("bucket %s: restored %d entries, want %d", name, len(got), len(expected))
			}
		}
		if e := want(t, to.bucket("one"), "until", "1"); !e.Expires.Equal(until) {
			t.Errorf("expires %v, want %v", e.Expires, until)
		}
		wantAbsent(t, to.bucket("three"), "a")
		if entries, _ := mustAll(t, to.bucket("three"), "", 0); len(entries) != 0 {
			t.Errorf("bucket three: %s", text(entries))
		}
		to.reopen()
	}
	if next := apply(t, to.bucket("three"), storage.Put("a", nil))[0]; next <= revision {
		t.Errorf("revision %d after %d and a restore", next, revision)
	}
	if _, revision := mustAll(t, to.bucket("one"), "", 0); apply(t, to.bucket("one"), storage.Put("k000", nil))[0] <= revision {
		t.Errorf("revisions do not continue after %d", revision)
	}
	to.clock.advance(time.Hour)
	wantAbsent(t, to.bucket("one"), "until")
}

// A snapshot shows each bucket at one moment: two keys that are always written
// together are always equal in it.
func testSnapshotWhileWriting(t *testing.T, open Opener) {
	h := archived(t, open)
	b := h.bucket("test")
	apply(t, b, storage.Put("a", []byte("0")), storage.Put("z", []byte("0")))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				value := fmt.Append(nil, i)
				if _, err := b.Apply(t.Context(), storage.Put("a", value), storage.Put("z", value)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 20 {
		in, err := storage.NewSnapshotReader(bytes.NewReader(snapshot(t, h)))
		if err != nil {
			t.Fatal(err)
		}
		var values []string
		for {
			_, e, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, string(e.Value))
		}
		if len(values) != 2 || values[0] != values[1] {
			t.Errorf("snapshot of %q", values)
		}
	}
	close(stop)
	wg.Wait()
}

// A stream that is not whole changes nothing.
func testRestoreDamaged(t *testing.T, open Opener) {
	h := archived(t, open)
	b := h.bucket("test")
	apply(t, b, storage.Put("new", []byte("1")), storage.Put("other", nil))
	stream := snapshot(t, h)
	apply(t, b, storage.Delete("new"), storage.Put("kept", []byte("2")))
	before, revision := mustAll(t, b, "", 0)

	changed := slices.Clone(stream)
	changed[len(changed)/2] ^= 1
	newer := slices.Clone(stream)
	binary.BigEndian.PutUint32(newer[len("verdict-state\n"):], storage.SnapshotFormat+1)
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		stream io.Reader
		want   error
	}{
		"empty":     {bytes.NewReader(nil), storage.ErrDamaged},
		"cut off":   {bytes.NewReader(stream[:len(stream)-1]), storage.ErrDamaged},
		"no end":    {bytes.NewReader(stream[:len(stream)-41]), storage.ErrDamaged},
		"changed":   {bytes.NewReader(changed), storage.ErrDamaged},
		"longer":    {bytes.NewReader(append(slices.Clone(stream), 'x')), storage.ErrDamaged},
		"newer":     {bytes.NewReader(newer), storage.ErrFormat},
		"no reader": {io.MultiReader(bytes.NewReader(stream[:50]), iotest.ErrReader(broken)), broken},
	} {
		wantError(t, name, h.Archive.Restore(t.Context(), tt.stream), tt.want)
		after, same := mustAll(t, b, "", 0)
		if text(after) != text(before) || same != revision {
			t.Errorf("%s: %s at %d, before %s at %d", name, text(after), same, text(before), revision)
		}
	}
	apply(t, b, storage.Put("goes-on", nil))
	if err := h.Archive.Restore(t.Context(), bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	want(t, b, "new", "1")
	wantAbsent(t, b, "kept")
}

// A restore ends watches and makes every known revision stale.
func testRestoreLive(t *testing.T, open Opener) {
	h := archived(t, open)
	b := h.bucket("test")
	revision := apply(t, b, storage.Put("a", []byte("1")))[0]
	stream := snapshot(t, h)
	ended, running := make(chan error, 1), make(chan struct{})
	go func() { // ends with the restore
		ended <- b.Watch(t.Context(), "", revision, func(storage.Event) error { close(running); return nil })
	}()
	apply(t, b, storage.Put("b", nil))
	<-running
	if err := h.Archive.Restore(t.Context(), bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Watch", <-ended, storage.ErrCompacted)
	_, err := b.Apply(t.Context(), storage.Replace("a", []byte("2"), revision))
	wantError(t, "Replace at a revision from before", err, storage.ErrConflict)
	m, err := newMirror(t.Context(), b, "")
	if err != nil || m.text() != "a=1 " {
		t.Fatalf("list: %s, %v", m.text(), err)
	}
	apply(t, b, storage.Replace("a", []byte("3"), m.entries["a"].Revision))
	err = b.Watch(t.Context(), "", m.last, func(e storage.Event) error {
		if e.Key != "a" || string(e.Value) != "3" {
			t.Errorf("event %+v", e)
		}
		return errEnough
	})
	wantError(t, "Watch", err, errEnough)
}
