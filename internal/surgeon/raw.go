package surgeon

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
)

// What follows works on the bytes of a file, below bbolt. It trusts the file: it
// is for logs that Write made.

const pageHeader, elemSize = 16, 16

// Raw is a log file in memory.
type Raw struct {
	Path  string
	Bytes []byte
}

// ReadRaw reads a file.
func ReadRaw(path string) (*Raw, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read for surgery: %w", err)
	}
	return &Raw{Path: path, Bytes: b}, nil
}

// Write writes the file back.
func (r *Raw) Write() error { return os.WriteFile(r.Path, r.Bytes, 0o600) }

// Truncate cuts the file at a byte.
func Truncate(path string, size int64) error { return os.Truncate(path, size) }

// FlipFile flips bits of one byte of a file.
func FlipFile(path string, offset int64, mask byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open for surgery: %w", err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		return err
	}
	b[0] ^= mask
	if _, err := f.WriteAt(b[:], offset); err != nil {
		return err
	}
	return nil
}

// PageSize is the size of a page.
func (r *Raw) PageSize() int { return int(binary.LittleEndian.Uint32(r.Bytes[pageHeader+8:])) }

// Meta returns the offset of the meta page in force, or of the other.
func (r *Raw) Meta(inForce bool) int {
	size := r.PageSize()
	txid := func(off int) uint64 { return binary.LittleEndian.Uint64(r.Bytes[off+pageHeader+48:]) }
	if (txid(size) > txid(0)) == inForce {
		return size
	}
	return 0
}

// Pages is the number of pages in use or free; what lies behind holds nothing.
func (r *Raw) Pages() int {
	return int(binary.LittleEndian.Uint64(r.Bytes[r.Meta(true)+pageHeader+40:]))
}

// SealMeta computes the checksum of a meta page anew.
func (r *Raw) SealMeta(off int) {
	h := fnv.New64a()
	h.Write(r.Bytes[off+pageHeader:][:56])
	binary.LittleEndian.PutUint64(r.Bytes[off+pageHeader+56:], h.Sum64())
}

// Freelist returns the offset of the stored list of free pages, false when none
// is stored.
func (r *Raw) Freelist() (int, bool) {
	id := binary.LittleEndian.Uint64(r.Bytes[r.Meta(true)+pageHeader+32:])
	if id == ^uint64(0) {
		return 0, false
	}
	return int(id) * r.PageSize(), true
}

// BucketRoot returns the offset of the root page of a bucket that is not inline.
func (r *Raw) BucketRoot(name string) (int, error) {
	root := int(binary.LittleEndian.Uint64(r.Bytes[r.Meta(true)+pageHeader+16:])) * r.PageSize()
	for i := range r.Count(root) {
		at := root + pageHeader + i*elemSize
		pos, ksize := r.u32(at+4), r.u32(at+8)
		if string(r.Bytes[at+pos:][:ksize]) == name {
			return int(binary.LittleEndian.Uint64(r.Bytes[at+pos+ksize:])) * r.PageSize(), nil
		}
	}
	return 0, fmt.Errorf("bucket %s: %w", name, ErrNotFound)
}

// Count is the number of elements of the page at the offset.
func (r *Raw) Count(page int) int { return int(binary.LittleEndian.Uint16(r.Bytes[page+10:])) }

// SetCount alters the number of elements of a page: with fewer, it is as it was
// before its last entries were written.
func (r *Raw) SetCount(page, n int) {
	binary.LittleEndian.PutUint16(r.Bytes[page+10:], uint16(n))
}

// Child returns the offset of the page under element i of a branch page.
func (r *Raw) Child(page, i int) int {
	return int(binary.LittleEndian.Uint64(r.Bytes[page+pageHeader+i*elemSize+8:])) * r.PageSize()
}

// SetChild makes element i of a branch page point to the page id.
func (r *Raw) SetChild(page, i int, id uint64) {
	binary.LittleEndian.PutUint64(r.Bytes[page+pageHeader+i*elemSize+8:], id)
}

// IsBranch reports whether the page is a branch page.
func (r *Raw) IsBranch(page int) bool { return r.Bytes[page+8] == 1 }

// LeafPages returns the offsets of the leaf pages of a bucket, in order.
func (r *Raw) LeafPages(bucket string) ([]int, error) {
	root, err := r.BucketRoot(bucket)
	if err != nil {
		return nil, err
	}
	var out []int
	var walk func(page int)
	walk = func(page int) {
		if !r.IsBranch(page) {
			out = append(out, page)
			return
		}
		for i := range r.Count(page) {
			walk(r.Child(page, i))
		}
	}
	walk(root)
	return out, nil
}

// PageLen is the length of a page with its overflow.
func (r *Raw) PageLen(page int) int { return (r.u32(page+12) + 1) * r.PageSize() }

// FillPage puts other content into a page; with header its header too.
func (r *Raw) FillPage(page int, fill func(b []byte), header bool) {
	b := r.Bytes[page : page+r.PageLen(page)]
	if !header {
		b = b[pageHeader:]
	}
	fill(b)
}

// CopyPage copies the content of one page over another, which keeps its number.
func (r *Raw) CopyPage(from, to int) {
	size := r.PageSize()
	id := bytes.Clone(r.Bytes[to : to+8])
	copy(r.Bytes[to:to+size], r.Bytes[from:from+size])
	copy(r.Bytes[to:], id)
}

// Span is where a value lies in the file.
type Span struct{ Off, Len int }

// Entries returns where the values of a bucket lie, by key.
func (r *Raw) Entries(bucket string) (map[string]Span, error) {
	pages, err := r.LeafPages(bucket)
	if err != nil {
		return nil, err
	}
	out := map[string]Span{}
	for _, page := range pages {
		for i := range r.Count(page) {
			at := page + pageHeader + i*elemSize
			pos, ksize, vsize := r.u32(at+4), r.u32(at+8), r.u32(at+12)
			out[string(r.Bytes[at+pos:][:ksize])] = Span{at + pos + ksize, vsize}
		}
	}
	return out, nil
}

func (r *Raw) u32(off int) int { return int(binary.LittleEndian.Uint32(r.Bytes[off:])) }
