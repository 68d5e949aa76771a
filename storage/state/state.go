// Package state keeps the state store of package storage in one bbolt file. A
// write is on disk when it returns; concurrent writes share commits.
// docs/state-store.md describes the guarantees and the file.
package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/internal/filelock"
	"github.com/verdict-pdp/verdict/storage"
)

// Defaults of Options.
const (
	DefaultSweepEvery  = 10 * time.Second
	DefaultWatchEvents = 8192
	DefaultWatchBytes  = 8 << 20
)

// Names in the folder of a store.
const (
	fileName    = "state.db"
	lockName    = "lock"
	buildName   = "state.db.new"
	spoolName   = "restore.tmp"
	lockTimeout = time.Second
)

// Options configure a Store. The zero value of each field is its default.
type Options struct {
	// Command is what the lock file tells others, default the program's name.
	Command string
	// Now is the clock of expiry, default time.Now.
	Now func() time.Time
	// SweepEvery is the time between two removals of what has expired, default
	// DefaultSweepEvery.
	SweepEvery time.Duration
	// WatchEvents and WatchBytes bound the changes that each bucket holds for
	// its watchers, default DefaultWatchEvents and DefaultWatchBytes. A watcher
	// that is further behind is ended.
	WatchEvents int
	WatchBytes  int
}

func (o Options) withDefaults() (Options, error) {
	if o.Command == "" && len(os.Args) > 0 {
		o.Command = filepath.Base(os.Args[0])
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = DefaultSweepEvery
	}
	if o.WatchEvents == 0 {
		o.WatchEvents = DefaultWatchEvents
	}
	if o.WatchBytes == 0 {
		o.WatchBytes = DefaultWatchBytes
	}
	switch {
	case strings.ContainsAny(o.Command, "\r\n"):
		return o, errors.New("command of more than one line")
	case o.SweepEvery < 0 || o.WatchEvents < 0 || o.WatchBytes < 0:
		return o, errors.New("negative option")
	}
	return o, nil
}

// LockedError is returned by Open when another process has the store open.
type LockedError = filelock.HeldError

// Store is a storage.Archive, and its buckets are storage.Buckets.
type Store struct {
	opts    Options
	dir     string
	lock    *filelock.Lock
	metrics *metrics

	// faults are for tests: called before and after a commit.
	faults struct{ before, after func() error }

	// queue holds the writes that wait for a commit.
	queue queue
	// turn is held by whoever writes to the file, copying by whoever reads all
	// of it or replaces it. Order: copying, turn, mu.
	turn    chan struct{}
	copying chan struct{}
	// closing is closed when Close begins.
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error

	// failed is why the store cannot be used any more, or nil.
	failed atomic.Pointer[error]

	// mu is held by readers for one transaction, and exclusively to replace
	// file.
	mu   sync.RWMutex
	file *file

	bucketsMu sync.Mutex // before mu
	buckets   map[string]*Bucket
}

// Open opens the store in the folder dir, which is made if it is missing. A
// store that another process has open gives a *LockedError within 1 s. A file of
// a newer format gives storage.ErrFormat and one that is damaged or cut off
// storage.ErrDamaged; nothing is written to it then. What a crash left needs no
// repair: a batch is there as a whole or not at all.
func Open(dir string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	s := &Store{
		opts: o, dir: dir, buckets: map[string]*Bucket{},
		turn: make(chan struct{}, 1), copying: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.metrics = newMetrics(s)
	if s.lock, err = filelock.Acquire(filelock.Options{Path: filepath.Join(dir, lockName), What: "state store", Command: o.Command, Wait: lockTimeout}); err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	if s.file, err = s.open(); err != nil {
		return nil, fmt.Errorf("open state store: %w", errors.Join(err, s.lock.Release()))
	}
	return s, nil
}

// open removes what a crash left half-made and opens the file, or makes it.
func (s *Store) open() (*file, error) {
	for _, name := range []string{buildName, spoolName} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	path := filepath.Join(s.dir, fileName)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		build := filepath.Join(s.dir, buildName)
		if err := createFile(build); err != nil {
			return nil, err
		}
		if err := os.Rename(build, path); err != nil {
			return nil, err
		}
		if err := durable.SyncDir(s.dir); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return openChecked(path)
}

// Bucket returns the bucket with that name, an empty one if it was never
// written. It may be kept as long as the store.
func (s *Store) Bucket(name string) (*Bucket, error) {
	if err := storage.CheckBucket(name); err != nil {
		return nil, err
	}
	s.bucketsMu.Lock()
	defer s.bucketsMu.Unlock()
	if b := s.buckets[name]; b != nil {
		return b, nil
	}
	b := &Bucket{store: s, name: name, top: []byte(bucketPrefix + name)}
	revision, err := b.revision()
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	b.changes = newChanges(s.opts.WatchEvents, s.opts.WatchBytes, revision)
	s.buckets[name] = b
	return b, nil
}

// usable returns why the store cannot be used, or nil.
func (s *Store) usable() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the store unusable, and ends what waits.
func (s *Store) fail(err error) {
	if !s.failed.CompareAndSwap(nil, &err) {
		return
	}
	s.queue.end(err)
	s.endWatches(err)
}

func (s *Store) endWatches(err error) {
	s.bucketsMu.Lock()
	defer s.bucketsMu.Unlock()
	for _, b := range s.buckets {
		b.changes.end(err)
	}
}

// view runs fn in a read transaction, which must be short.
func (s *Store) view(fn func(*bolt.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(); err != nil {
		return err
	}
	return s.file.view(fn)
}

// Close ends the store: writes that wait for a commit and all later calls get
// storage.ErrClosed, watches and Run end with it, a commit in flight is finished, a
// snapshot in progress ends at its next entry and is waited for. Then the file
// and the lock are released. A second call does nothing.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.queue.end(storage.ErrClosed)
		s.copying <- struct{}{}
		s.turn <- struct{}{}
		s.mu.Lock()
		closed := error(storage.ErrClosed)
		s.failed.Store(&closed)
		s.closeErr = errors.Join(s.file.close(), s.lock.Release())
		s.mu.Unlock()
		s.endWatches(closed)
	})
	return s.closeErr
}
