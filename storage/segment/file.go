package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/internal/boltfile"
	"github.com/verdict-pdp/verdict/internal/durable"
)

const (
	// pageSize of new files. Larger pages waste less of themselves on records of
	// some hundred bytes and need fewer writes for a batch, but a commit of a single
	// record rewrites the path to it in whole pages.
	pageSize = 8192

	tmpSuffix = ".tmp"
)

// The buckets of a file and the keys of meta.
const (
	bucketMeta    = "meta"
	bucketRecord  = "rec"
	bucketTile    = "tile"
	bucketSegment = "seg"
	bucketBlob    = "blob"

	keyFormat = "format"
	keyOrigin = "origin"
	keyFirst  = "first"
	keyNext   = "next"
	keyHead   = "head"
	keyPrev   = "prev"
	keyTree   = "tree"
	keyTime   = "time"
	keySealed = "sealed"
	keyMarks  = "marks"
	keySize   = "size"
)

// markSize is how many bytes of a record's leaf hash are kept beside the hashes
// of its tile.
const markSize = 4

// file is one open file of the log.
type file struct {
	number uint64
	path   string
	bolt   *boltfile.File
	sealed bool
}

// meta is the bucket meta of a file.
type meta struct {
	format uint32
	first  uint64
	prev   chain.Hash
	pos    audit.Position
	sealed bool
	marks  []byte // of the records behind the last complete tile
	size   uint64 // of the file, when the last batch began; 0 before the first
}

func fileName(number uint64) string { return fmt.Sprintf("%08d.db", number) }

// listFiles returns the numbers of the files of a log, which must be 0, 1, 2...
// What was left half-made is removed.
func listFiles(dir string) (count uint64, err error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		switch {
		case filepath.Ext(e.Name()) == tmpSuffix:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return 0, err
			}
		case isLogFile(e.Name()):
			if e.Name() != fileName(count) {
				return 0, damage("file %s is missing", filepath.Join(dir, fileName(count)))
			}
			count++
		}
	}
	return count, nil
}

// isLogFile tells whether the name is eight digits and .db.
func isLogFile(name string) bool {
	digits, ok := strings.CutSuffix(name, ".db")
	_, err := strconv.ParseUint(digits, 10, 64)
	return ok && err == nil && len(digits) == 8
}

// createFile makes an empty file, complete or not at all, and opens it.
func createFile(dir string, number uint64, m meta, grow int) (*file, error) {
	path := filepath.Join(dir, fileName(number))
	f, err := openFile(path+tmpSuffix, number, grow)
	if err != nil {
		return nil, err
	}
	err = f.update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketMeta, bucketRecord, bucketTile, bucketSegment, bucketBlob} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		b := tx.Bucket([]byte(bucketMeta))
		return errors.Join(
			b.Put([]byte(keyFormat), binary.BigEndian.AppendUint32(nil, m.format)),
			b.Put([]byte(keyOrigin), []byte(m.pos.Origin)),
			b.Put([]byte(keyFirst), binary.BigEndian.AppendUint64(nil, m.first)),
			b.Put([]byte(keyPrev), m.prev[:]),
			putPosition(b, &m.pos, nil))
	})
	if err := errors.Join(err, f.close()); err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, err
	}
	return openFile(path, number, grow)
}

// inspect checks the structure of the file at path before it is opened.
func inspect(path string, visit boltfile.Visitor) error {
	return noted(boltfile.Inspect(path, visit))
}

// openFile opens a file that inspect found sound, for writing when grow is not 0:
// then it is the step by which the file grows.
func openFile(path string, number uint64, grow int) (*file, error) {
	b, err := boltfile.Open(path, boltfile.Options{ReadOnly: grow == 0, PageSize: pageSize, Grow: grow})
	if err != nil {
		return nil, noted(err)
	}
	return &file{number: number, path: path, bolt: b, sealed: grow == 0}, nil
}

func (f *file) close() error { return noted(f.bolt.Close()) }

