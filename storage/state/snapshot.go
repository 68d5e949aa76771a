package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/storage"
)

// Entries and bytes that one transaction of a restore takes.
const (
	restoreEntries = 5000
	restoreBytes   = 16 << 20
)

var _ storage.Archive = (*Store)(nil)

// Snapshot writes all buckets as they are at one moment, as storage.Archive
// says. Reads and writes go on meanwhile, but the file grows by what is
// written. One snapshot or restore takes place at a time.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) error {
	if err := s.beginCopy(ctx); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { <-s.copying }()
	now := s.opts.Now()
	out := storage.NewSnapshotWriter(w, now)
	err := s.view(func(tx *bolt.Tx) error {
		return eachBucket(tx, func(name string, kv *bolt.Bucket) error {
			return kv.ForEach(func(k, v []byte) error {
				if err := s.goOn(ctx); err != nil {
					return err
				}
				e, err := parseValue(name, string(k), v)
				if err != nil || expired(&e, now) {
					return err
				}
				if err = out.Add(name, e); errors.Is(err, storage.ErrInvalid) {
					err = damage("%w", err)
				}
				return err
			})
		})
	})
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// beginCopy waits for its turn to read or replace all of the file.
func (s *Store) beginCopy(ctx context.Context) error {
	select {
	case <-s.closing:
		return storage.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	case s.copying <- struct{}{}:
	}
	err := s.usable()
	if err == nil {
		err = s.goOn(ctx)
	}
	if err != nil {
		<-s.copying
	}
	return err
}

// goOn returns why something long must end, or nil.
func (s *Store) goOn(ctx context.Context) error {
	select {
	case <-s.closing:
		return storage.ErrClosed
	default:
		return ctx.Err()
	}
}

func eachBucket(tx *bolt.Tx, fn func(name string, kv *bolt.Bucket) error) error {
	return tx.ForEach(func(top []byte, kv *bolt.Bucket) error {
		name, ok := strings.CutPrefix(string(top), bucketPrefix)
		if !ok {
			return nil
		}
		return fn(name, kv)
	})
}

// Restore replaces all buckets as storage.Archive says. The stream is checked
// as a whole before anything happens, and takes its size on disk twice. Writes
// wait while the new file is made; then it takes the place of the old one.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	if err := s.beginCopy(ctx); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { <-s.copying }()
	spool, err := os.Create(filepath.Join(s.dir, spoolName))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	if err := s.eachEntry(ctx, io.TeeReader(r, spool), func(string, storage.Entry) error { return nil }); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("restore: %w", ctx.Err())
	}
	if err := s.usable(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	build := filepath.Join(s.dir, buildName)
	defer os.Remove(build) // gone already when it took its place
	revisions, err := s.build(ctx, build, spool)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	left, err := s.swap(build, revisions)
	if left {
		err = s.broken(err)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// eachEntry calls fn for the entries of a snapshot.
func (s *Store) eachEntry(ctx context.Context, r io.Reader, fn func(bucket string, e storage.Entry) error) error {
	in, err := storage.NewSnapshotReader(r)
	if err != nil {
		return err
	}
	for {
		bucket, e, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.goOn(ctx)
		}
		if err == nil {
			err = fn(bucket, e)
		}
		if err != nil {
			return err
		}
	}
}

// build makes a file of the entries in the spool. It returns the revisions of
// all buckets in it, old ones without entries included: no revision is ever
// given twice.
func (s *Store) build(ctx context.Context, path string, spool io.Reader) (map[string]uint64, error) {
	revisions := map[string]uint64{}
	err := s.view(func(tx *bolt.Tx) error {
		return eachBucket(tx, func(name string, kv *bolt.Bucket) error {
			revisions[name] = kv.Sequence() + 1
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := createFile(path); err != nil {
		return nil, err
	}
	f, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	f.bolt.Defer()
	p := &pending{file: f, revisions: revisions}
	err = s.eachEntry(ctx, spool, p.add)
	if err == nil {
		err = p.flush()
	}
	if err == nil {
		err = f.update(func(tx *bolt.Tx) error { return setRevisions(tx, revisions) })
	}
	if err == nil {
		err = f.bolt.Sync()
	}
	return revisions, errors.Join(err, f.close())
}

func setRevisions(tx *bolt.Tx, revisions map[string]uint64) error {
	for name, revision := range revisions {
		kv, err := tx.CreateBucketIfNotExists([]byte(bucketPrefix + name))
		if err != nil {
			return err
		}
		if err := kv.SetSequence(revision); err != nil {
			return err
		}
	}
	return nil
}

// pending collects entries for one transaction.
type pending struct {
	file      *file
	revisions map[string]uint64
	entries   []storage.Entry
	buckets   []string // of each entry
	bytes     int
}

func (p *pending) add(bucket string, e storage.Entry) error {
	p.revisions[bucket]++
	e.Revision = p.revisions[bucket]
	p.entries, p.buckets = append(p.entries, e), append(p.buckets, bucket)
	p.bytes += len(e.Key) + len(e.Value)
	if len(p.entries) < restoreEntries && p.bytes < restoreBytes {
		return nil
	}
	return p.flush()
}

func (p *pending) flush() error {
	err := p.file.update(func(tx *bolt.Tx) error {
		for i := range p.entries {
			e, name := &p.entries[i], p.buckets[i]
			kv, err := tx.CreateBucketIfNotExists([]byte(bucketPrefix + name))
			if err != nil {
				return err
			}
			kv.FillPercent = 0.9 // keys come in order
			if err := kv.Put([]byte(e.Key), appendValue(nil, name, e)); err != nil {
				return err
			}
			if err := schedule(tx, name, e); err != nil {
				return err
			}
		}
		return nil
	})
	p.entries, p.buckets, p.bytes = p.entries[:0], p.buckets[:0], 0
	return err
}

// swap puts the file at path in the place of the store's. left says that the
// old one is gone, but perhaps not for good.
func (s *Store) swap(path string, revisions map[string]uint64) (left bool, err error) {
	next, err := openChecked(path)
	if err != nil {
		return false, err
	}
	s.bucketsMu.Lock()
	defer s.bucketsMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	next.path = s.file.path
	if err := os.Rename(path, next.path); err != nil {
		return false, errors.Join(err, next.close())
	}
	old := s.file
	s.file = next
	_ = old.close() // it is gone already
	if err := durable.SyncDir(s.dir); err != nil {
		return true, err
	}
	for name, b := range s.buckets {
		if revision, ok := revisions[name]; ok {
			b.changes.restart(revision)
		}
	}
	return false, nil
}
