package boltfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// What Inspect knows of the format.
//
// A page, in native byte order (bbolt, internal/common):
//
//	page   = id u64, flags u16, count u16, overflow u32, elements
//	meta   = magic u32, version u32, page size u32, flags u32, root u64,
//	         sequence u64, freelist u64, high water mark u64, txid u64, checksum u64
//	branch = pos u32, ksize u32, page u64
//	leaf   = flags u32, pos u32, ksize u32, vsize u32
//
// pos counts from the element's own start.
const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	leafIsBucket = 0x01

	maxDepth = 64
)

// image is a bbolt file as bytes, with what its newest meta page says.
type image struct {
	data     []byte
	pageSize uint64
	pages    uint64 // the high water mark: pages in use
	root     uint64
	freelist uint64
	txid     uint64

	seen []uint64 // bit set of the pages reached

	last  []byte // the last key of the bucket so far
	floor []byte // what the branch above says is its lowest
}

// Visitor gets the key and the value of every leaf element in a top-level bucket.
// They are valid until it returns.
type Visitor func(bucket string, key, value []byte) error

// Inspect checks the structure of the file at path: both meta pages, every page,
// which must be in use once or free, and the order of keys. A nil visit leaves it
// at the meta pages and the length of the file. It opens the file for reading only
// and survives whatever it finds; errors about that are an ErrDamaged.
func Inspect(path string, visit Visitor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < 4096 {
		return damage("%d bytes are no bbolt file", info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	defer unix.Munmap(data)
	return guard(func() error {
		im, err := newImage(data)
		if err != nil {
			return err
		}
		if visit == nil {
			return nil
		}
		if err := im.page(im.root, "", 0, visit); err != nil {
			return err
		}
		if err := im.free(); err != nil {
			return err
		}
		return im.complete()
	})
}

// newImage reads both meta pages. Both must be good: bbolt would fall back to the
// older one, and the last batch would be gone unseen.
func newImage(data []byte) (*image, error) {
	size := binary.NativeEndian.Uint32(data[pageHeader+8:])
	if size < 1024 || size > 1<<16 || size&(size-1) != 0 || uint64(size)*4 > uint64(len(data)) {
		return nil, damage("meta page 0: page size %d in a file of %d bytes", size, len(data))
	}
	im := &image{data: data, pageSize: uint64(size)}
	for i := range uint64(2) {
		if err := im.meta(i); err != nil {
			return nil, damage("meta page %d: %w", i, err)
		}
	}
	if need := im.pages * im.pageSize; im.pages > 1<<40 || need > uint64(len(data)) {
		return nil, damage("file of %d bytes is cut off: its meta page needs %d", len(data), need)
	}
	im.seen = make([]uint64, im.pages/64+1)
	im.mark(0)
	im.mark(1)
	return im, nil
}

// meta reads meta page i and takes it over if it is the newer one.
func (im *image) meta(i uint64) error {
	p := im.data[i*im.pageSize:][:pageHeader+metaSize]
	b := p[pageHeader:]
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	sum := fnv.New64a()
	sum.Write(b[:56])
	txid := word(48)
	switch {
	case binary.NativeEndian.Uint32(b) != metaMagic:
		return fmt.Errorf("wrong magic number")
	case binary.NativeEndian.Uint32(b[4:]) != metaVersion:
		return fmt.Errorf("unknown bbolt version %d", binary.NativeEndian.Uint32(b[4:]))
	case word(56) != sum.Sum64():
		return fmt.Errorf("wrong checksum")
	case uint64(binary.NativeEndian.Uint32(b[8:])) != im.pageSize:
		return fmt.Errorf("other page size")
	case binary.NativeEndian.Uint64(p) != i || binary.NativeEndian.Uint16(p[8:]) != flagMeta:
		return fmt.Errorf("wrong page header")
	case txid%2 != i:
		return fmt.Errorf("transaction %d does not belong here", txid)
	case i == 1 && txid != im.txid+1 && im.txid != txid+1:
		return fmt.Errorf("transaction %d beside %d", txid, im.txid)
	}
	if i == 0 || txid > im.txid {
		im.root, im.freelist, im.pages, im.txid = word(16), word(32), word(40), txid
	}
	return nil
}

// mark notes that the page is in use; false: it was already.
func (im *image) mark(id uint64) bool {
	if im.seen[id/64]>>(id%64)&1 == 1 {
		return false
	}
	im.seen[id/64] |= 1 << (id % 64)
	return true
}

// take returns the bytes of a page, its overflow included, and marks them.
func (im *image) take(id uint64, kinds ...uint16) (p []byte, kind uint16, count int, err error) {
	if id < 2 || id >= im.pages {
		return nil, 0, 0, damage("page %d of %d", id, im.pages)
	}
	p = im.data[id*im.pageSize:]
	kind, count = binary.NativeEndian.Uint16(p[8:]), int(binary.NativeEndian.Uint16(p[10:]))
	overflow := uint64(binary.NativeEndian.Uint32(p[12:]))
	switch {
	case binary.NativeEndian.Uint64(p) != id:
		return nil, 0, 0, damage("page %d calls itself %d", id, binary.NativeEndian.Uint64(p))
	case !slices.Contains(kinds, kind):
		return nil, 0, 0, damage("page %d: flags %#x", id, kind)
	case overflow >= im.pages-id:
		return nil, 0, 0, damage("page %d: %d overflow pages", id, overflow)
	}
	for n := range overflow + 1 {
		if !im.mark(id + n) {
			return nil, 0, 0, damage("page %d is used twice", id+n)
		}
	}
	return p[:(overflow+1)*im.pageSize], kind, count, nil
}

// page checks a page of a bucket and everything below it.
func (im *image) page(id uint64, bucket string, depth int, visit Visitor) error {
	if depth > maxDepth {
		return damage("page %d: tree too deep", id)
	}
	p, kind, count, err := im.take(id, flagBranch, flagLeaf)
	if err != nil {
		return err
	}
	if kind == flagLeaf {
		return im.leaf(p, count, bucket, id, depth, visit)
	}
	if count == 0 {
		return damage("page %d: branch without children", id)
	}
	at := pageHeader + count*elementSize
	for i := range count {
		e, err := element(p, i, count)
		if err != nil {
			return damage("page %d: %w", id, err)
		}
		word := func(n int) uint32 { return binary.NativeEndian.Uint32(e[4*n:]) }
		key, _, err := slot(p, at, i, 0, word(0), word(1), 0)
		if err != nil {
			return damage("page %d: %w", id, err)
		}
		at += len(key)
		if i > 0 { // the first key may be older than its page
			if bytes.Compare(key, im.last) <= 0 {
				return damage("page %d: element %d out of place", id, i)
			}
			im.floor = key
		}
		if err := im.page(binary.NativeEndian.Uint64(e[8:]), bucket, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks the elements of a leaf page, which may be one inside a value.
func (im *image) leaf(p []byte, count int, bucket string, id uint64, depth int, visit Visitor) error {
	at := pageHeader + count*elementSize
	for i := range count {
		e, err := element(p, i, count)
		if err != nil {
			return damage("page %d: %w", id, err)
		}
		word := func(n int) uint32 { return binary.NativeEndian.Uint32(e[4*n:]) }
		key, value, err := slot(p, at, i, word(0), word(1), word(2), word(3))
		if err != nil {
			return damage("page %d: %w", id, err)
		}
		at += len(key) + len(value)
		if len(key) == 0 || bytes.Compare(key, im.last) <= 0 || bytes.Compare(key, im.floor) < 0 {
			return damage("page %d: element %d out of place", id, i)
		}
		im.last = key
		switch {
		case word(0)&leafIsBucket == 0 && bucket != "":
			err = visit(bucket, key, value)
		case word(0)&leafIsBucket != 0 && bucket == "":
			err = im.bucket(string(key), value, id, depth, visit)
			im.last, im.floor = key, nil
		default:
			err = damage("page %d: element %d of the wrong kind", id, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket by its value: root page and sequence, and for a small one
// its only page.
func (im *image) bucket(name string, value []byte, id uint64, depth int, visit Visitor) error {
	if len(value) < 16 {
		return damage("page %d: bucket %q without root", id, name)
	}
	im.last, im.floor = nil, nil
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return im.page(root, name, depth+1, visit)
	}
	p := value[16:]
	if len(p) < pageHeader || binary.NativeEndian.Uint16(p[8:]) != flagLeaf {
		return damage("page %d: bucket %q without page", id, name)
	}
	return im.leaf(p, int(binary.NativeEndian.Uint16(p[10:])), name, id, depth+1, visit)
}

// element returns the page from element i on.
func element(p []byte, i, count int) ([]byte, error) {
	if pageHeader+count*elementSize > len(p) {
		return nil, fmt.Errorf("%d elements do not fit", count)
	}
	return p[pageHeader+i*elementSize:], nil
}

// slot returns the key and the value of element i, which must start at the offset
// at of its page, where those before ended: bbolt leaves no gaps, so that a wrong
// count is seen.
func slot(p []byte, at, i int, flags, pos, ksize, vsize uint32) (key, value []byte, err error) {
	from := uint64(pageHeader + i*elementSize)
	end := uint64(at) + uint64(ksize) + uint64(vsize)
	if flags > leafIsBucket || from+uint64(pos) != uint64(at) || end > uint64(len(p)) {
		return nil, nil, fmt.Errorf("element %d out of place", i)
	}
	return p[at:][:ksize], p[at+int(ksize):][:vsize], nil
}

// free checks that no free page is in use: the next commit would overwrite it.
func (im *image) free() error {
	p, _, count, err := im.take(im.freelist, flagFreelist)
	if err != nil {
		return damage("free list: %w", err)
	}
	ids := p[pageHeader:]
	n := uint64(count)
	if n == 0xFFFF {
		n, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return damage("free list: %d pages do not fit", n)
	}
	for i := range n {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id < 2 || id >= im.pages || !im.mark(id) {
			return damage("free list: page %d is not free", id)
		}
	}
	return nil
}

// complete checks that every page is in use or free.
func (im *image) complete() error {
	for id := range im.pages {
		if im.seen[id/64]>>(id%64)&1 == 0 {
			return damage("page %d is neither used nor free", id)
		}
	}
	return nil
}
