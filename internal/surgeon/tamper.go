package surgeon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Log is a file of a log to be operated on, with no process using it. Every
// method opens and closes the file. Those that alter entries do so as a program
// with write access would: bbolt's own structures stay sound.
type Log struct {
	Path   string
	Layout Layout
}

// Open returns file number of the log in dir (the folder above audit).
func Open(dir string, number uint64, l Layout) Log {
	return Log{Path: FilePath(dir+"/audit", number), Layout: l.filled()}
}

func (l Log) edit(fn func(tx *bolt.Tx) error) error {
	db, err := bolt.Open(l.Path, 0o600, &bolt.Options{
		NoFreelistSync: true, NoSync: true, FreelistType: bolt.FreelistMapType, Timeout: time.Second,
	})
	if err != nil {
		return fmt.Errorf("open for surgery: %w", err)
	}
	return errors.Join(db.Update(fn), db.Close())
}

// Get returns a copy of an entry, nil when it is not there.
func (l Log) Get(bucket string, key []byte) (value []byte, err error) {
	err = l.edit(func(tx *bolt.Tx) error {
		value = slices.Clone(tx.Bucket([]byte(bucket)).Get(key))
		return nil
	})
	return value, err
}

// Put sets an entry, in a bucket that is made when there is none.
func (l Log) Put(bucket string, key, value []byte) error {
	return l.edit(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put(key, value)
	})
}

// Delete removes an entry.
func (l Log) Delete(bucket string, key []byte) error {
	return l.edit(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Delete(key) })
}

// DeleteBucket removes a bucket.
func (l Log) DeleteBucket(bucket string) error {
	return l.edit(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucket)) })
}

// FlipEntry flips bits of one byte of an entry's value.
func (l Log) FlipEntry(bucket string, key []byte, offset int, mask byte) error {
	return l.change(bucket, key, func(v []byte) ([]byte, error) {
		if offset >= len(v) {
			return nil, fmt.Errorf("byte %d of %d: %w", offset, len(v), ErrNotFound)
		}
		v[offset] ^= mask
		return v, nil
	})
}

// FlipRecord flips bits of one byte of a record.
func (l Log) FlipRecord(seq uint64, offset int, mask byte) error {
	return l.FlipEntry("rec", be64(seq), offset, mask)
}

// Replace puts other bytes in the place of a record.
func (l Log) Replace(seq uint64, rec []byte) error { return l.Put("rec", be64(seq), rec) }

func (l Log) change(bucket string, key []byte, fn func(v []byte) ([]byte, error)) error {
	return l.edit(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		v := b.Get(key)
		if v == nil {
			return fmt.Errorf("%s %x: %w", bucket, key, ErrNotFound)
		}
		v, err := fn(slices.Clone(v))
		if err != nil {
			return err
		}
		return b.Put(key, v)
	})
}

// Swap exchanges two records.
func (l Log) Swap(a, b uint64) error {
	return l.records(func(r *bolt.Bucket) error {
		va, vb := slices.Clone(r.Get(be64(a))), slices.Clone(r.Get(be64(b)))
		return errors.Join(r.Put(be64(a), vb), r.Put(be64(b), va))
	})
}

// DeleteRecord removes a record and leaves the gap.
func (l Log) DeleteRecord(seq uint64) error { return l.Delete("rec", be64(seq)) }

// DeleteAndRenumber removes a record and moves all behind it one place down; with
// rewrite the numbers inside the records follow.
func (l Log) DeleteAndRenumber(seq uint64, rewrite bool) error {
	return l.records(func(r *bolt.Bucket) error {
		last, _ := r.Cursor().Last()
		for n := seq; n < binary.BigEndian.Uint64(last); n++ {
			v := slices.Clone(r.Get(be64(n + 1)))
			if rewrite {
				v = bytes.Replace(v, fmt.Appendf(nil, `"seq":%d,`, n+1), fmt.Appendf(nil, `"seq":%d,`, n), 1)
			}
			if err := r.Put(be64(n), v); err != nil {
				return err
			}
		}
		return r.Delete(slices.Clone(last))
	})
}

