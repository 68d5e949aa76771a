package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// What one read transaction of a Scan copies at most, so that it is over in well
// under a millisecond: pages that it pins cannot be used again by the writer.
const (
	chunkRecords = 256
	chunkBytes   = 1 << 20
)

// errClosed is returned by reads after Close.
var errClosed = errors.New("log store is closed")

// Record returns the bytes of a record.
func (s *Store) Record(seq uint64) (rec []byte, err error) {
	if seq >= s.next.Load() {
		return nil, fmt.Errorf("record %d: %w", seq, audit.ErrNotFound)
	}
	err = s.viewFile(seq/s.opts.RecordsPerFile, func(tx *bolt.Tx) error {
		v := tx.Bucket([]byte(bucketRecord)).Get(key(seq))
		if v == nil {
			return damage("record %d is missing", seq)
		}
		rec = bytes.Clone(v)
		return nil
	})
	return rec, err
}

// Blob returns the bytes with that hash, whatever file they are in.
func (s *Store) Blob(sum chain.Hash) (blob []byte, err error) {
	s.mu.RLock()
	count := len(s.files)
	s.mu.RUnlock()
	for n := count - 1; n >= 0 && blob == nil && err == nil; n-- {
		err = s.viewFile(uint64(n), func(tx *bolt.Tx) error {
			blob = bytes.Clone(tx.Bucket([]byte(bucketBlob)).Get(sum[:]))
			return nil
		})
	}
	if err == nil && blob == nil {
		err = fmt.Errorf("blob %s: %w", sum, audit.ErrNotFound)
	}
	return blob, err
}

// Scan calls fn for the records from the number from on that are durable now.
func (s *Store) Scan(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error {
	return s.scan(ctx, from, s.next.Load(), fn)
}

// scan is Scan for [from, to).
func (s *Store) scan(ctx context.Context, from, to uint64, fn func(seq uint64, rec []byte) error) error {
	var buf []byte
	var ends []int
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if buf, ends, err = s.chunk(from, to, buf[:0], ends[:0]); err != nil {
			return err
		}
		start := 0
		for _, end := range ends {
			if err := fn(from, buf[start:end:end]); err != nil {
				return err
			}
			start = end
			from++
		}
	}
	return nil
}

// chunk copies some of the records [from, to), at least one, all of one file.
func (s *Store) chunk(from, to uint64, buf []byte, ends []int) ([]byte, []int, error) {
	err := s.viewFile(from/s.opts.RecordsPerFile, func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketRecord)).Cursor()
		seq := from
		for k, v := c.Seek(key(from)); seq < to && len(ends) < chunkRecords && len(buf) < chunkBytes; k, v = c.Next() {
			if k == nil && len(ends) > 0 {
				break // the end of the file
			}
			if len(k) != 8 || binary.BigEndian.Uint64(k) != seq {
				return damage("record %d is missing", seq)
			}
			buf = append(buf, v...)
			ends = append(ends, len(buf))
			seq++
		}
		return nil
	})
	return buf, ends, err
}

// viewFile runs fn in a read transaction of a file. Errors name the file.
func (s *Store) viewFile(number uint64, fn func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if number >= uint64(len(s.files)) {
		return errClosed
	}
	f := s.files[number]
	if err := f.view(fn); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// Inspect reports the files, and fails when a restart would not find them.
func (s *Store) Inspect() (in audit.Inspection, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, f := range s.files {
		size, err := f.inPlace()
		if err != nil {
			return audit.Inspection{}, fmt.Errorf("%s: %w", f.path, err)
		}
		in.Files = append(in.Files, audit.File{Name: fileName(f.number), Size: size, Sealed: f.sealed})
		used := size
		if !f.sealed {
			if err := f.view(func(tx *bolt.Tx) error { used = uint64(tx.Size()); return nil }); err != nil {
				return audit.Inspection{}, fmt.Errorf("%s: %w", f.path, err)
			}
		}
		in.Used += used
	}
	return in, nil
}

// inPlace checks that the path still leads to the open file.
func (f *file) inPlace() (size uint64, err error) {
	open, err := f.bolt.Stat()
	if err != nil {
		return 0, err
	}
	named, err := os.Stat(f.path)
	if err != nil {
		return 0, err
	}
	if !os.SameFile(open, named) {
		return 0, errors.New("file was replaced while it is open")
	}
	return uint64(open.Size()), nil
}

// FreeBytes returns a function that reads the space left to an unprivileged
// process in the file system of dir.
func FreeBytes(dir string) func() (uint64, error) {
	return func() (uint64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return 0, fmt.Errorf("free space of %s: %w", dir, err)
		}
		return st.Bavail * uint64(st.Bsize), nil
	}
}
