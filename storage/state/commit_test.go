package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
	"github.com/verdict-pdp/verdict/storage/storagetest"
)

func TestCrash(t *testing.T) { storagetest.Crash(t, opener) }

// metric is the sum of a counter or gauge, or the number of samples.
func metric(t testing.TB, s *state.Store, name string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// held starts n writes that wait together.
func held(t *testing.T, s *state.Store, n int, apply func(i int)) (release, wait func()) {
	t.Helper()
	release = s.Hold()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { apply(i) })
	}
	for s.Waiting() < n {
		runtime.Gosched()
	}
	return release, wg.Wait
}

// Writes that wait together share a commit, and each gets its own result.
func TestGroupCommit(t *testing.T) {
	s := open(t, t.TempDir(), state.Options{})
	b := bucket(t, s, "test")
	const n = 50
	var conflicts sync.Map
	release, wait := held(t, s, n, func(i int) {
		_, err := b.Apply(context.Background(), storage.Put(fmt.Sprintf("own.%d", i), nil), storage.Create(fmt.Sprintf("shared.%d", i/2), nil))
		if errors.Is(err, storage.ErrConflict) {
			conflicts.Store(i/2, true)
		} else if err != nil {
			t.Error(err)
		}
	})
	release()
	wait()
	page, err := b.List(t.Context(), "own.", "", 0)
	if err != nil || len(page.Entries) != n/2 {
		t.Errorf("%d of %d batches were applied, %v", len(page.Entries), n/2, err)
	}
	for i := range n / 2 {
		if _, ok := conflicts.Load(i); !ok {
			t.Errorf("both batches with the key shared.%d were applied", i)
		}
	}
	if got := metric(t, s, "verdict_state_commit_seconds"); got != 1 {
		t.Errorf("%v commits, want 1", got)
	}
	if got := metric(t, s, "verdict_state_conflicts_total"); got != n/2 {
		t.Errorf("%v conflicts, want %d", got, n/2)
	}
}

// A write whose context ends while it waits is not applied.
func TestWithdrawn(t *testing.T) {
	s := open(t, t.TempDir(), state.Options{})
	b := bucket(t, s, "test")
	ctx, cancel := context.WithCancel(t.Context())
	release, wait := held(t, s, 2, func(i int) {
		_, err := b.Apply(ctx, storage.Put(fmt.Sprintf("k%d", i), nil))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Apply = %v", err)
		}
	})
	cancel()
	wait()
	release()
	if page, err := b.List(t.Context(), "", "", 0); err != nil || len(page.Entries) != 0 {
		t.Errorf("%d entries, %v", len(page.Entries), err)
	}
}

// Close fails what waits at once, though a commit takes its time.
func TestCloseWhileWaiting(t *testing.T) {
	s := open(t, t.TempDir(), state.Options{})
	b := bucket(t, s, "test")
	release, wait := held(t, s, 3, func(int) {
		if _, err := b.Apply(context.Background(), storage.Put("k", nil)); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("Apply = %v", err)
		}
	})
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }() // ends with release
	wait()
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	broken := errors.New("input/output error")
	for _, tt := range []struct {
		name          string
		before, after error
		want          error // of the write
		present       bool  // after the store was opened again
		usable        bool  // without that
	}{
		{"failed, not applied", broken, nil, storage.ErrUnavailable, false, true},
		{"failed, yet applied", nil, broken, storage.ErrUncertain, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, state.Options{})
			b := bucket(t, s, "test")
			revisions, err := b.Apply(t.Context(), storage.Put("old", []byte("1")))
			if err != nil {
				t.Fatal(err)
			}
			watched := make(chan error, 1)
			go func() { // ends with the store
				watched <- b.Watch(context.Background(), "", revisions[0], func(e storage.Event) error {
					return fmt.Errorf("event of %q", e.Key)
				})
			}()
			s.SetFaults(func() error { return tt.before }, func() error { return tt.after })
			_, err = b.Apply(t.Context(), storage.Put("new", []byte("1")), storage.Delete("old"))
			if !errors.Is(err, tt.want) || !errors.Is(err, broken) {
				t.Errorf("Apply = %v, want %v", err, tt.want)
			}
			s.SetFaults(nil, nil)
			if tt.usable {
				if _, err := b.Apply(t.Context(), storage.Check("new", 0), storage.Put("next", nil)); err != nil {
					t.Errorf("Apply after the fault: %v", err)
				}
				if err := <-watched; err == nil || err.Error() != `event of "next"` {
					t.Errorf("Watch = %v", err)
				}
			} else {
				unusable(t, s, b)
				if err := <-watched; !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("Watch = %v", err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			b = bucket(t, open(t, dir, state.Options{}), "test")
			_, newErr := b.Get(t.Context(), "new")
			_, oldErr := b.Get(t.Context(), "old")
			if tt.present != (newErr == nil) || tt.present == (oldErr == nil) {
				t.Errorf("opened again: new %v, old %v", newErr, oldErr)
			}
		})
	}
}

