package segmentread

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"syscall"
)

// The format of a bbolt file, version 2, integers in the order of the machine
// that wrote it (little endian here):
//
//	page    { id u64; flags u16; count u16; overflow u32 } then elements
//	meta    { magic, version, pageSize, flags u32; root bucket; freelist, pages, txid, checksum u64 }
//	bucket  { root page u64; sequence u64 }; root 0: the page follows inline
//	branch  { pos, ksize u32; page u64 }
//	leaf    { flags, pos, ksize, vsize u32 }
//
// pos counts from the element. The meta page with the higher txid is in force.
const (
	pageHeader = 16
	metaSize   = 64
	bucketSize = 16
	elemSize   = 16

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)

	minPageSize = 1 << 10
	maxPageSize = 1 << 16

	// maxBuckets bounds the buckets that are remembered; the format has a handful.
	maxBuckets = 64
)

type metaPage struct {
	pageSize                    int64
	root, freelist, pages, txid uint64
}

type bucket struct {
	root   uint64
	inline []byte // a copy of the inline page; nil: at root
}

type file struct {
	f       *os.File
	path    string
	size    int64
	meta    metaPage
	older   *metaPage // the state before the last transaction, when it is valid
	buckets map[string]bucket
	// flaw is damage that does not hinder reading.
	flaw error
	free bitmap // pages on the stored free list; nil when none is stored
	win  window
}

// openFile opens a log file, checks its meta pages and reads its buckets.
func openFile(path string, win window) (*file, error) {
	// O_NONBLOCK: a FIFO under this name must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the log file: %w", err)
	}
	db := &file{f: f, path: path, win: window{buf: win.buf[:0]}, buckets: map[string]bucket{}}
	if err := db.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return db, nil
}

func (db *file) load() error {
	info, err := db.f.Stat()
	if err != nil {
		return fmt.Errorf("look at the log file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", db.path)
	}
	db.size = info.Size()
	if err := lockShared(db.f); err != nil {
		return fmt.Errorf("lock %s: %w", db.path, err)
	}
	if err := db.readMeta(); err != nil {
		return err
	}
	if want := int64(db.meta.pages) * db.meta.pageSize; db.size < want {
		db.note(db.truncated(db.size, "the file has %d bytes, its pages need %d", db.size, want))
	} else if db.size%db.meta.pageSize != 0 {
		db.note(db.truncated(db.size, "the file ends within a page"))
	}
	db.readFreelist()
	if err := db.readBuckets(); err != nil {
		db.note(err)
		if db.older == nil {
			return db.flaw // the cause
		}
		// The pages of the state before are still there: what they hold tells how far
		// the log went at least.
		db.meta, db.free = *db.older, nil
		if err := db.readBuckets(); err != nil {
			return db.flaw
		}
	}
	return db.checkSize()
}

// readMeta takes the newer of the two meta pages. One that is not valid is a
// flaw: bbolt would fall back to the other, silently, and lose a transaction.
func (db *file) readMeta() error {
	zero, err0 := db.metaAt(0, 0)
	if err0 == nil {
		one, err1 := db.metaAt(zero.pageSize, 1)
		db.meta = zero
		if err1 == nil && one.pageSize != zero.pageSize {
			err1 = db.damaged(zero.pageSize, "the meta pages disagree on the page size")
		}
		if err1 != nil {
			db.note(err1)
		} else if one.txid > zero.txid {
			db.meta, db.older = one, &zero
		} else {
			db.older = &one
		}
		return nil
	}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		if one, err := db.metaAt(size, 1); err == nil && one.pageSize == size {
			db.meta = one
			db.note(err0)
			return nil
		}
	}
	if db.size < 2*minPageSize {
		return db.truncated(db.size, "the file has %d bytes, too few for its meta pages", db.size)
	}
	return db.damaged(0, "neither meta page is valid")
}

func (db *file) metaAt(off int64, id uint64) (metaPage, error) {
	b, err := db.at(off, pageHeader+metaSize)
	if err != nil {
		return metaPage{}, err
	}
	le := binary.LittleEndian
	if le.Uint64(b) != id || le.Uint16(b[8:]) != flagMeta {
		return metaPage{}, db.damaged(off, "meta page %d has another header", id)
	}
	b = b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	m := metaPage{
		pageSize: int64(le.Uint32(b[8:])), root: le.Uint64(b[16:]), freelist: le.Uint64(b[32:]),
		pages: le.Uint64(b[40:]), txid: le.Uint64(b[48:]),
	}
	switch {
	case le.Uint32(b) != magic || le.Uint32(b[4:]) != version:
		return metaPage{}, db.damaged(off, "meta page %d is not one of bbolt, version %d", id, version)
	case le.Uint64(b[56:]) != sum.Sum64():
		return metaPage{}, db.damaged(off, "meta page %d has a wrong checksum", id)
	case m.pageSize < minPageSize || m.pageSize > maxPageSize || m.pageSize&(m.pageSize-1) != 0:
		return metaPage{}, db.damaged(off, "meta page %d has a page size of %d", id, m.pageSize)
	case m.txid%2 != id:
		return metaPage{}, db.damaged(off, "meta page %d is of transaction %d", id, m.txid)
	case m.pages > 1<<40:
		return metaPage{}, db.damaged(off, "meta page %d counts %d pages", id, m.pages)
	}
	return m, nil
}

