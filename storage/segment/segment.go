// Package segment keeps the audit log in bbolt files, 16 segments of 65,536
// records each. A full file is sealed and opened read-only from then on; nothing
// is ever deleted from a file. docs/audit-log.md describes the format.
package segment

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/internal/boltfile"
	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/internal/filelock"
)

// DefaultRecordsPerFile is the number of records in a file: 16 segments.
const DefaultRecordsPerFile = 16 * chain.SegmentSize

var (
	// ErrDamaged is what Open and reads return when the files are not what was
	// written. The text names the file and the place.
	ErrDamaged = errors.New("audit log is damaged")
	// ErrFormat is returned by Open for a log that a newer program wrote.
	ErrFormat = errors.New("unknown format version")
	// ErrOrigin is returned by Open for the log of another origin.
	ErrOrigin = errors.New("log has another origin")
)

// LockedError is returned by Open when another process has the log open.
type LockedError = filelock.HeldError

// damageError is an ErrDamaged with the place.
type damageError struct{ err error }

func (e *damageError) Error() string        { return e.err.Error() }
func (e *damageError) Unwrap() error        { return e.err }
func (e *damageError) Is(target error) bool { return target == ErrDamaged }

// Damage says to audit/verify that the file itself does not hold together.
func (e *damageError) Damage() string { return "page_damaged" }

func damage(format string, args ...any) error {
	return &damageError{err: fmt.Errorf(format, args...)}
}

// Options configure a Store. The zero value of each field is its default.
type Options struct {
	// Origin names the log. A new log without one gets a random name; one that
	// exists must have this one, if it is given.
	Origin string
	// Command is what the lock file tells others, default the program's name.
	Command string
	// RecordsPerFile is for tests only, a multiple of chain.TileSize; default
	// DefaultRecordsPerFile.
	RecordsPerFile uint64
	// GrowBytes is the step by which a file grows, default 16 MiB.
	GrowBytes int
}

func (o Options) withDefaults() (Options, error) {
	if o.RecordsPerFile == 0 {
		o.RecordsPerFile = DefaultRecordsPerFile
	}
	if o.Command == "" && len(os.Args) > 0 {
		o.Command = filepath.Base(os.Args[0])
	}
	if o.GrowBytes == 0 {
		o.GrowBytes = 16 << 20
	}
	if o.RecordsPerFile%chain.TileSize != 0 {
		return o, fmt.Errorf("%d records per file: want a multiple of %d", o.RecordsPerFile, chain.TileSize)
	}
	if o.GrowBytes < 0 {
		return o, fmt.Errorf("grow by %d bytes", o.GrowBytes)
	}
	if strings.ContainsAny(o.Origin+o.Command, "\r\n") {
		return o, errors.New("origin or command of more than one line")
	}
	return o, nil
}

// Store is an audit.Store in a folder.
type Store struct {
	opts Options
	dir  string // of the files
	lock *filelock.Lock

	// pos belongs to the goroutine that appends; next is pos.Next for readers.
	// marks are of the records behind the last complete tile and belong to it too.
	pos   audit.Position
	marks []byte
	next  atomic.Uint64

	// mu is held by readers for the time of one short transaction, and exclusively
	// to replace a file.
	mu    sync.RWMutex
	files []*file // all, by number; the last is written unless it is sealed
	spans []span  // of the complete segments, by number
}

// span is the time from the first to the last record of a segment, in
// microseconds.
type span struct{ first, last int64 }

// Open opens the log in dir, which is made if it is missing: dir/lock is held from
// now on, the records are in dir/log. What a crash left is checked and taken as it
// is: a batch is in the log as a whole or not at all. Damage is an error that
// names the file and the place, and nothing is written then.
func Open(dir string, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	s := &Store{opts: o, dir: filepath.Join(dir, "log")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if s.lock, err = filelock.Acquire(filelock.Options{Path: filepath.Join(dir, "lock"), What: "audit log", Command: o.Command}); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := s.open(); err != nil {
		if errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, errors.Join(fmt.Errorf("open audit log: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) open() error {
	count, err := listFiles(s.dir)
	if err != nil {
		return err
	}
	if count == 0 {
		return s.create()
	}
	var last meta
	for n := range count {
		if last, err = s.adopt(n, n == count-1, last); err != nil {
			return err
		}
	}
	if o := s.opts.Origin; o != "" && o != last.pos.Origin {
		return fmt.Errorf("%s: origin is %q, not %q: %w", s.dir, last.pos.Origin, o, ErrOrigin)
	}
	s.pos, s.marks = last.pos, last.marks
	s.next.Store(last.pos.Next)
	return nil
}

// create makes the first file of a new log.
func (s *Store) create() error {
	origin := s.opts.Origin
	if origin == "" {
		origin = "verdict/" + strings.ToLower(rand.Text())
	}
	m := meta{format: audit.FormatVersion, prev: chain.Genesis(origin)}
	m.pos.Origin, m.pos.Head = origin, m.prev
	f, err := createFile(s.dir, 0, m, s.opts.GrowBytes)
	if err != nil {
		return err
	}
	// The folders may be as new as the file.
	dir := filepath.Dir(s.dir)
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir))); err != nil {
		return errors.Join(err, f.close())
	}
	s.files, s.pos = []*file{f}, m.pos
	return nil
}

// adopt checks and opens file n. The last one is opened for writing, unless it is
// full. It returns what the file's meta says; before is that of the file before.
func (s *Store) adopt(n uint64, last bool, before meta) (meta, error) {
	path := filepath.Join(s.dir, fileName(n))
	fail := func(err error) (meta, error) { return meta{}, fmt.Errorf("%s: %w", path, err) }
	keys := recordKeys{}
	visit := boltfile.Visitor(nil)
	if last { // only what is written to is walked through
		visit = keys.visit
	}
	if err := inspect(path, visit); err != nil {
		return fail(err)
	}
	f, err := openFile(path, n, 0)
	if err != nil {
		return meta{}, err
	}
	s.files = append(s.files, f)
	m, err := f.readMeta()
	if err != nil {
		return fail(err)
	}
	if err := s.checkMeta(n, m, before, last); err != nil {
		return fail(err)
	}
	size, err := f.inPlace()
	if err != nil {
		return fail(err)
	}
	if size < m.size {
		return fail(damage("cut to %d bytes: it had %d before the last batch", size, m.size))
	}
	if last {
		if err := keys.check(m); err != nil {
			return fail(err)
		}
		if err := f.checkTail(m, before.pos.Tree); err != nil {
			return fail(err)
		}
	}
	if err := s.loadSpans(f, m); err != nil {
		return fail(err)
	}
	if last && !m.sealed {
		if err := f.close(); err != nil {
			return fail(err)
		}
		s.files = s.files[:n]
		if f, err = openFile(path, n, s.opts.GrowBytes); err != nil {
			return meta{}, err
		}
		s.files = append(s.files, f)
	}
	return m, nil
}

// Close releases the files and the lock.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.close())
	}
	s.files = nil
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
		s.lock = nil
	}
	return errors.Join(errs...)
}
