package state

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// maxScan bounds what one page looks at, expired entries included, so that its
// transaction stays short.
const maxScan = 4 * storage.MaxPage

// Bucket is a storage.Bucket.
type Bucket struct {
	store   *Store
	name    string
	top     []byte // the name of its bucket of bbolt
	changes *changes
}

var _ storage.Bucket = (*Bucket)(nil)

// revision is the last one given.
func (b *Bucket) revision() (revision uint64, err error) {
	err = b.store.view(func(tx *bolt.Tx) error {
		if kv := tx.Bucket(b.top); kv != nil {
			revision = kv.Sequence()
		}
		return nil
	})
	return revision, err
}

// Get returns the entry of a key as storage.Bucket says. What it returns is on
// disk.
func (b *Bucket) Get(ctx context.Context, key string) (storage.Entry, error) {
	if err := ctx.Err(); err != nil {
		return storage.Entry{}, err
	}
	if err := storage.CheckKey(key); err != nil {
		return storage.Entry{}, err
	}
	var e storage.Entry
	err := b.store.view(func(tx *bolt.Tx) error {
		kv := tx.Bucket(b.top)
		if kv == nil {
			return storage.ErrNotFound
		}
		stored := kv.Get([]byte(key))
		if stored == nil {
			return storage.ErrNotFound
		}
		found, err := parseValue(b.name, key, stored)
		if err != nil {
			return err
		}
		if expired(&found, b.store.opts.Now()) {
			return storage.ErrNotFound
		}
		e = found
		e.Value = bytes.Clone(found.Value)
		return nil
	})
	if err != nil {
		return storage.Entry{}, fmt.Errorf("get %q from %s: %w", key, b.name, err)
	}
	return e, nil
}

// List returns a page of the entries with the prefix as storage.Bucket says.
// One page is of one moment.
func (b *Bucket) List(ctx context.Context, prefix, cursor string, limit int) (storage.Page, error) {
	if err := ctx.Err(); err != nil {
		return storage.Page{}, err
	}
	if err := storage.CheckPrefix(prefix); err != nil {
		return storage.Page{}, err
	}
	if !strings.HasPrefix(cursor, prefix) && cursor != "" || limit < 0 {
		return storage.Page{}, fmt.Errorf("cursor %q of prefix %q, limit %d: %w", cursor, prefix, limit, storage.ErrInvalid)
	}
	if limit == 0 || limit > storage.MaxPage {
		limit = storage.MaxPage
	}
	var page storage.Page
	err := b.store.view(func(tx *bolt.Tx) error {
		kv := tx.Bucket(b.top)
		if kv == nil {
			return nil
		}
		page.Revision = kv.Sequence()
		return b.fill(&page, kv.Cursor(), prefix, cursor, limit)
	})
	if err != nil {
		return storage.Page{}, fmt.Errorf("list %q from %s: %w", prefix, b.name, err)
	}
	return page, nil
}

// fill appends the entries behind the cursor to the page.
func (b *Bucket) fill(page *storage.Page, c *bolt.Cursor, prefix, cursor string, limit int) error {
	now := b.store.opts.Now()
	from := prefix
	if cursor != "" {
		from = cursor + "\x00" // the first key behind it
	}
	scanned, size := 0, 0
	last := cursor
	for k, v := c.Seek([]byte(from)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		if len(page.Entries) == limit || scanned == maxScan || size >= storage.MaxPageBytes {
			page.Cursor = last
			return nil
		}
		scanned++
		last = string(k)
		e, err := parseValue(b.name, last, v)
		if err != nil {
			return err
		}
		if expired(&e, now) {
			continue
		}
		e.Value = bytes.Clone(e.Value)
		size += len(k) + len(e.Value)
		page.Entries = append(page.Entries, e)
	}
	return nil
}

// Watch calls fn for changes as storage.Bucket says. No change is left out.
func (b *Bucket) Watch(ctx context.Context, prefix string, after uint64, fn func(storage.Event) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	revision, err := b.revision()
	if err != nil {
		return fmt.Errorf("watch %s: %w", b.name, err)
	}
	if after > revision {
		return fmt.Errorf("watch %s after %d, its revision is %d: %w", b.name, after, revision, storage.ErrCompacted)
	}
	b.store.metrics.watchers.Inc()
	defer b.store.metrics.watchers.Dec()
	for {
		events, wait, err := b.changes.next(after)
		if err != nil {
			b.store.metrics.watchEnded(err)
			return fmt.Errorf("watch %s after %d: %w", b.name, after, err)
		}
		for i := range events {
			if err := ctx.Err(); err != nil {
				return err
			}
			if strings.HasPrefix(events[i].Key, prefix) {
				if err := fn(events[i]); err != nil {
					return err
				}
			}
			after = events[i].Revision
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait:
		}
	}
}