// Insert puts a forged record in at seq and moves the others one place up.
func (l Log) Insert(seq uint64, rec []byte) error {
	return l.records(func(r *bolt.Bucket) error {
		last, _ := r.Cursor().Last()
		for n := binary.BigEndian.Uint64(last) + 1; n > seq; n-- {
			if err := r.Put(be64(n), slices.Clone(r.Get(be64(n-1)))); err != nil {
				return err
			}
		}
		return r.Put(be64(seq), rec)
	})
}

// Duplicate copies record from over record to.
func (l Log) Duplicate(from, to uint64) error {
	return l.records(func(r *bolt.Bucket) error {
		return r.Put(be64(to), slices.Clone(r.Get(be64(from))))
	})
}

// RemoveLast removes the last n records and leaves bucket meta as it is.
func (l Log) RemoveLast(n int) error {
	return l.records(func(r *bolt.Bucket) error {
		for range n {
			k, _ := r.Cursor().Last()
			if k == nil {
				return ErrNotFound
			}
			if err := r.Delete(slices.Clone(k)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l Log) records(fn func(r *bolt.Bucket) error) error {
	return l.edit(func(tx *bolt.Tx) error { return fn(tx.Bucket([]byte("rec"))) })
}

// RemoveLastConsistently removes the last n records and mends everything that
// counts them. The plain chain cannot show it. It works on a log of one file.
func (l Log) RemoveLastConsistently(n int) error {
	if err := l.RemoveLast(n); err != nil {
		return err
	}
	return l.Rechain(true)
}

// Rechain computes head, tree, time and next anew from the records of a log of
// one file; with tiles also the rows of tiles and segments, so that nothing shows
// that the log was rewritten.
func (l Log) Rechain(tiles bool) error {
	return l.edit(func(tx *bolt.Tx) error {
		m := tx.Bucket([]byte("meta"))
		w := writer{lay: l.Layout, o: Options{Marks: m.Get([]byte("marks")) != nil}}
		w.head = GenesisHead(string(m.Get([]byte("origin"))))
		var recs [][]byte
		if err := tx.Bucket([]byte("rec")).ForEach(func(_, v []byte) error {
			recs = append(recs, slices.Clone(v))
			return nil
		}); err != nil {
			return err
		}
		if tiles {
			for _, name := range []string{"tile", "seg"} {
				if err := errors.Join(tx.DeleteBucket([]byte(name)), create(tx, name)); err != nil {
					return err
				}
			}
		}
		for i, rec := range recs {
			if err := w.rechain(tx, uint64(i), rec, tiles); err != nil {
				return err
			}
		}
		next := uint64(len(recs))
		return errors.Join(m.Delete([]byte("sealed")), w.meta(tx, next, next))
	})
}

func create(tx *bolt.Tx, name string) error {
	_, err := tx.CreateBucket([]byte(name))
	return err
}

func (w *writer) rechain(tx *bolt.Tx, seq uint64, rec []byte, tiles bool) error {
	if tiles {
		return w.append(tx, seq, rec)
	}
	leaf := LeafHash(rec)
	w.head, w.last = NextHead(w.head, leaf), RecordTime(rec)
	w.push(subtree{0, leaf})
	if w.tile = append(w.tile, leaf); len(w.tile) == 1<<w.lay.TileBits {
		w.tile = w.tile[:0]
	}
	return nil
}

// AlterBlob flips a bit of the blob with that content.
func (l Log) AlterBlob(blob []byte) error {
	sum := sha256.Sum256(blob)
	return l.FlipEntry("blob", sum[:], len(blob)/2, 1)
}

// DeleteBlob removes the blob with that content.
func (l Log) DeleteBlob(blob []byte) error {
	sum := sha256.Sum256(blob)
	return l.Delete("blob", sum[:])
}

// Key is the key of a record, a tile or a segment.
func Key(n uint64) []byte { return be64(n) }
