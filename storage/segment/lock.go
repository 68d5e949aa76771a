package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError is returned by Open when another process has the log open.
type LockedError struct {
	Path   string // of the lock file
	Holder string // "pid command" as the holder wrote it; empty: unknown, or it only reads
	Read   bool   // the holder only reads, as audit verify does
}

// Error names the holder's process id and command.
func (e *LockedError) Error() string {
	if e.Read {
		return fmt.Sprintf("audit log is being read by another process, such as audit verify (%s)", e.Path)
	}
	if e.Holder == "" {
		return fmt.Sprintf("audit log is in use by another process (%s)", e.Path)
	}
	pid, command, _ := strings.Cut(e.Holder, " ")
	return fmt.Sprintf("audit log is in use by process %s, %q (%s)", pid, command, e.Path)
}

// lock is the held lock of a log.
type lock struct{ file *os.File }

// acquire takes the lock at once or fails.
func acquire(path, command string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
				return nil, &LockedError{Path: path, Read: true}
			}
			holder, _ := io.ReadAll(io.LimitReader(f, 4096)) // an unknown holder is no worse news
			return nil, &LockedError{Path: path, Holder: strings.TrimSpace(string(holder))}
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), command)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return &lock{file: f}, nil
}

// release gives the lock up; the file stays, empty.
func (l *lock) release() error {
	return errors.Join(l.file.Truncate(0), l.file.Close())
}
