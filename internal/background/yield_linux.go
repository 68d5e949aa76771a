package background

import (
	"golang.org/x/sys/unix"
)

// niceness is added to the thread's nice value: it gets about a tenth of a
// processor that others want, and all of one that nobody wants.
const niceness = 10

// yield lets the calling thread wait for others. Where the kernel refuses, the
// work is done at the usual priority.
func yield() {
	thread := unix.Gettid()
	// The system call returns 20 minus the nice value.
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	if err != nil {
		return
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, thread, min(20-raw+niceness, 19)) // best effort
}
