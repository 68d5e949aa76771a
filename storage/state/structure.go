package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// bbolt believes its pages: in a damaged file it may follow a page for ever, take
// a page in use for a free one or not find a key that is there. So what leads to
// a key is checked before bbolt opens the file; the value is checked when it is
// read, by its checksum.
const (
	pageHeader = 16 // id u64, flags u16, count u16, overflow u32
	element    = 16 // branch: pos u32, ksize u32, page u64; leaf: flags u32, pos u32, ksize u32, vsize u32
	metaSize   = 64 // magic, version, page size, flags u32; root, sequence, free list, pages, txid, checksum u64

	metaMagic    = 0xED0CDAED
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	maxDepth = 64
)

// pages is a bbolt file as its newest meta page describes it.
type pages struct {
	data     []byte
	size     uint64 // of a page
	count    uint64 // of pages in use
	txid     uint64
	root     uint64
	freelist uint64
	seen     []bool
	last     []byte // the last key of the bucket so far
	floor    []byte // what the branch above says is its lowest
}

// inspect checks the structure of the file at path, reading only.
func inspect(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < 4*1024 {
		return damage("%d bytes are no state file", info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	defer unix.Munmap(data)
	return guard(func() error {
		p := &pages{data: data, size: uint64(binary.NativeEndian.Uint32(data[pageHeader+8:]))}
		if p.size < 1024 || p.size > 1<<16 || p.size&(p.size-1) != 0 || 4*p.size > uint64(len(data)) {
			return damage("page size %d in a file of %d bytes", p.size, len(data))
		}
		for i := range uint64(2) {
			if err := p.meta(i); err != nil {
				return damage("meta page %d: %w", i, err)
			}
		}
		if p.count > uint64(len(data))/p.size {
			return damage("file of %d bytes is cut off: it has %d pages of %d", len(data), p.count, p.size)
		}
		p.seen = make([]bool, p.count)
		if err := p.walk(p.root, true, 0); err != nil {
			return err
		}
		if err := p.free(); err != nil {
			return err
		}
		if n := slices.Index(p.seen[2:], false); n >= 0 {
			return damage("page %d is neither used nor free", n+2)
		}
		return nil
	})
}

// meta reads a meta page. Both must be good: bbolt would fall back to the older
// one, and the last commit would be gone unseen.
func (p *pages) meta(i uint64) error {
	b := p.data[i*p.size+pageHeader:][:metaSize]
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	sum := fnv.New64a()
	sum.Write(b[:56])
	switch {
	case binary.NativeEndian.Uint32(b) != metaMagic || word(56) != sum.Sum64():
		return fmt.Errorf("wrong magic number or checksum")
	case uint64(binary.NativeEndian.Uint32(b[8:])) != p.size:
		return fmt.Errorf("other page size")
	}
	if i == 0 || word(48) > p.txid {
		p.root, p.freelist, p.count, p.txid = word(16), word(32), word(40), word(48)
	}
	return nil
}

// take returns the bytes of a page, with its overflow, that was not met before.
func (p *pages) take(id uint64) (b []byte, flags uint16, count int, err error) {
	if id < 2 || id >= p.count {
		return nil, 0, 0, damage("page %d of %d", id, p.count)
	}
	b = p.data[id*p.size:]
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || overflow >= p.count-id {
		return nil, 0, 0, damage("page %d calls itself %d, with %d more", id, binary.NativeEndian.Uint64(b), overflow)
	}
	for n := id; n <= id+overflow; n++ {
		if p.seen[n] {
			return nil, 0, 0, damage("page %d is used twice", n)
		}
		p.seen[n] = true
	}
	return b[:(overflow+1)*p.size], binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:])), nil
}

// walk follows the tree below a page; top: its leaves hold buckets.
func (p *pages) walk(id uint64, top bool, depth int) error {
	b, flags, count, err := p.take(id)
	if err != nil {
		return err
	}
	if flags == flagLeaf {
		if err := p.leaf(b, count, top, depth); err != nil {
			return damage("page %d: %w", id, err)
		}
		return nil
	}
	if depth > maxDepth || flags != flagBranch || count == 0 {
		return damage("page %d: flags %#x, %d elements, depth %d", id, flags, count, depth)
	}
	at := pageHeader + count*element
	for i := range count {
		key, _, end, err := slot(b, i, at, 0)
		if err != nil {
			return damage("page %d: %w", id, err)
		}
		at = end
		if i > 0 { // the first key may be older than its page
			if bytes.Compare(key, p.last) <= 0 {
				return damage("page %d: key %q after %q", id, key, p.last)
			}
			p.floor = key
		}
		if err := p.walk(binary.NativeEndian.Uint64(b[pageHeader+i*element+8:]), top, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks a leaf page, which may be one in the value of a small bucket.
func (p *pages) leaf(b []byte, count int, top bool, depth int) error {
	at := pageHeader + count*element
	for i := range count {
		key, value, end, err := slot(b, i, at, 4)
		if err != nil {
			return err
		}
		at = end
		if bytes.Compare(key, p.last) <= 0 || bytes.Compare(key, p.floor) < 0 {
			return fmt.Errorf("key %q after %q", key, p.last)
		}
		p.last = key
		if isBucket := binary.NativeEndian.Uint32(b[pageHeader+i*element:]); isBucket > 1 || (isBucket == 1) != top {
			return fmt.Errorf("key %q has flags %#x", key, isBucket)
		}
		if !top {
			continue
		}
		if err := p.bucket(value, depth); err != nil {
			return fmt.Errorf("bucket %q: %w", key, err)
		}
		p.last, p.floor = key, nil
	}
	return nil
}

// bucket checks what the value of a bucket leads to: root u64, sequence u64, and
// the only page of a small bucket, whose root is 0.
func (p *pages) bucket(value []byte, depth int) error {
	p.last, p.floor = nil, nil
	if len(value) < 16 {
		return fmt.Errorf("%d bytes", len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.walk(root, false, depth+1)
	}
	b := value[16:]
	if len(b) < pageHeader || binary.NativeEndian.Uint16(b[8:]) != flagLeaf {
		return errors.New("no page")
	}
	return p.leaf(b, int(binary.NativeEndian.Uint16(b[10:])), false, depth)
}

// slot returns the key and value of element i, which must start at the offset
// where the one before ended: bbolt leaves no gaps, so that a wrong count is
// seen. skip is where pos stands in the element.
func slot(b []byte, i, at, skip int) (key, value []byte, end int, err error) {
	from := pageHeader + i*element
	if from+element > len(b) {
		return nil, nil, 0, fmt.Errorf("element %d does not fit", i)
	}
	word := func(n int) int { return int(binary.NativeEndian.Uint32(b[from+skip+4*n:])) }
	pos, ksize, vsize := word(0), word(1), 0
	if skip > 0 {
		vsize = word(2)
	}
	end = at + ksize + vsize
	if from+pos != at || end > len(b) {
		return nil, nil, 0, fmt.Errorf("element %d out of place", i)
	}
	return b[at : at+ksize], b[at+ksize : end], end, nil
}

// free checks that no free page is in use: the next commit would overwrite it.
func (p *pages) free() error {
	b, flags, count, err := p.take(p.freelist)
	if err != nil || flags != flagFreelist {
		return damage("free list: flags %#x: %w", flags, err)
	}
	ids, n := b[pageHeader:], uint64(count)
	if n == 0xFFFF {
		n, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return damage("free list: %d pages do not fit", n)
	}
	for i := range n {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id < 2 || id >= p.count || p.seen[id] {
			return damage("free list: page %d is not free", id)
		}
		p.seen[id] = true
	}
	return nil
}
