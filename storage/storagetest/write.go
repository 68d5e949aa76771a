package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/verdict-pdp/verdict/storage"
)

func testPutGetDelete(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	wantAbsent(t, b, "a")
	first := apply(t, b, storage.Put("a", []byte("1")))[0]
	if e := want(t, b, "a", "1"); e.Revision != first || !e.Expires.IsZero() {
		t.Errorf("entry %+v, want revision %d", e, first)
	}
	apply(t, b, storage.Put("a", nil))
	want(t, b, "a", "")
	apply(t, b, storage.Delete("a"))
	wantAbsent(t, b, "a")
	apply(t, b, storage.Delete("a")) // no error
	apply(t, b, storage.Create("a", []byte("2")))
	want(t, b, "a", "2")
}

func testConditions(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	for i, tt := range []struct {
		name    string
		present bool
		op      func(key string, revision uint64) storage.Op
		ok      bool
	}{
		{"create", false, func(k string, _ uint64) storage.Op { return storage.Create(k, []byte("new")) }, true},
		{"create what is there", true, func(k string, _ uint64) storage.Op { return storage.Create(k, []byte("new")) }, false},
		{"replace", true, func(k string, r uint64) storage.Op { return storage.Replace(k, []byte("new"), r) }, true},
		{"replace an older one", true, func(k string, r uint64) storage.Op { return storage.Replace(k, []byte("new"), r-1) }, false},
		{"replace a newer one", true, func(k string, r uint64) storage.Op { return storage.Replace(k, []byte("new"), r+1) }, false},
		{"replace what is absent", false, func(k string, _ uint64) storage.Op { return storage.Replace(k, []byte("new"), 1) }, false},
		{"delete", true, storage.DeleteAt, true},
		{"delete an older one", true, func(k string, r uint64) storage.Op { return storage.DeleteAt(k, r-1) }, false},
		{"delete what is absent", false, func(k string, _ uint64) storage.Op { return storage.DeleteAt(k, 1) }, false},
	} {
		key := fmt.Sprintf("case.%d", i)
		apply(t, b, storage.Put(key, []byte("older")))
		revision := apply(t, b, storage.Put(key, []byte("old")))[0]
		if !tt.present {
			apply(t, b, storage.Delete(key))
		}
		op := tt.op(key, revision)
		_, err := b.Apply(t.Context(), op)
		switch {
		case tt.ok && err != nil || !tt.ok && !errors.Is(err, storage.ErrConflict):
			t.Errorf("%s: %v", tt.name, err)
		case tt.ok && op.Kind == storage.KindPut:
			want(t, b, key, "new")
		case tt.ok || !tt.present:
			wantAbsent(t, b, key)
		default:
			if e := want(t, b, key, "old"); e.Revision != revision {
				t.Errorf("%s: a conflict changed the revision from %d to %d", tt.name, revision, e.Revision)
			}
		}
	}
}

func testRevisions(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	var last uint64
	for i := range 30 {
		key := fmt.Sprintf("k%d", i%4)
		op := storage.Put(key, []byte("v"))
		if i%5 == 4 {
			op = storage.Delete("k3")
			apply(t, b, storage.Put("k3", nil))
		}
		for _, revision := range apply(t, b, op, storage.Put("other", nil)) {
			if revision <= last {
				t.Fatalf("revision %d after %d", revision, last)
			}
			last = revision
		}
		if i%10 == 9 {
			h.reopen()
			b = h.bucket("test")
		}
	}
	if _, revision := mustAll(t, b, "", 0); revision < last {
		t.Errorf("the list has revision %d, an entry %d", revision, last)
	}
}

