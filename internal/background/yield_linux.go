package background

import "golang.org/x/sys/unix"

// niceness is added to the thread's nice value: it gets about a tenth of a
// processor that others want, and all of one that nobody wants.
const niceness = 10

// yield lets the calling thread wait for others. Its slices are short ones too:
// it then has the processor seldom for long, and never waits for long while it
// holds a lock of the runtime's that the others want. Where the kernel refuses,
// the work is done at the usual priority.
func yield() {
	_ = schedule(unix.Gettid(), niceness) // best effort
}
