package segment

import (
	"context"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Bounds of one read transaction of Walk: a long one would keep the file from
// reusing pages and, when it grows, from being mapped anew.
const (
	walkEntries = 1024
	walkBytes   = 1 << 20
)

// Source shows the log to a verification beside the running writer. What Walk
// shows of one bucket is never older than what an earlier Walk showed of another.
type Source struct {
	s *Store
}

// Source returns the log as audit/verify reads it. It ends with the Store.
func (s *Store) Source() *Source { return &Source{s: s} }

// Files returns the numbers of the log's files, ascending.
func (l *Source) Files(context.Context) ([]uint64, error) {
	l.s.mu.RLock()
	defer l.s.mu.RUnlock()
	numbers := make([]uint64, len(l.s.files))
	for i := range l.s.files {
		numbers[i] = uint64(i)
	}
	return numbers, nil
}

// Inspect returns the names of a file's buckets.
func (l *Source) Inspect(_ context.Context, number uint64) (names []string, err error) {
	err = l.s.viewFile(number, func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error {
			names = append(names, string(name))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("inspect log file %d: %w", number, err)
	}
	return names, nil
}

// Walk calls fn for every entry of a bucket in the order of the keys, those
// included that are added meanwhile. It holds nothing in the store while fn
// runs. Key and value are valid during the call only.
func (l *Source) Walk(ctx context.Context, number uint64, bucket string, fn func(key, value []byte) error) error {
	var c walkChunk
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := l.s.viewFile(number, func(tx *bolt.Tx) error { return c.fill(tx.Bucket([]byte(bucket))) })
		if err != nil {
			return fmt.Errorf("read bucket %s of log file %d: %w", bucket, number, err)
		}
		if len(c.ends) == 0 {
			return nil
		}
		start := 0
		for _, e := range c.ends {
			if err := fn(c.buf[start:e.key], c.buf[e.key:e.value]); err != nil {
				return err
			}
			start = e.value
		}
	}
}

// walkChunk is a copy of some entries that follow one another.
type walkChunk struct {
	last []byte // key of the last entry; nil before the first chunk
	buf  []byte
	ends []walkEnd
}

// walkEnd is where an entry's key and value end in the buffer.
type walkEnd struct{ key, value int }

func (c *walkChunk) fill(b *bolt.Bucket) error {
	c.buf, c.ends = c.buf[:0], c.ends[:0]
	if b == nil {
		return nil
	}
	cursor := b.Cursor()
	var k, v []byte
	if c.last == nil {
		k, v = cursor.First()
	} else if k, v = cursor.Seek(c.last); k != nil && string(k) == string(c.last) {
		k, v = cursor.Next()
	}
	for ; k != nil && len(c.ends) < walkEntries && len(c.buf) < walkBytes; k, v = cursor.Next() {
		c.buf = append(c.buf, k...)
		key := len(c.buf)
		c.buf = append(c.buf, v...)
		c.ends = append(c.ends, walkEnd{key: key, value: len(c.buf)})
		c.last = append(c.last[:0], k...)
	}
	return nil
}
