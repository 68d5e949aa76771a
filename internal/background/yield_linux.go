package background

import "golang.org/x/sys/unix"

// niceness is added to the thread's nice value: it gets about a tenth of a
// processor that others want, and all of one that nobody wants.
const niceness = 10

// yield lets the calling thread wait for others. Where the kernel refuses, the
// work is done at the usual priority.
func yield() {
	_ = slice(unix.Gettid(), 0, niceness) // best effort
}
