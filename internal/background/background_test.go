//go:build linux

package background_test

import (
	"errors"
	"math"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/verdict-pdp/verdict/internal/background"
)

func TestDoReturnsWhatTheWorkDoes(t *testing.T) {
	want := errors.New("failed")
	for _, err := range []error{nil, want} {
		if got := background.New(true).Do(func() error { return err }); !errors.Is(got, err) {
			t.Errorf("got %v, want %v", got, err)
		}
	}
}

func TestAPanicIsTheCallers(t *testing.T) {
	r, before := background.New(true), runtime.GOMAXPROCS(0)
	func() {
		defer func() {
			if got := recover(); got != "broken" {
				t.Errorf("recovered %v", got)
			}
		}()
		_ = r.Do(func() error { panic("broken") })
	}()
	if now := runtime.GOMAXPROCS(0); now != before {
		t.Errorf("GOMAXPROCS is %d after the panic, was %d", now, before)
	}
}

func TestMoreThreadsWhileThereIsWork(t *testing.T) {
	for _, chosen := range []bool{true, false} {
		if !chosen { // then the runtime chooses again, whatever GOMAXPROCS or -cpu say
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
			runtime.SetDefaultGOMAXPROCS()
		}
		r, before := background.New(chosen), runtime.GOMAXPROCS(0)
		var outer, inner int
		err := r.Do(func() error {
			outer = runtime.GOMAXPROCS(0)
			return r.Do(func() error {
				inner = runtime.GOMAXPROCS(0)
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := background.Widened(before); outer != want || inner != want {
			t.Errorf("GOMAXPROCS is %d, in nested work %d, want %d", outer, inner, want)
		}
		if now := runtime.GOMAXPROCS(0); now != before {
			t.Errorf("GOMAXPROCS is %d after the work, was %d", now, before)
		}
	}
}

// TestWidened has what the runtime's collector takes of each number for its
// threads: a quarter, rounded, unless that is further than 30 % from a quarter.
func TestWidened(t *testing.T) {
	for n, want := range map[int]int{1: 4, 2: 4, 3: 4, 4: 5, 5: 7, 6: 7, 7: 8, 63: 64} {
		got := background.Widened(n)
		if got != want {
			t.Errorf("%d with work where it is %d without, want %d", got, n, want)
		}
		whole := math.Round(float64(got) / 4)
		if off := math.Abs(whole/(float64(got)/4) - 1); whole == 0 || off > 0.3 {
			t.Errorf("%d: the collector has %v whole threads, %.0f %% from a quarter", got, whole, 100*off)
		}
	}
}

// TestCollect sees that garbage is collected, and that the threads that go with
// it are taken back afterwards.
func TestCollect(t *testing.T) {
	r, before := background.New(true), runtime.GOMAXPROCS(0)
	collected := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(done chan struct{}) { close(done) }, collected)
	r.Collect()
	<-collected
	if now := runtime.GOMAXPROCS(0); now != before {
		t.Errorf("GOMAXPROCS is %d after the collection, was %d", now, before)
	}
}

// TestOnlyTheWorkWaits reads the kernel's priority of the threads: the one that
// works has a lower one, and no goroutine gets that thread afterwards.
func TestOnlyTheWorkWaits(t *testing.T) {
	priority := func() int { return threadNice(t) }
	r, before := background.New(true), priority()
	var working int
	if err := r.Do(func() error { working = priority(); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := min(before+10, 19); working != want {
		t.Errorf("the work has nice value %d, want %d", working, want)
	}
	for range 50 {
		found := make(chan int)
		go func() { found <- priority() }()
		if got := <-found; got != before {
			t.Fatalf("a goroutine has nice value %d, want %d", got, before)
		}
	}
}

// TestPrompt reads what the kernel was asked for: short slices of the threads
// that answer, also of those started later, and of the thread that works. Linux
// before 6.12 tells of no slice.
func TestPrompt(t *testing.T) {
	attributes := func() *unix.SchedAttr {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return new(unix.SchedAttr)
		}
		return attr
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own := attributes()
	own.Runtime = 0 // the usual, whatever an earlier run asked for
	if err := unix.SchedSetAttr(0, own, 0); err != nil {
		t.Fatal(err)
	}
	usual, nice := attributes().Runtime, threadNice(t)
	if err := background.Prompt(); err != nil {
		t.Fatal(err)
	}
	if now := threadNice(t); now != nice {
		t.Errorf("the nice value is %d, was %d", now, nice)
	}
	if usual == 0 {
		t.Skip("this kernel has no slices of threads")
	}
	for range 50 {
		found := make(chan uint64)
		go func() {
			runtime.LockOSThread() // not unlocked: the thread ends, another is started
			found <- attributes().Runtime
		}()
		if got := <-found; got >= usual {
			t.Fatalf("a thread asks for %d ns, usual are %d", got, usual)
		}
	}
	var working uint64
	if err := background.New(true).Do(func() error { working = attributes().Runtime; return nil }); err != nil {
		t.Fatal(err)
	}
	if working >= usual {
		t.Errorf("the work asks for %d ns, usual are %d", working, usual)
	}
}

func threadNice(t *testing.T) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
	if err != nil {
		t.Error(err)
	}
	return 20 - p
}
