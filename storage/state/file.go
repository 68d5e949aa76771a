package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/internal/boltfile"
	"github.com/verdict-pdp/verdict/storage"
)

// FormatVersion is the version of the file that this package writes.
const FormatVersion = 1

const (
	// pageSize is small: a commit rewrites few entries in whole pages.
	pageSize = 4096
	// Buckets of bbolt: one for the format, one for the expiry of all entries
	// by time, and one for each bucket.
	bucketMeta   = "meta"
	bucketExpiry = "expiry"
	bucketPrefix = "kv."

	keyFormat = "format"
)

// file is the open bbolt file.
type file struct {
	path string
	bolt *boltfile.File
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

// inspect checks the structure of the file at path before it is opened. Values
// are checked when they are read, by their checksums.
func inspect(path string) error {
	return noted(boltfile.Inspect(path, func(string, []byte, []byte) error { return nil }))
}

// openFile opens a file that is new or that inspect found sound.
func openFile(path string, readOnly bool) (*file, error) {
	b, err := boltfile.Open(path, boltfile.Options{ReadOnly: readOnly, PageSize: pageSize})
	if err != nil {
		return nil, noted(err)
	}
	return &file{path: path, bolt: b}, nil
}

func (f *file) close() error { return noted(f.bolt.Close()) }

// view runs fn in a read transaction.
func (f *file) view(fn func(*bolt.Tx) error) error { return noted(f.bolt.View(fn)) }

// update runs fn in a write transaction and commits it. Whoever has the store's
// turn calls it.
func (f *file) update(fn func(*bolt.Tx) error) error { return noted(f.bolt.Update(fn)) }

// noted makes a storage.ErrDamaged of what boltfile found.
func noted(err error) error {
	if errors.Is(err, boltfile.ErrDamaged) {
		return damage("%w", err)
	}
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
