// Package storage is the vocabulary of the state store: keys with values and
// revisions in buckets, compare-and-set, batches, watches and expiry.
// Implementations stand in folders below it; package storagetest holds the
// suite that each must pass. docs/state-store.md says what it is for.
//
// It promises only what NATS JetStream's key-value store can keep as well (one
// bucket is one stream there, a revision is a sequence number): batches within
// one bucket, an alphabet for keys, prefixes that end at a dot, no history.
package storage

import (
	"context"
	"errors"
	"io"
	"time"
)

// Limits of every implementation.
const (
	// MaxKey is the length of a key in bytes.
	MaxKey = 1 << 10
	// MaxValue is the length of a value in bytes: with key and headers it fits
	// into 1 MiB, the default payload of NATS.
	MaxValue = 960 << 10
	// MaxOps is the number of operations in one batch.
	MaxOps = 256
	// MaxBatch is the length of all keys and values of one batch in bytes.
	MaxBatch = 4 << 20
	// MaxPage is the number of entries in one page, and the default.
	MaxPage = 1000
	// MaxPageBytes is the length of keys and values at which a page ends.
	MaxPageBytes = 4 << 20
	// MaxBucket is the length of the name of a bucket in bytes.
	MaxBucket = 32
)

var (
	// ErrNotFound is returned when the key is absent: never written, deleted
	// or expired.
	ErrNotFound = errors.New("key not found")
	// ErrConflict is returned when a key does not have the revision that was
	// expected. Nothing was applied; read again and decide anew.
	ErrConflict = errors.New("revision conflict")
	// ErrInvalid is returned when a key, value, prefix or batch breaks the
	// rules or a limit of this package. Nothing was applied.
	ErrInvalid = errors.New("invalid")
	// ErrCompacted is returned when the changes after a revision are no longer
	// held, because the watcher was too slow, the store was opened or restored
	// since, or the revision is none of this bucket: list again and watch from
	// the revision of that list.
	ErrCompacted = errors.New("changes are no longer held, list again")
	// ErrClosed is returned when the store is closed. Nothing was applied.
	ErrClosed = errors.New("store is closed")
	// ErrUnavailable is returned when the store cannot be used now, for example
	// because the disk is full or a write failed before. Nothing was applied.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrUncertain is returned when it is not known whether the operations were
	// applied. Read again once the store can be used.
	ErrUncertain = errors.New("outcome is not known")
	// ErrDamaged is returned when stored bytes are not what was written.
	ErrDamaged = errors.New("state is damaged")
	// ErrFormat is returned when a newer program wrote the bytes.
	ErrFormat = errors.New("unknown format version")
)

// Entry is a key with its value.
type Entry struct {
	Key   string
	Value []byte
	// Revision is greater than every revision that the bucket gave before. It
	// is not for keeping: a restore gives new ones.
	Revision uint64
	// Expires is when the key becomes absent by the store's clock, kept to the
	// microsecond; zero: never.
	Expires time.Time
}

// Event is a change of one key.
type Event struct {
	Entry
	// Deleted says that the key is absent now: deleted, or expired and removed.
	// Value and Expires are zero then.
	Deleted bool
}

// Page is a part of a list.
type Page struct {
	Entries []Entry // ascending by key, bytewise
	// Cursor continues the list; empty: this was the last page. A page with a
	// cursor may be short, or empty.
	Cursor string
	// Revision of the bucket: the page shows every change up to it, and may
	// show later ones. Watch from the first page's revision to miss none.
	Revision uint64
}

// Bucket is a named space of keys with revisions of its own. All methods may
// be called by several goroutines at once, and each may return ErrClosed,
// ErrUnavailable, ErrDamaged, ErrInvalid and the context's error.
type Bucket interface {
	// Get returns the entry of a key, or ErrNotFound. It sees every write that
	// returned before in this process; the write of another node may be seen
	// later. The value belongs to the caller.
	Get(ctx context.Context, key string) (Entry, error)

	// List returns a page of the entries whose key starts with the prefix, from
	// the cursor of the page before, or from the start when it is empty. At
	// most limit entries; 0, or more than MaxPage: MaxPage.
	List(ctx context.Context, prefix, cursor string, limit int) (Page, error)

	// Apply applies all operations or none, and returns when they are durable.
	// It gives the new revision of each, ascending; 0 for one that changed
	// nothing. ErrConflict when an expectation does not hold; it may also be
	// returned while another write to the same key is under way. After
	// ErrUncertain the operations may be applied or not, after every other
	// error, the context's included, nothing was applied unless it wraps
	// ErrUncertain too. The values may be changed once it has returned.
	Apply(ctx context.Context, ops ...Op) ([]uint64, error)

	// Watch calls fn for the changes after a revision of keys that start with
	// the prefix, in ascending order of their revision and only when they are
	// durable. When a key changed more than once, changes before the last may
	// be left out. It returns the error of fn, the context's error when ctx
	// ends, or ErrCompacted when fn is too slow or the revision too old. An
	// expired key is reported when it is removed, a little later. The event's
	// value must not be changed.
	Watch(ctx context.Context, prefix string, after uint64, fn func(Event) error) error
}

// Archive copies all buckets of a store. The stream is that of SnapshotWriter,
// so that one implementation restores what another wrote.
type Archive interface {
	// Snapshot writes all entries that have not expired, each bucket as it was
	// at one moment.
	Snapshot(ctx context.Context, w io.Writer) error

	// Restore replaces all buckets by those of the stream, or changes nothing:
	// ErrDamaged when the stream is damaged or cut off, ErrFormat when it is of
	// a newer format. All entries get new revisions, greater than any before,
	// and watches end with ErrCompacted, except in a bucket that was never
	// written and has no entries now either. Whoever reads during a restore
	// sees the old entries or the new ones.
	Restore(ctx context.Context, r io.Reader) error
}
