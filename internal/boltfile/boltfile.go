// Package boltfile opens bbolt files that may be damaged, or made by an enemy,
// without taking the process down.
//
// bbolt checks neither its pages nor that a file is as long as it says: a damaged
// one makes it panic, partly in goroutines of its own, kills the process by
// SIGBUS, lets it follow a page for ever or take a page in use for a free one. So
// Inspect checks the structure before bbolt maps the file, and what still goes
// wrong later is caught and becomes an error.
package boltfile

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// ErrDamaged is wrapped by errors that say what is wrong with a file.
var ErrDamaged = errors.New("file is damaged")

func damage(format string, args ...any) error {
	return &damageError{fmt.Errorf(format, args...)}
}

// damageError is an ErrDamaged that says only what is wrong, since whoever
// returns it says what the file is.
type damageError struct{ err error }

func (e *damageError) Error() string        { return e.err.Error() }
func (e *damageError) Unwrap() error        { return e.err }
func (e *damageError) Is(target error) bool { return target == ErrDamaged }

// mmapSize is reserved in the address space, since a new mapping has to wait for
// all readers.
const mmapSize = 1 << 30

// lockTimeout bounds the wait for bbolt's own lock of the file.
const lockTimeout = time.Second

// Options say how a file is opened. The zero value opens for writing with bbolt's
// defaults.
type Options struct {
	ReadOnly bool
	PageSize int // of a new file, in bytes
	Grow     int // the step by which the file grows, in bytes; 0: bbolt's
}

// File is an open bbolt file. View may be called from many goroutines; Update and
// Close by one at a time.
type File struct {
	db     *bolt.DB
	handle *os.File // what db reads and writes; db closes it
	stuck  bool     // bbolt panicked in a write and may hold its own locks
}

// Open opens the file at path, which is new or which Inspect found sound. The list
// of free pages is kept on disk, so that opening does not read everything.
func Open(path string, o Options) (*File, error) {
	f := &File{}
	err := guard(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:         lockTimeout,
			ReadOnly:        o.ReadOnly,
			PageSize:        o.PageSize,
			InitialMmapSize: mmapSize,
			FreelistType:    bolt.FreelistMapType,
			NoStatistics:    true,
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				var err error
				f.handle, err = os.OpenFile(name, flag, perm)
				return f.handle, err
			},
		})
		return err
	})
	if err != nil {
		if f.handle != nil {
			f.handle.Close() // bbolt does not when it panics
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if o.Grow > 0 {
		f.db.AllocSize = o.Grow
	}
	return f, nil
}

// View runs fn in a read transaction. While it runs no page that it can see is
// reused and no mapping is replaced, so fn must be short.
func (f *File) View(fn func(*bolt.Tx) error) error {
	return guard(func() error { return f.db.View(fn) })
}

// Update runs fn in a write transaction, synced when it returns.
func (f *File) Update(fn func(*bolt.Tx) error) error {
	f.stuck = true
	return guard(func() error {
		err := f.db.Update(fn)
		f.stuck = false
		return err
	})
}

// Defer leaves it to Sync to make updates durable, for a file that is of no use
// before all is in it.
func (f *File) Defer() { f.db.NoSync = true }

// Sync makes what was written durable.
func (f *File) Sync() error { return f.db.Sync() }

// Stuck tells that a write ended in a panic of bbolt: it is not known whether it
// took place, and the file takes no more.
func (f *File) Stuck() bool { return f.stuck }

// Stat describes the file that is open, wherever its name leads to now.
func (f *File) Stat() (os.FileInfo, error) { return f.handle.Stat() }

// Close closes the file.
func (f *File) Close() error {
	if f.stuck {
		return f.handle.Close() // bbolt would wait for itself
	}
	return guard(f.db.Close)
}

// guard turns a panic of bbolt, and a fault in a mapped file, into an error.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage("%v", r)
		}
	}()
	return fn()
}