func testBatch(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	revisions := apply(t, b, storage.Put("a", []byte("1")), storage.Create("b", []byte("1")), storage.Delete("never"))
	if revisions[0] == 0 || revisions[1] <= revisions[0] {
		t.Errorf("revisions %v do not ascend", revisions)
	}
	for name, last := range map[string]storage.Op{
		"create":  storage.Create("a", nil),
		"replace": storage.Replace("a", nil, revisions[0]+100),
		"check":   storage.Check("a", revisions[1]),
		"absent":  storage.Check("a", 0),
		"present": storage.Check("never", revisions[0]),
	} {
		_, err := b.Apply(t.Context(), storage.Put("b", []byte("2")), storage.Put("c", []byte("2")), last)
		wantError(t, name, err, storage.ErrConflict)
		want(t, b, "a", "1")
		want(t, b, "b", "1")
		wantAbsent(t, b, "c")
	}
	got := apply(t, b, storage.Check("a", revisions[0]), storage.Check("never", 0), storage.Replace("b", []byte("3"), revisions[1]))
	if got[0] != 0 || got[1] != 0 || got[2] <= revisions[1] {
		t.Errorf("revisions %v of two checks and a put", got)
	}
	want(t, b, "b", "3")
	if e := want(t, b, "a", "1"); e.Revision != revisions[0] {
		t.Errorf("a check changed the revision from %d to %d", revisions[0], e.Revision)
	}
}

func testLimits(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	key := strings.Repeat("k", storage.MaxKey)
	value := strings.Repeat("v", storage.MaxValue)
	apply(t, b, storage.Put(key, []byte(value)))
	want(t, b, key, value)
	apply(t, b, storage.Put("a/b=c_d-e.F", nil))
	var ops []storage.Op
	for i := range storage.MaxOps {
		ops = append(ops, storage.Create(fmt.Sprintf("many.%03d", i), []byte("x")))
	}
	apply(t, b, ops...)
	if entries, _ := mustAll(t, b, "many.", 0); len(entries) != len(ops) {
		t.Errorf("%d entries of a batch of %d", len(entries), len(ops))
	}
}

func testInvalid(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	ctx := t.Context()
	for _, key := range []string{"", ".a", "a..b", "a b", "_kv", strings.Repeat("k", storage.MaxKey+1)} {
		_, err := b.Get(ctx, key)
		wantError(t, fmt.Sprintf("Get(%q)", key), err, storage.ErrInvalid)
		_, err = b.Apply(ctx, storage.Put(key, nil))
		wantError(t, fmt.Sprintf("Put(%q)", key), err, storage.ErrInvalid)
	}
	_, err := b.Apply(ctx)
	wantError(t, "Apply of nothing", err, storage.ErrInvalid)
	_, err = b.Apply(ctx, storage.Put("a", nil), storage.Delete("a"))
	wantError(t, "one key twice", err, storage.ErrInvalid)
	_, err = b.List(ctx, "a", "", 0)
	wantError(t, "List of no prefix", err, storage.ErrInvalid)
	_, err = b.List(ctx, "a.", "b.c", 0)
	wantError(t, "List from another cursor", err, storage.ErrInvalid)
	_, err = b.List(ctx, "", "", -1)
	wantError(t, "List of -1", err, storage.ErrInvalid)
	wantError(t, "Watch of no prefix", b.Watch(ctx, "a", 0, nil), storage.ErrInvalid)
	_, err = h.Bucket("Wrong")
	wantError(t, "Bucket", err, storage.ErrInvalid)
	wantAbsent(t, b, "a")
}

// Values belong to whoever has them.
func testValues(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	value := []byte("value")
	apply(t, b, storage.Put("a", value))
	clear(value)
	got := want(t, b, "a", "value")
	clear(got.Value)
	entries, _ := mustAll(t, b, "", 0)
	if text(entries) != "a=value " {
		t.Errorf("list: %s", text(entries))
	}
	clear(entries[0].Value)
	want(t, b, "a", "value")
}

