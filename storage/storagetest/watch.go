package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// mirror is a copy of a bucket kept up by watching it.
type mirror struct {
	prefix  string
	entries map[string]storage.Event
	last    uint64
}

func newMirror(ctx context.Context, b storage.Bucket, prefix string) (*mirror, error) {
	m := &mirror{prefix: prefix, entries: map[string]storage.Event{}}
	entries, revision, err := all(ctx, b, prefix, 0)
	for _, e := range entries {
		m.entries[e.Key] = storage.Event{Entry: e}
	}
	m.last = revision
	return m, err
}

func (m *mirror) take(e storage.Event) error {
	if e.Revision <= m.last {
		return fmt.Errorf("event %d after %d", e.Revision, m.last)
	}
	if !strings.HasPrefix(e.Key, m.prefix) {
		return fmt.Errorf("event of key %q outside %q", e.Key, m.prefix)
	}
	m.last = e.Revision
	if e.Deleted {
		delete(m.entries, e.Key)
	} else {
		m.entries[e.Key] = e
	}
	return nil
}

func (m *mirror) text() string {
	var entries []storage.Entry
	for _, e := range m.entries {
		entries = append(entries, e.Entry)
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return strings.Compare(a.Key, b.Key) })
	return text(entries)
}

func describe(e storage.Event) string {
	if e.Deleted {
		return "-" + e.Key
	}
	return e.Key + "=" + string(e.Value)
}

func testWatch(t *testing.T, open Opener) {
	h := start(t, open)
	for i, tt := range []struct {
		prefix string
		after  int // of the revisions below
		want   string
	}{
		{"", 0, "a.1=1 b.1=1 a.2=2 -a.0 a.end="},
		{"a.", 0, "a.1=1 a.2=2 -a.0 a.end="},
		{"b.", 0, "b.1=1"},
		{"", 1, "b.1=1 a.2=2 -a.0 a.end="},
		{"", 3, "-a.0 a.end="},
	} {
		b := h.bucket(fmt.Sprintf("case%d", i))
		until := h.clock.now().Add(time.Hour)
		revisions := apply(t, b, storage.Put("a.0", nil))
		revisions = append(revisions, apply(t, b, storage.Put("a.1", []byte("1")))...)
		apply(t, h.bucket("other"), storage.Put("a.2", []byte("other")))
		revisions = append(revisions, apply(t, b, storage.Put("b.1", []byte("1")),
			storage.Put("a.2", []byte("2")).Until(until), storage.Delete("a.0"))...)
		var got []string
		left := len(strings.Fields(tt.want))
		err := b.Watch(t.Context(), tt.prefix, revisions[tt.after], func(e storage.Event) error {
			got = append(got, describe(e))
			if e.Key == "a.2" && !e.Expires.Equal(until) {
				t.Errorf("event %+v does not expire at %v", e, until)
			}
			if left--; left == 0 {
				return errEnough
			}
			if left == 1 { // a watcher may write
				apply(t, b, storage.Put("a.end", nil))
			}
			return nil
		})
		if !errors.Is(err, errEnough) || strings.Join(got, " ") != tt.want {
			t.Errorf("Watch(%q) after the revision %d: %q, %v, want %q", tt.prefix, tt.after, got, err, tt.want)
		}
	}
}

func testWatchEnds(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	revision := apply(t, b, storage.Put("a", nil))[0]
	apply(t, b, storage.Put("b", nil))
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := b.Watch(ctx, "", revision, func(storage.Event) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("Watch = %v after %d calls", err, calls)
	}
	nothing := func(storage.Event) error { return errors.New("called") }
	wantError(t, "Watch after a revision to come", b.Watch(t.Context(), "", revision+1000, nothing), storage.ErrCompacted)

	// After the store was opened again, what is no longer held is an error and
	// the rest is not missed.
	h.reopen()
	b = h.bucket("test")
	err = b.Watch(t.Context(), "", revision, func(e storage.Event) error {
		if e.Key != "b" {
			t.Errorf("event %+v", e)
		}
		return errEnough
	})
	if !errors.Is(err, errEnough) && !errors.Is(err, storage.ErrCompacted) {
		t.Errorf("Watch after reopening = %v", err)
	}
	_, revision = mustAll(t, b, "", 0)
	apply(t, b, storage.Put("c", nil))
	err = b.Watch(t.Context(), "", revision, func(e storage.Event) error {
		if e.Key != "c" {
			t.Errorf("event %+v", e)
		}
		return errEnough
	})
	wantError(t, "Watch", err, errEnough)
}

// Watchers that start at any time end with what the bucket holds, and saw
// revisions ascend.
func testWatchConcurrent(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	const writers, writes, watchers = 8, 40, 6
	var writing, watching sync.WaitGroup
	mirrors := make([]*mirror, watchers)
	for i := range watchers {
		watching.Go(func() {
			prefix := []string{"", "w1."}[i%2]
			m, err := newMirror(t.Context(), b, prefix)
			if err != nil {
				t.Error(err)
				return
			}
			mirrors[i] = m
			if m.entries[prefix+"end"].Key != "" {
				return
			}
			err = b.Watch(t.Context(), prefix, m.last, func(e storage.Event) error {
				if err := m.take(e); err != nil {
					return err
				}
				if e.Key == prefix+"end" {
					return errEnough
				}
				return nil
			})
			wantError(t, "Watch", err, errEnough)
		})
	}
	for w := range writers {
		writing.Go(func() {
			for i := range writes {
				key := fmt.Sprintf("w%d.%d", w%4, i%7)
				op := storage.Put(key, fmt.Appendf(nil, "%d/%d", w, i))
				if i%5 == 4 {
					op = storage.Delete(key)
				}
				if _, err := b.Apply(t.Context(), op, storage.Put(fmt.Sprintf("own.%d", w), nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	apply(t, b, storage.Put("w1.end", nil))
	apply(t, b, storage.Put("end", nil))
	watching.Wait()
	for _, m := range mirrors {
		if m == nil {
			continue
		}
		entries, _ := mustAll(t, b, m.prefix, 0)
		if m.text() != text(entries) {
			t.Errorf("watching %q gave\n%s\nthe bucket holds\n%s", m.prefix, m.text(), text(entries))
		}
	}
}

// A watcher that does not keep up is ended with ErrCompacted, or has all at
// last; nobody waits for it.
func testWatchSlow(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	revision := apply(t, b, storage.Put("first", nil))[0]
	apply(t, b, storage.Put("second", nil))
	m := &mirror{entries: map[string]storage.Event{"first": {Entry: storage.Entry{Key: "first"}}}, last: revision}
	err := b.Watch(t.Context(), "", revision, func(e storage.Event) error {
		if e.Key == "second" {
			for n := range 60 {
				var ops []storage.Op
				for i := range storage.MaxOps {
					ops = append(ops, storage.Put(fmt.Sprintf("many.%d", i), fmt.Appendf(nil, "%d", n)))
				}
				apply(t, b, ops...)
			}
			apply(t, b, storage.Put("end", nil))
		}
		if err := m.take(e); err != nil {
			return err
		}
		if e.Key == "end" {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, storage.ErrCompacted) {
		if m, err = newMirror(t.Context(), b, ""); err != nil {
			t.Fatal(err)
		}
	} else {
		wantError(t, "Watch", err, errEnough)
	}
	if entries, _ := mustAll(t, b, "", 0); m.text() != text(entries) {
		t.Errorf("the watcher has\n%s\nthe bucket holds\n%s", m.text(), text(entries))
	}
}
