package tokens

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/verdict-pdp/verdict/internal/durable"
)

// Names of the files in the data folder.
const (
	fileName     = "tokens.json"
	lockName     = "tokens.lock"
	adminName    = "admin.token"
	recordedName = "tokens.recorded"
)

// lockRetry is how often a held lock is tried again.
const lockRetry = 20 * time.Millisecond

var (
	// ErrPermissions is returned when others than the owner may read or write
	// a file that holds or names credentials.
	ErrPermissions = errors.New("permissions are too open")
	// ErrLocked is returned when another process holds the lock of the token
	// file for too long.
	ErrLocked = errors.New("token file is locked by another process")
)

// fileState tells one version of a file from another. The zero value stands
// for a file that does not exist.
type fileState struct {
	modified time.Time
	size     int64
	inode    uint64
	mode     fs.FileMode
}

func stateOf(info fs.FileInfo) fileState {
	s := fileState{modified: info.ModTime(), size: info.Size(), mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// statFile is the state of the file, zero when there is none.
func statFile(path string) (fileState, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fileState{}, nil
	}
	if err != nil {
		return fileState{}, err
	}
	return stateOf(info), nil
}

// readPrivate reads a file that only its owner may read or write. A file that
// does not exist gives nil and the zero state.
func readPrivate(path string, limit int64) ([]byte, fileState, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fileState{}, nil
	}
	if err != nil {
		return nil, fileState{}, err
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: it cannot be exchanged in between
	if err != nil {
		return nil, fileState{}, fmt.Errorf("look at %s: %w", path, err)
	}
	state := stateOf(info)
	if !info.Mode().IsRegular() {
		return nil, state, fmt.Errorf("%s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, state, fmt.Errorf("%s has mode %04o: %w, want 0600 (chmod 600 %s)", path, perm, ErrPermissions, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, state, fmt.Errorf("read %s: %w", path, err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, state, nil
}

// writePrivate replaces the file: temporary file, write, fsync, rename, fsync
// of the folder. When it returns an error the old file may still be replaced
// only if the last step failed. The caller holds the lock, so that the name of
// the temporary file is its own.
func writePrivate(dir, name string, b []byte) (err error) {
	path := filepath.Join(dir, name)
	temp := path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an old temporary file: %w", err)
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreGone(os.Remove(temp)))
		}
	}()
	if err := fill(f, b, dir); err != nil {
		return errors.Join(err, ignoreClosed(f.Close()))
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

func fill(f *os.File, b []byte, dir string) error {
	if _, err := f.Write(b); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		// The administrator's command must not lock out the server's user.
		if info, err := os.Stat(dir); err == nil {
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
					return err
				}
			}
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// lock takes the lock that every writer of the folder's token files holds, and
// waits for it as long as wait. unlock gives it back; a process that dies gives
// it back as well.
func lock(ctx context.Context, dir string, wait time.Duration) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ticker := time.NewTicker(lockRetry)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrLocked), f.Close())
		case <-ticker.C:
		}
	}
}
