// Package storagetest states what every storage.Bucket and storage.Archive must
// do, as a suite of tests that each implementation runs, and offers a bucket
// with faults.
package storagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// Store is an open store.
type Store struct {
	// Bucket returns the bucket with that name.
	Bucket func(name string) (storage.Bucket, error)
	// Archive is nil when the store offers none.
	Archive storage.Archive
	// Run removes what has expired, at least every few milliseconds.
	Run   func(ctx context.Context) error
	Close func() error
}

// Opener opens the store at a place, a folder that is empty at first. The suite
// closes a store before it opens the next at the same place.
type Opener func(t testing.TB, place string, now func() time.Time) Store

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"PutGetDelete", testPutGetDelete},
		{"Conditions", testConditions},
		{"Revisions", testRevisions},
		{"Batch", testBatch},
		{"Limits", testLimits},
		{"Invalid", testInvalid},
		{"Values", testValues},
		{"Buckets", testBuckets},
		{"Counter", testCounter},
		{"Reopen", testReopen},
		{"Context", testContext},
		{"Close", testClose},
		{"List", testList},
		{"ListWhileWriting", testListWhileWriting},
		{"ListBytes", testListBytes},
		{"Expiry", testExpiry},
		{"ExpiryReplaced", testExpiryReplaced},
		{"ExpiryRemoved", testExpiryRemoved},
		{"Watch", testWatch},
		{"WatchEnds", testWatchEnds},
		{"WatchConcurrent", testWatchConcurrent},
		{"WatchSlow", testWatchSlow},
		{"Snapshot", testSnapshot},
		{"SnapshotWhileWriting", testSnapshotWhileWriting},
		{"RestoreDamaged", testRestoreDamaged},
		{"RestoreLive", testRestoreLive},
		{"Model", testModel},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.test(t, open)
		})
	}
}

// clock is a clock that the tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// harness is an open store in a test, closed at its end.
type harness struct {
	Store
	t     testing.TB
	open  Opener
	place string
	clock *clock
}

func start(t testing.TB, open Opener) *harness {
	h := &harness{t: t, open: open, place: t.TempDir(), clock: newClock()}
	h.Store = open(t, h.place, h.clock.now)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return h
}

func (h *harness) reopen() {
	h.t.Helper()
	if err := h.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.Store = h.open(h.t, h.place, h.clock.now)
}

func (h *harness) bucket(name string) storage.Bucket {
	h.t.Helper()
	b, err := h.Bucket(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// run runs the store's Run until the test ends.
func (h *harness) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }() // ends in Cleanup
	h.t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
}

func apply(t testing.TB, b storage.Bucket, ops ...storage.Op) []uint64 {
	t.Helper()
	revisions, err := b.Apply(t.Context(), ops...)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if len(revisions) != len(ops) {
		t.Fatalf("%d revisions for %d operations", len(revisions), len(ops))
	}
	return revisions
}

// want checks that the key has the value and returns its entry.
func want(t testing.TB, b storage.Bucket, key, value string) storage.Entry {
	t.Helper()
	e, err := b.Get(t.Context(), key)
	if err != nil || e.Key != key || string(e.Value) != value || e.Revision == 0 {
		t.Fatalf("Get(%q) = %+v, %v, want %q", key, e, err, value)
	}
	return e
}

func wantAbsent(t testing.TB, b storage.Bucket, key string) {
	t.Helper()
	if e, err := b.Get(t.Context(), key); !errors.Is(err, storage.ErrNotFound) || e.Revision != 0 {
		t.Fatalf("Get(%q) = %+v, %v, want ErrNotFound", key, e, err)
	}
}

func wantError(t testing.TB, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: %v, want %q", what, err, target)
	}
}

// all lists everything under the prefix in pages of limit entries, and gives
// the revision of the first page.
func all(ctx context.Context, b storage.Bucket, prefix string, limit int) (entries []storage.Entry, revision uint64, err error) {
	cursor := ""
	for first := true; first || cursor != ""; first = false {
		page, err := b.List(ctx, prefix, cursor, limit)
		if err != nil {
			return nil, 0, err
		}
		if limit > 0 && len(page.Entries) > limit {
			return nil, 0, fmt.Errorf("page of %d entries, at most %d were asked for", len(page.Entries), limit)
		}
		if first {
			revision = page.Revision
		}
		entries = append(entries, page.Entries...)
		cursor = page.Cursor
	}
	return entries, revision, nil
}

func mustAll(t testing.TB, b storage.Bucket, prefix string, limit int) ([]storage.Entry, uint64) {
	t.Helper()
	entries, revision, err := all(t.Context(), b, prefix, limit)
	if err != nil {
		t.Fatalf("List(%q): %v", prefix, err)
	}
	return entries, revision
}

// text is what a list shows, to compare.
func text(entries []storage.Entry) string {
	out := ""
	for _, e := range entries {
		out += e.Key + "=" + string(e.Value) + " "
	}
	return out
}
