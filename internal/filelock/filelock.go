// Package filelock lets one process at a time have a folder of files, and tells
// the others who it is.
package filelock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how long an Acquire that waits lets pass between two tries.
const poll = 20 * time.Millisecond

// maxHolder bounds what is read of a lock file.
const maxHolder = 4096

// HeldError is returned when another process has the lock.
type HeldError struct {
	What   string // that is locked, such as "audit log"
	Path   string // of the lock file
	Holder string // "pid command" as the holder wrote it; empty: unknown, or it only reads
	Read   bool   // the holder only reads, as audit verify does
}

// Error names the file and the holder's process id and command.
func (e *HeldError) Error() string {
	if e.Read {
		return fmt.Sprintf("%s is being read by another process, such as audit verify (%s)", e.What, e.Path)
	}
	if e.Holder == "" {
		return fmt.Sprintf("%s is in use by another process (%s)", e.What, e.Path)
	}
	pid, command, _ := strings.Cut(e.Holder, " ")
	return fmt.Sprintf("%s is in use by process %s, %q (%s)", e.What, pid, command, e.Path)
}

// Options say what is locked and by whom.
type Options struct {
	Path    string        // of the lock file, which is made if it is missing
	What    string        // is locked, for errors
	Command string        // of this process, for others
	Wait    time.Duration // for another process to give the lock up
}

// Lock is a held lock.
type Lock struct{ file *os.File }

// Acquire takes the lock. It gives a *HeldError when another process has it and
// keeps it for as long as o.Wait.
func Acquire(o Options) (*Lock, error) {
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := o.take(f); err != nil {
		f.Close()
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), o.Command)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return &Lock{file: f}, nil
}

func (o Options) take(f *os.File) error {
	deadline := time.Now().Add(o.Wait)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", o.Path, err)
		case time.Now().Before(deadline):
			time.Sleep(poll)
			continue
		}
		held := &HeldError{What: o.What, Path: o.Path}
		if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
			held.Read = true
			return held
		}
		holder, _ := io.ReadAll(io.LimitReader(f, maxHolder)) // an unknown holder is no worse news
		held.Holder = strings.TrimSpace(string(holder))
		return held
	}
}

// Release gives the lock up; the file stays, empty.
func (l *Lock) Release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
