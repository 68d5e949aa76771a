package storagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// An expired key is absent at once, though nobody removed it.
func testExpiry(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	until := h.clock.now().Add(time.Minute)
	revisions := apply(t, b, storage.Put("a", []byte("1")).Until(until), storage.Put("b", []byte("1")).Until(until),
		storage.Put("c", []byte("1")).Until(until), storage.Put("stays", []byte("1")))
	if e := want(t, b, "a", "1"); !e.Expires.Equal(until) {
		t.Errorf("expires %v, want %v", e.Expires, until)
	}
	h.clock.advance(time.Minute - time.Microsecond)
	want(t, b, "a", "1")
	h.clock.advance(time.Microsecond)
	for range 2 {
		wantAbsent(t, b, "a")
		if entries, _ := mustAll(t, b, "", 1); text(entries) != "stays=1 " {
			t.Errorf("list: %s", text(entries))
		}
		h.reopen()
		b = h.bucket("test")
	}
	_, err := b.Apply(t.Context(), storage.Replace("a", nil, revisions[0]))
	wantError(t, "Replace", err, storage.ErrConflict)
	_, err = b.Apply(t.Context(), storage.DeleteAt("a", revisions[0]))
	wantError(t, "DeleteAt", err, storage.ErrConflict)
	_, err = b.Apply(t.Context(), storage.Check("a", revisions[0]), storage.Put("x", nil))
	wantError(t, "Check", err, storage.ErrConflict)
	apply(t, b, storage.Check("a", 0), storage.Create("b", []byte("2")), storage.Delete("c"))
	want(t, b, "b", "2")
}

// A put replaces the expiry, too.
func testExpiryReplaced(t *testing.T, open Opener) {
	h := start(t, open)
	h.run()
	b := h.bucket("test")
	soon, late := h.clock.now().Add(time.Minute), h.clock.now().Add(time.Hour)
	apply(t, b, storage.Put("never", nil).Until(soon), storage.Put("late", nil).Until(soon), storage.Put("marker", nil).Until(soon))
	apply(t, b, storage.Put("never", []byte("2")), storage.Put("late", []byte("2")).Until(late))
	_, revision := mustAll(t, b, "", 0)
	h.clock.advance(time.Minute)
	waitDeleted(t, b, revision, "marker")
	want(t, b, "never", "2")
	want(t, b, "late", "2")
	h.clock.advance(time.Hour)
	wantAbsent(t, b, "late")
	want(t, b, "never", "2")
}

// Watchers are told when an expired key is removed.
func testExpiryRemoved(t *testing.T, open Opener) {
	h := start(t, open)
	h.run()
	b := h.bucket("test")
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
		apply(t, b, storage.Put(keys[i], nil).Until(h.clock.now().Add(time.Duration(i+1)*time.Second)))
	}
	_, revision := mustAll(t, b, "", 0)
	h.clock.advance(10 * time.Second)
	waitDeleted(t, b, revision, keys[:10]...)
	apply(t, b, storage.Create(keys[0], []byte("again")))
	want(t, b, keys[0], "again")
	if entries, _ := mustAll(t, b, "", 0); len(entries) != 11 {
		t.Errorf("list: %s", text(entries))
	}
}

var errEnough = errors.New("enough")

// waitDeleted waits until all keys were reported as deleted, and no other.
func waitDeleted(t *testing.T, b storage.Bucket, after uint64, keys ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	left := map[string]bool{}
	for _, k := range keys {
		left[k] = true
	}
	err := b.Watch(ctx, "", after, func(e storage.Event) error {
		if !e.Deleted || !left[e.Key] || len(e.Value) != 0 || !e.Expires.IsZero() {
			return fmt.Errorf("event %+v, want a deletion of one of %v", e, left)
		}
		if delete(left, e.Key); len(left) == 0 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("Watch: %v", err)
	}
}
