package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// sweepEntries is the number of entries that one commit removes.
const sweepEntries = 1000

// Run removes what has expired until ctx ends, and returns nil then; it returns
// an error as soon as the store is closed or of no use any more. An expired key
// is absent without it, but takes space and is not reported to watchers.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.opts.SweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return fmt.Errorf("run state store: %w", storage.ErrClosed)
		case <-ticker.C:
		}
		for again := true; again && ctx.Err() == nil; {
			n, err := s.sweep(ctx)
			if err != nil && s.usable() != nil { // a full disk may have room later
				return fmt.Errorf("run state store: %w", err)
			}
			again = err == nil && n == sweepEntries
		}
	}
}

// sweep removes some of what has expired.
func (s *Store) sweep(ctx context.Context) (int, error) {
	due, err := s.due(s.opts.Now())
	if err != nil || len(due) == 0 {
		return 0, err
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return 0, nil
	}
	if err := s.usable(); err != nil {
		return 0, err
	}
	err = s.commit(func(w *writer) error {
		for _, k := range due {
			if err := s.expire(w, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.metrics.expired.Add(float64(len(due)))
	}
	return len(due), err
}

// due returns keys of the bucket of expiry whose time has come.
func (s *Store) due(now time.Time) (keys [][]byte, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketExpiry)).Cursor()
		for k, _ := c.First(); k != nil && len(keys) < sweepEntries; k, _ = c.Next() {
			if len(k) < 8 {
				return damage("expiry %x", k)
			}
			if int64(binary.BigEndian.Uint64(k)) > now.UnixMicro() {
				return nil
			}
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	})
	return keys, err
}

// expire removes the entry of a key of the bucket of expiry, if it still has
// that expiry.
func (s *Store) expire(w *writer, k []byte) error {
	name, key, ok := bytes.Cut(k[8:], []byte{0})
	if !ok || storage.CheckBucket(string(name)) != nil {
		return damage("expiry %x", k)
	}
	b, err := s.Bucket(string(name))
	if err != nil {
		return err
	}
	var stored []byte
	kv := w.tx.Bucket(b.top)
	if kv != nil {
		stored = kv.Get(key)
	}
	if stored == nil {
		return w.drop(k)
	}
	e, err := parseValue(b.name, string(key), stored)
	switch {
	case err != nil || !bytes.Equal(expiryKey(b.name, &e), k):
		return w.drop(k) // whoever reads a damaged value is told
	case !expired(&e, w.now):
		return nil // the clock went back
	}
	_, err = w.remove(b, kv, &e)
	return err
}

// drop removes a key of the bucket of expiry that belongs to no entry.
func (w *writer) drop(k []byte) error {
	w.ops++
	return w.tx.Bucket([]byte(bucketExpiry)).Delete(k)
}