// view runs fn in a read transaction, which must be short.
func (f *file) view(fn func(*bolt.Tx) error) error { return noted(f.bolt.View(fn)) }

func (f *file) update(fn func(*bolt.Tx) error) error { return noted(f.bolt.Update(fn)) }

// noted makes an ErrDamaged of what boltfile found.
func noted(err error) error {
	if errors.Is(err, boltfile.ErrDamaged) {
		return damage("%w", err)
	}
	return err
}

// readMeta reads and checks the bucket meta by itself.
func (f *file) readMeta() (m meta, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketMeta))
		if b == nil {
			return damage("no bucket %q", bucketMeta)
		}
		for _, name := range []string{bucketRecord, bucketTile, bucketSegment, bucketBlob} {
			if tx.Bucket([]byte(name)) == nil {
				return damage("no bucket %q", name)
			}
		}
		m, err = parseMeta(b)
		return err
	})
	return m, err
}

func parseMeta(b *bolt.Bucket) (m meta, err error) {
	value := func(key string, size int) []byte {
		v := b.Get([]byte(key))
		if len(v) != size && err == nil {
			err = damage("meta %s has %d bytes, want %d", key, len(v), size)
		}
		if len(v) != size {
			return make([]byte, size)
		}
		return v
	}
	m.format = binary.BigEndian.Uint32(value(keyFormat, 4))
	if err == nil && m.format > audit.FormatVersion {
		return m, fmt.Errorf("log format version %d, this program knows versions up to %d: %w",
			m.format, audit.FormatVersion, ErrFormat)
	}
	m.first = binary.BigEndian.Uint64(value(keyFirst, 8))
	m.pos.Next = binary.BigEndian.Uint64(value(keyNext, 8))
	m.prev = chain.Hash(value(keyPrev, chain.HashSize))
	m.pos.Head = chain.Hash(value(keyHead, chain.HashSize))
	micros := int64(binary.BigEndian.Uint64(value(keyTime, 8)))
	m.pos.Origin = string(b.Get([]byte(keyOrigin)))
	if err != nil {
		return m, err
	}
	if err := m.pos.Tree.UnmarshalBinary(b.Get([]byte(keyTree))); err != nil {
		return m, damage("meta tree: %w", err)
	}
	if m.pos.Next > 0 {
		m.pos.Time = time.UnixMicro(micros).UTC()
	}
	m.marks = slices.Clone(b.Get([]byte(keyMarks)))
	if size := b.Get([]byte(keySize)); len(size) == 8 {
		m.size = binary.BigEndian.Uint64(size)
	}
	sealed := b.Get([]byte(keySealed))
	m.sealed = len(sealed) == 1 && sealed[0] == 1
	switch {
	case m.format == 0:
		return m, damage("meta format is 0")
	case sealed != nil && !m.sealed:
		return m, damage("meta sealed is %x", sealed)
	case m.pos.Tree.Size() != m.pos.Next:
		return m, damage("meta: tree of %d records, next is %d", m.pos.Tree.Size(), m.pos.Next)
	case m.pos.Next < m.first:
		return m, damage("meta: next %d is before first %d", m.pos.Next, m.first)
	}
	return m, nil
}

// putPosition writes what changes with every batch.
func putPosition(b *bolt.Bucket, p *audit.Position, marks []byte) error {
	tree, err := p.Tree.MarshalBinary()
	if err != nil {
		return err
	}
	var micros int64
	if p.Next > 0 {
		micros = p.Time.UnixMicro()
	}
	return errors.Join(
		b.Put([]byte(keyNext), binary.BigEndian.AppendUint64(nil, p.Next)),
		b.Put([]byte(keyHead), p.Head[:]),
		b.Put([]byte(keyTree), tree),
		b.Put([]byte(keyMarks), marks),
		b.Put([]byte(keyTime), binary.BigEndian.AppendUint64(nil, uint64(micros))))
}
