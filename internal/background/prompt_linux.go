package background

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// shortSlice is the slice of time, in nanoseconds, that threads ask the kernel
// for; it is the least that Linux takes.
const shortSlice = 100_000

// Prompt asks the kernel to let this process's threads run soon after they wake
// rather than for long at a time: a thread that has an answer to give then need
// not wait until another program has used up its own slice. No thread gets a
// larger share of a processor by it. Threads that are started later are like the
// one that starts them.
//
// It needs no privilege. Linux from 6.12 on does as it is asked (sched(7)); an
// older one does nothing. Errors are those of the operating system.
func Prompt() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list the threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		// A thread may have ended meanwhile.
		if err := schedule(id, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ask for a short slice: %w", err)
		}
	}
	return nil
}

// schedule asks for short slices for a thread, and adds to its nice value.
func schedule(thread int, nicer int32) error {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil {
		return err
	}
	if attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return nil // somebody chose what it is
	}
	attr.Runtime, attr.Nice = shortSlice, min(attr.Nice+nicer, 19)
	return unix.SchedSetAttr(thread, attr, 0)
}
