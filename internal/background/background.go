// Package background runs work that keeps a processor busy for seconds, such as
// compiling a large bundle, so that requests are answered meanwhile as if
// another process did it: on an operating system thread of its own, which the
// kernel lets wait for the others.
package background

import (
	"runtime"
	"sync"
)

// Runner runs work in the background. While there is some, the Go scheduler may
// use one more thread at a time (GOMAXPROCS), since the one that works is often
// waiting. A process has one Runner; its methods may be called from any
// goroutine.
type Runner struct {
	mu      sync.Mutex
	working int  // owned by mu
	before  int  // GOMAXPROCS without work; owned by mu
	chosen  bool // somebody set GOMAXPROCS: it is not the runtime's own choice
}

// New returns a Runner. Chosen says that GOMAXPROCS was set by somebody, and is
// set to the same again after the work; otherwise the runtime chooses again.
func New(chosen bool) *Runner { return &Runner{chosen: chosen} }

// Do calls fn and returns when it has. A panic of fn is the caller's.
func (r *Runner) Do(fn func() error) error {
	r.begin()
	defer r.end()
	var err error
	var failure any
	done := make(chan struct{})
	// Ends with fn. The thread has a lower priority from now on, which cannot be
	// taken back: it is not unlocked, so that it ends with the goroutine.
	go func() {
		runtime.LockOSThread()
		defer close(done)
		defer func() { failure = recover() }()
		yield()
		err = fn()
	}()
	<-done
	if failure != nil {
		panic(failure)
	}
	return err
}

func (r *Runner) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working++; r.working == 1 {
		r.before = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(r.before + 1)
	}
}

func (r *Runner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working--; r.working > 0 {
		return
	}
	if runtime.GOMAXPROCS(r.before); !r.chosen {
		runtime.SetDefaultGOMAXPROCS()
	}
}