// unusable checks that everything is refused after a write failed.
func unusable(t *testing.T, s *state.Store, b *state.Bucket) {
	t.Helper()
	ctx := t.Context()
	_, get := b.Get(ctx, "old")
	_, list := b.List(ctx, "", "", 0)
	_, apply := b.Apply(ctx, storage.Put("a", nil))
	for what, err := range map[string]error{
		"Get": get, "List": list, "Apply": apply, "Watch": b.Watch(ctx, "", 1, nil),
		"Snapshot": s.Snapshot(ctx, &strings.Builder{}), "Restore": s.Restore(ctx, strings.NewReader("")),
	} {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s = %v, want ErrUnavailable", what, err)
		}
	}
	if metric(t, s, "verdict_state_failed") != 1 || metric(t, s, "verdict_state_failures_total") != 1 {
		t.Error("the metrics do not show the failure")
	}
}

// TestFileTooLarge fills a file up to a limit that the system sets, in a process
// of its own: the write that does not fit is not applied, and as soon as there
// is room the store goes on.
func TestFileTooLarge(t *testing.T) {
	const env = "STATE_TEST_LIMIT"
	if os.Getenv(env) == "" {
		child := exec.Command(os.Args[0], "-test.run", "^TestFileTooLarge$", "-test.v")
		child.Env = append(os.Environ(), env+"="+t.TempDir())
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	s := open(t, os.Getenv(env), state.Options{})
	b := bucket(t, s, "test")
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 40 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	var failed error
	n := 0
	for ; failed == nil && n < 100; n++ {
		_, failed = b.Apply(t.Context(), storage.Put(fmt.Sprintf("k%d", n), make([]byte, storage.MaxValue)), storage.Put("count", fmt.Append(nil, n)))
	}
	if !errors.Is(failed, storage.ErrUnavailable) || !strings.Contains(failed.Error(), "too large") {
		t.Fatalf("after %d writes: %v, want ErrUnavailable", n, failed)
	}
	last := fmt.Sprintf("k%d", n-1)
	if _, err := b.Get(t.Context(), last); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the write that failed: %v", err)
	}
	if e, err := b.Get(t.Context(), "count"); err != nil || string(e.Value) != fmt.Sprint(n-2) {
		t.Errorf("count = %q, %v", e.Value, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.Apply(t.Context(), storage.Put(last, make([]byte, storage.MaxValue))); err != nil {
			t.Fatalf("with room: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, os.Getenv(env), state.Options{})
	if page, err := bucket(t, s, "test").List(t.Context(), "", "", 0); err != nil || len(page.Entries) == 0 {
		t.Errorf("opened again: %v", err)
	}
}

// TestDiskFull fills a small file system, where it may mount one.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, dir, state.Options{})
	b := bucket(t, s, "test")
	failures, last := 0, -1
	for i := range 300 {
		_, err := b.Apply(t.Context(), storage.Put(fmt.Sprintf("k%d", i%40), make([]byte, 1+i*7919%200_000)), storage.Put("last", fmt.Append(nil, i)))
		switch {
		case err == nil:
			last = i
		case errors.Is(err, storage.ErrUnavailable) && errors.Is(err, unix.ENOSPC):
			failures++
		default:
			t.Fatalf("write %d: %v", i, err)
		}
		if e, err := b.Get(t.Context(), "last"); err != nil || string(e.Value) != fmt.Sprint(last) {
			t.Fatalf("after write %d: last = %q, %v, want %d", i, e.Value, err, last)
		}
		if i == 150 {
			if failures == 0 {
				t.Fatal("the disk did not become full")
			}
			if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
				t.Fatal(err)
			}
			failures = 0
		}
	}
	if failures > 0 || last != 299 {
		t.Errorf("%d writes failed with room, the last that did not was %d", failures, last)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err := bucket(t, open(t, dir, state.Options{}), "test").Get(t.Context(), "last"); err != nil || string(e.Value) != "299" {
		t.Errorf("opened again: last = %q, %v", e.Value, err)
	}
}

// A watcher that is behind what is held is ended.
func TestWatchBehind(t *testing.T) {
	for name, o := range map[string]state.Options{"events": {WatchEvents: 5}, "bytes": {WatchBytes: 500}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), o)
			b := bucket(t, s, "test")
			var revisions []uint64
			for i := range 10 {
				got, err := b.Apply(t.Context(), storage.Put(fmt.Sprintf("k%d", i), make([]byte, 98)))
				if err != nil {
					t.Fatal(err)
				}
				revisions = append(revisions, got...)
			}
			seen := 0
			enough := errors.New("enough")
			err := b.Watch(t.Context(), "", revisions[4], func(storage.Event) error {
				if seen++; seen == 5 {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Errorf("Watch of what is held = %v after %d events", err, seen)
			}
			err = b.Watch(t.Context(), "", revisions[3], func(storage.Event) error { return errors.New("called") })
			if !errors.Is(err, storage.ErrCompacted) {
				t.Errorf("Watch of what is not held = %v", err)
			}
			if metric(t, s, "verdict_state_watches_compacted_total") != 1 || metric(t, s, "verdict_state_watchers") != 0 {
				t.Error("the metrics do not show it")
			}
		})
	}
}
