package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const lockPoll = 20 * time.Millisecond

// LockedError is returned by Open when another process has the store open.
type LockedError struct {
	Path   string // of the lock file
	Holder string // "pid command" as the holder wrote it, may be empty
}

// Error names the file and the holder's process id and command.
func (e *LockedError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("state store is in use by another process (%s)", e.Path)
	}
	pid, command, _ := strings.Cut(e.Holder, " ")
	return fmt.Sprintf("state store is in use by process %s, %q (%s)", pid, command, e.Path)
}

// lock is the held lock of a store. It is a file of its own, since a restore
// replaces the other one.
type lock struct{ file *os.File }

// acquire takes the lock, or fails after the timeout.
func acquire(path, command string, timeout time.Duration) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	deadline := time.Now().Add(timeout)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
		time.Sleep(lockPoll)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 4096)) // an unknown holder is no worse news
		f.Close()
		return nil, &LockedError{Path: path, Holder: strings.TrimSpace(string(holder))}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), command)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &lock{file: f}, nil
}

// release gives the lock up; the file stays, empty.
func (l *lock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