func testBuckets(t *testing.T, open Opener) {
	h := start(t, open)
	one, two := h.bucket("one"), h.bucket("two")
	apply(t, one, storage.Put("a", []byte("1")))
	wantAbsent(t, two, "a")
	apply(t, two, storage.Put("a", []byte("2")), storage.Put("b", []byte("2")))
	want(t, one, "a", "1")
	want(t, h.bucket("two"), "a", "2")
	if entries, _ := mustAll(t, one, "", 0); text(entries) != "a=1 " {
		t.Errorf("list of one: %s", text(entries))
	}
}

// Compare-and-set by many callers loses no step.
func testCounter(t *testing.T, open Opener) {
	b := start(t, open).bucket("test")
	const callers, steps = 8, 10
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for done := 0; done < steps; {
				e, err := b.Get(t.Context(), "counter")
				if err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(string(e.Value))
				_, err = b.Apply(t.Context(), storage.Replace("counter", []byte(strconv.Itoa(n+1)), e.Revision))
				if err == nil {
					done++
				} else if !errors.Is(err, storage.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	want(t, b, "counter", strconv.Itoa(callers*steps))
}

func testReopen(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	apply(t, b, storage.Put("a", []byte("1")), storage.Put("b", []byte("1")), storage.Put("c", []byte("1")))
	apply(t, b, storage.Delete("b"), storage.Put("c", []byte("2")).Until(h.clock.now().AddDate(1, 0, 0)))
	before, revision := mustAll(t, b, "", 0)
	h.reopen()
	b = h.bucket("test")
	after, again := mustAll(t, b, "", 0)
	if text(after) != "a=1 c=2 " || again != revision || !after[1].Expires.Equal(before[1].Expires) || after[0].Revision != before[0].Revision {
		t.Errorf("before: %+v at %d\nafter: %+v at %d", before, revision, after, again)
	}
	apply(t, b, storage.Replace("a", []byte("3"), before[0].Revision))
	if e := want(t, b, "a", "3"); e.Revision <= revision {
		t.Errorf("revision %d after %d", e.Revision, revision)
	}
}

func testContext(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Get(ctx, "a")
	wantError(t, "Get", err, context.Canceled)
	_, err = b.List(ctx, "", "", 0)
	wantError(t, "List", err, context.Canceled)
	_, err = b.Apply(ctx, storage.Put("a", nil))
	wantError(t, "Apply", err, context.Canceled)
	wantError(t, "Watch", b.Watch(ctx, "", 0, nil), context.Canceled)
	wantAbsent(t, b, "a")
	if err := h.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func testClose(t *testing.T, open Opener) {
	h := start(t, open)
	b := h.bucket("test")
	_, revision := mustAll(t, b, "", 0)
	ends := make(chan error, 2)
	running := make(chan struct{})
	go func() { ends <- h.Run(context.Background()) }() // ends with Close
	go func() {                                         // ends with Close
		ends <- b.Watch(context.Background(), "", revision, func(storage.Event) error {
			close(running)
			return nil
		})
	}()
	apply(t, b, storage.Put("a", nil))
	<-running
	for range 2 {
		if err := h.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	for range 2 {
		wantError(t, "end of Run or Watch", <-ends, storage.ErrClosed)
	}
	ctx := t.Context()
	_, err := b.Get(ctx, "a")
	wantError(t, "Get", err, storage.ErrClosed)
	_, err = b.List(ctx, "", "", 0)
	wantError(t, "List", err, storage.ErrClosed)
	_, err = b.Apply(ctx, storage.Put("a", nil))
	wantError(t, "Apply", err, storage.ErrClosed)
	wantError(t, "Watch", b.Watch(ctx, "", revision, nil), storage.ErrClosed)
	if h.Archive != nil {
		wantError(t, "Snapshot", h.Archive.Snapshot(ctx, &strings.Builder{}), storage.ErrClosed)
		wantError(t, "Restore", h.Archive.Restore(ctx, strings.NewReader("")), storage.ErrClosed)
	}
}