// readFreelist reads the stored list of free pages, so that a page both free and
// in use is noticed: the server would write over it.
func (db *file) readFreelist() {
	if db.meta.freelist == noFreelist {
		return
	}
	err := func() error {
		p, err := db.page(db.meta.freelist, flagFreelist, nil)
		if err != nil {
			return err
		}
		first, n := int64(pageHeader), int64(p.count)
		if p.count == 0xFFFF { // the count did not fit and stands first
			b, err := p.bytes(first, 8)
			if err != nil {
				return err
			}
			first, n = first+8, int64(min(binary.LittleEndian.Uint64(b), 1<<40))
		}
		free := newBitmap(db.limit())
		for i := range n {
			b, err := p.bytes(first+8*i, 8)
			if err != nil {
				return err
			}
			id := binary.LittleEndian.Uint64(b)
			if id < 2 || id >= db.meta.pages || (id < db.limit() && !free.set(id)) {
				return db.damaged(p.off, "free list: page %d is out of range or listed twice", id)
			}
		}
		db.free = free
		return nil
	}()
	if err != nil {
		db.note(err)
	}
}

// readBuckets reads the root bucket, which holds the named ones.
func (db *file) readBuckets() error {
	w := walker{file: db, ctx: context.Background(), seen: newBitmap(db.limit()), buckets: true, fn: func(key, value []byte) error {
		if len(value) < bucketSize || len(db.buckets) == maxBuckets {
			return db.damaged(int64(db.meta.root)*db.meta.pageSize, "bucket %q: malformed, or too many", key)
		}
		b := bucket{root: binary.LittleEndian.Uint64(value)}
		if b.root == 0 {
			b.inline = slices.Clone(value[bucketSize:])
		}
		db.buckets[string(key)] = b
		return nil
	}}
	return w.page(db.meta.root, 0)
}

// checkSize compares the file with the optional entry "size" of bucket meta: the
// size of the file when the last batch began. A file may grow, never shrink.
func (db *file) checkSize() error {
	if db.flaw != nil {
		return nil
	}
	return db.walk(context.Background(), "meta", func(key, value []byte) error {
		if string(key) != "size" || len(value) != 8 {
			return nil
		}
		if want := binary.BigEndian.Uint64(value); uint64(db.size) < want {
			db.note(db.truncated(db.size, "the file has %d bytes and had %d", db.size, want))
		}
		return nil
	})
}

func (db *file) names() []string {
	out := make([]string, 0, len(db.buckets))
	for name := range db.buckets {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// limit is the number of pages that the file can hold and its meta page knows.
func (db *file) limit() uint64 {
	return min(db.meta.pages, uint64(db.size/db.meta.pageSize)+1)
}

func (db *file) note(err error) {
	if db.flaw == nil {
		db.flaw = err
	}
}

func (db *file) damaged(off int64, format string, args ...any) error {
	return &DamageError{Kind: kindPage, Path: db.path, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

func (db *file) truncated(off int64, format string, args ...any) error {
	return &DamageError{Kind: kindTruncated, Path: db.path, Offset: off, Reason: fmt.Sprintf(format, args...)}
}

// window is a read buffer over a part of the file.
type window struct {
	buf  []byte
	off  int64
	next int // bytes to read at once; grows while reads are sequential
}

const (
	minRead = 16 << 10
	maxRead = 256 << 10
	// maxWindow bounds what at returns; larger pages are read in pieces.
	maxWindow = 1 << 20
)

// at returns n bytes of the file, valid until the next call; n is at most
// maxWindow.
func (db *file) at(off int64, n int) ([]byte, error) {
	w := &db.win
	end := w.off + int64(len(w.buf))
	if off >= w.off && off+int64(n) <= end {
		return w.buf[off-w.off:][:n], nil
	}
	if off < 0 || off+int64(n) > db.size {
		return nil, db.truncated(db.size, "bytes %d to %d lie behind the end of the file", off, off+int64(n))
	}
	if off >= w.off && off <= end+minRead {
		w.next = min(2*w.next, maxRead)
	} else {
		w.next = minRead
	}
	size := int(min(int64(max(n, w.next)), db.size-off))
	w.buf, w.off = slices.Grow(w.buf[:0], size)[:size], off
	if err := db.read(w.buf, off); err != nil {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:n], nil
}

func (db *file) read(b []byte, off int64) error {
	switch _, err := db.f.ReadAt(b, off); {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return db.truncated(off, "the file became shorter while it was read")
	default:
		return db.damaged(off, "read: %v", err)
	}
}

// bitmap is a set of page numbers.
type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, n/64+1) }

// set adds a page and reports whether it was new; the page must be in range.
func (b bitmap) set(id uint64) bool {
	bit := uint64(1) << (id % 64)
	was := b[id/64]&bit != 0
	b[id/64] |= bit
	return !was
}

func (b bitmap) has(id uint64) bool {
	return id/64 < uint64(len(b)) && b[id/64]>>(id%64)&1 == 1
}
