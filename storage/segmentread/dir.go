// Package segmentread reads the bbolt files of an audit log without trusting
// them and without bbolt.
//
// bbolt maps its files and follows page references unchecked: on a damaged or
// crafted file it panics, faults or loops. This reader uses plain reads and
// checks every offset, size, page number and key order before it follows them,
// visits each page at most once, and reports where a file is damaged. It never
// writes. The memory it needs does not depend on the size of the log, except one
// bit a page.
//
// A Dir is the offline source of audit/verify.
package segmentread

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	lockTimeout = 500 * time.Millisecond
	lockRetry   = 25 * time.Millisecond
)

// ErrInUse is returned when another process has the log open for writing.
var ErrInUse = errors.New("in use")

// ErrNoLog is returned when the folder holds no log file.
var ErrNoLog = errors.New("no audit log")

// InUseError names the process that has the log open. It is an ErrInUse.
type InUseError struct {
	Path string
	// Owner is what the lock file says: "pid command"; empty when it says nothing.
	Owner string
}

// Error names the owner and what to do instead.
func (e *InUseError) Error() string {
	owner := "another process"
	if pid, command, ok := strings.Cut(e.Owner, " "); ok {
		owner = fmt.Sprintf("pid %s (%s)", pid, command)
	} else if pid != "" {
		owner = "pid " + pid
	}
	return fmt.Sprintf("%s is in use by %s: ask the running server with --server", e.Path, owner)
}

// Is reports that the error is an ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// DamageError says what is wrong with a file and where.
type DamageError struct {
	Kind   string // "page_damaged" or "file_truncated"
	Path   string
	Offset int64 // byte offset of the page, or where the file ends
	Reason string
}

const (
	kindPage      = "page_damaged"
	kindTruncated = "file_truncated"
)

// Error names file, offset and reason.
func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s", filepath.Base(e.Path), e.Offset, e.Reason)
}

// Damage returns Kind; by this method audit/verify tells damage from a file that
// could not be looked at.
func (e *DamageError) Damage() string { return e.Kind }

// Dir is the log in one folder. It is for one goroutine.
type Dir struct {
	path string   // DIR/audit
	lock *os.File // shared lock; nil when there is no lock file
	cur  *file    // the file read last
	num  uint64   // its number
	buf  window   // read buffer, handed from file to file
}

// Open opens the log under audit, the folder DIR/audit, and keeps a shared lock
// on it until Close, so that no server starts to write meanwhile. It returns an
// InUseError when a server has it open, ErrNoLog when there is no log file, and
// errors of the file system as they are.
func Open(audit string) (*Dir, error) {
	d := &Dir{path: audit}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	numbers, err := d.Files(context.Background())
	if err == nil && len(numbers) == 0 {
		err = fmt.Errorf("%s: %w", filepath.Join(audit, "log"), ErrNoLog)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close gives up the lock.
func (d *Dir) Close() error {
	var errs []error
	if d.cur != nil {
		errs = append(errs, d.cur.f.Close())
		d.cur = nil
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	return errors.Join(errs...)
}

// Files returns the numbers of the log's files, ascending. Other names in the
// folder are left alone.
func (d *Dir) Files(context.Context) ([]uint64, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, "log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the log files: %w", err)
	}
	var out []uint64
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".db")
		if n, err := strconv.ParseUint(base, 10, 64); ok && len(base) == 8 && err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Inspect opens a file and returns the names of its buckets. A DamageError
// beside the names tells of damage that does not keep the buckets from being
// read, or not wholly.
func (d *Dir) Inspect(_ context.Context, number uint64) ([]string, error) {
	f, err := d.open(number)
	if err != nil {
		return nil, err
	}
	return f.names(), f.flaw
}

// Walk calls fn for every entry of a bucket in the order of the keys, and stops
// at the first page that is damaged. Key and value are valid during the call
// only, and fn must not use the Dir. A bucket that does not exist has no entries.
func (d *Dir) Walk(ctx context.Context, number uint64, bucket string, fn func(key, value []byte) error) error {
	f, err := d.open(number)
	if err != nil {
		return err
	}
	return f.walk(ctx, bucket, fn)
}

func (d *Dir) open(number uint64) (*file, error) {
	if d.cur != nil && d.num == number {
		return d.cur, nil
	}
	if d.cur != nil {
		d.buf = d.cur.win
		d.cur.f.Close() // read only: nothing can be lost
		d.cur = nil
	}
	path := filepath.Join(d.path, "log", fmt.Sprintf("%08d.db", number))
	f, err := openFile(path, d.buf)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, &InUseError{Path: path, Owner: d.owner()}
	}
	if err != nil {
		return nil, err
	}
	d.cur, d.num = f, number
	return f, nil
}

func (d *Dir) takeLock() error {
	f, err := os.Open(d.lockPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a copy of the log, made without its lock file
	}
	if err != nil {
		return fmt.Errorf("open the lock file: %w", err)
	}
	if err := lockShared(f); err != nil {
		err = fmt.Errorf("lock %s: %w", f.Name(), err)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = &InUseError{Path: d.path, Owner: d.owner()}
		}
		return errors.Join(err, f.Close())
	}
	d.lock = f
	return nil
}

func (d *Dir) lockPath() string { return filepath.Join(d.path, "lock") }

// owner returns the first line of the lock file, shortened and printable.
func (d *Dir) owner() string {
	f, err := os.Open(d.lockPath())
	if err != nil {
		return ""
	}
	defer f.Close()
	b := make([]byte, 200)
	n, _ := f.Read(b)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, strings.TrimSpace(line))
}

func lockShared(f *os.File) error {
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		if err == nil || (!errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR)) || time.Now().After(deadline) {
			return err
		}
	}
}
