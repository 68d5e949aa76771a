package segment

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Live shows the buckets of an open log, so that audit/verify can verify it beside
// the writer: it is a verify.Source for which Options.Live must be set. It may be
// used as long as the Store is open.
type Live struct{ store *Store }

// Live returns the live view of the log.
func (s *Store) Live() Live { return Live{store: s} }

// Files returns the numbers of the files.
func (l Live) Files(context.Context) ([]uint64, error) {
	l.store.mu.RLock()
	defer l.store.mu.RUnlock()
	if len(l.store.files) == 0 {
		return nil, errClosed
	}
	numbers := make([]uint64, len(l.store.files))
	for i := range numbers {
		numbers[i] = uint64(i)
	}
	return numbers, nil
}

// Inspect returns the names of the buckets of a file.
func (l Live) Inspect(_ context.Context, file uint64) (buckets []string, err error) {
	err = l.store.viewFile(file, func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			buckets = append(buckets, string(name))
			return nil
		})
	})
	return buckets, err
}

// entry is the end of a key and of the value behind it in the buffer of a Walk.
type entry struct{ key, value int }

// Walk calls fn for every entry of a bucket of a file, in the order of the keys.
// It reads in short transactions, each of which may see more than the one before;
// nothing is held while fn runs.
func (l Live) Walk(ctx context.Context, file uint64, bucket string, fn func(key, value []byte) error) error {
	var buf, next []byte
	var entries []entry
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf, entries = buf[:0], entries[:0]
		err := l.store.viewFile(file, func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucket))
			if b == nil {
				return nil
			}
			c := b.Cursor()
			for k, v := c.Seek(next); k != nil && len(entries) < chunkRecords && len(buf) < chunkBytes; k, v = c.Next() {
				if v == nil {
					return damage("bucket %q holds a bucket", bucket)
				}
				buf = append(buf, k...)
				at := len(buf)
				buf = append(buf, v...)
				entries = append(entries, entry{at, len(buf)})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("walk %s: %w", bucket, err)
		}
		if len(entries) == 0 {
			return nil
		}
		start := 0
		for _, e := range entries {
			if err := fn(buf[start:e.key:e.key], buf[e.key:e.value:e.value]); err != nil {
				return err
			}
			next = append(append(next[:0], buf[start:e.key]...), 0) // the least key behind it
			start = e.value
		}
	}
}
