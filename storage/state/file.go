package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// FormatVersion is the version of the file that this package writes.
const FormatVersion = 1

const (
	// pageSize is small: a commit rewrites few entries in whole pages.
	pageSize = 4096
	// mmapSize is reserved in the address space, since a new mapping has to
	// wait for all readers, a snapshot among them.
	mmapSize = 1 << 30

	// Buckets of bbolt: one for the format, one for the expiry of all entries
	// by time, and one for each bucket.
	bucketMeta   = "meta"
	bucketExpiry = "expiry"
	bucketPrefix = "kv."

	keyFormat = "format"
)

// file is the open bbolt file.
type file struct {
	path   string
	db     *bolt.DB
	handle *os.File // what db reads and writes; db closes it
	// stuck says that bbolt panicked in a write and may hold its own locks.
	// Whoever has the store's turn owns it.
	stuck bool
}

// createFile makes an empty store at path.
func createFile(path string) error {
	f, err := openFile(path, false)
	if err != nil {
		return err
	}
	err = f.update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket([]byte(bucketMeta))
		if err != nil {
			return err
		}
		if err := meta.Put([]byte(keyFormat), binary.BigEndian.AppendUint32(nil, FormatVersion)); err != nil {
			return err
		}
		_, err = tx.CreateBucket([]byte(bucketExpiry))
		return err
	})
	if err = errors.Join(err, f.close()); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openChecked checks the structure and the format before it opens for writing.
func openChecked(path string) (*file, error) {
	if err := inspect(path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := openFile(path, true)
	if err != nil {
		return nil, err
	}
	err = f.view(checkFormat)
	if err = errors.Join(err, f.close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return openFile(path, false)
}

func checkFormat(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil || tx.Bucket([]byte(bucketExpiry)) == nil {
		return damage("a bucket is missing")
	}
	v := meta.Get([]byte(keyFormat))
	if len(v) != 4 {
		return damage("format version of %d bytes", len(v))
	}
	switch n := binary.BigEndian.Uint32(v); {
	case n > FormatVersion:
		return fmt.Errorf("state of format version %d, this program knows versions up to %d: %w", n, FormatVersion, storage.ErrFormat)
	case n == 0:
		return damage("format version 0")
	}
	return nil
}

// openFile opens a file that is new or that inspect found sound. The list of
// free pages is kept on disk, so that opening does not read everything.
func openFile(path string, readOnly bool) (*file, error) {
	f := &file{path: path}
	err := guard(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:         lockTimeout,
			ReadOnly:        readOnly,
			PageSize:        pageSize,
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
	return f, nil
}

func (f *file) close() error {
	if f.stuck {
		return f.handle.Close() // bbolt would wait for itself
	}
	return guard(f.db.Close)
}

// view runs fn in a read transaction.
func (f *file) view(fn func(*bolt.Tx) error) error {
	return guard(func() error { return f.db.View(fn) })
}

// update runs fn in a write transaction and commits it.
func (f *file) update(fn func(*bolt.Tx) error) error {
	f.stuck = true
	err := guard(func() error {
		err := f.db.Update(fn)
		f.stuck = false
		return err
	})
	return err
}

// txid is the number of the last committed transaction.
func (f *file) txid() (id int, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		id = tx.ID()
		return nil
	})
	return id, err
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

func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %w", storage.ErrDamaged, fmt.Errorf(format, args...))
}

// micros is a time as it is stored; 0: none.
func micros(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMicro()
}
