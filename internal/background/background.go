// Package background runs work that keeps a processor busy for seconds, such as
// compiling a large bundle, so that requests are answered meanwhile as if
// another process did it: on an operating system thread of its own, which the
// kernel lets wait for the others. The collector of garbage, which the runtime
// runs on all threads, is given its own too.
package background

import (
	"runtime"
	"sync"
)

// Runner runs work in the background. While there is some, the Go scheduler may
// use one to three more threads at a time (GOMAXPROCS), since the one that works
// is often waiting. A process has one Runner; its methods may be called from any
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

// Collect collects garbage, with as many threads as go with work.
func (r *Runner) Collect() {
	r.begin()
	defer r.end()
	runtime.GC()
}

func (r *Runner) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working++; r.working == 1 {
		r.before = runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(widened(r.before))
	}
}

// widened is the GOMAXPROCS that goes with work where it is n without: one more,
// and others where the collector could not give its quarter of them to whole
// threads. Then it would mark on each of them in turns, up to a fifth more than
// its quarter of all the time since it began: a turn that lasts 50 ms after a
// second, which is how long a request waits that came to that thread. See
// startCycle in the runtime's mgcpacer.go.
func widened(n int) int {
	switch n++; {
	case n <= 3:
		return 4
	case n == 6:
		return 7
	}
	return n
}

func (r *Runner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working--; r.working > 0 {
		return
	}
	// Either stops the world.
	if r.chosen {
		runtime.GOMAXPROCS(r.before)
	} else {
		runtime.SetDefaultGOMAXPROCS()
	}
}
