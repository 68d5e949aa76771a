package segmentread

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
)

const (
	// maxDepth bounds the height of a tree; a branch has at least two children
	// in every file that bbolt writes.
	maxDepth = 40
	// maxKey is bbolt's bound of a key.
	maxKey = 1 << 15
	// maxValue bounds one value, a blob at most.
	maxValue = 128 << 20
	// ctxEvery is the number of pages between two looks at the context.
	ctxEvery = 256
)

// page is one page with its overflow, in memory or, when it is larger than
// maxWindow, read piece by piece.
type page struct {
	db    *file
	id    uint64
	off   int64 // in the file, for messages too
	size  int64
	flags uint16
	count uint16
	mem   []byte
	piece []byte // buffer of the last piece
}

// page reads page id, which must have one of the flags, and adds it with its
// overflow to seen.
func (db *file) page(id uint64, flags uint16, seen bitmap) (*page, error) {
	off := int64(id) * db.meta.pageSize
	if id < 2 || id >= db.meta.pages {
		return nil, db.damaged(off, "page %d is referred to and out of range", id)
	}
	if off+db.meta.pageSize > db.size {
		return nil, db.truncated(db.size, "page %d lies behind the end of the file", id)
	}
	b, err := db.at(off, pageHeader)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	p := &page{db: db, id: id, off: off, flags: le.Uint16(b[8:]), count: le.Uint16(b[10:])}
	overflow := uint64(le.Uint32(b[12:]))
	switch {
	case le.Uint64(b) != id:
		return nil, db.damaged(off, "page %d says that it is page %d", id, le.Uint64(b))
	case p.flags&flags == 0 || p.flags&(p.flags-1) != 0:
		return nil, db.damaged(off, "page %d has the flags %#x", id, p.flags)
	case id+overflow >= db.meta.pages:
		return nil, db.damaged(off, "page %d has %d more pages, which is out of range", id, overflow)
	}
	p.size = int64(overflow+1) * db.meta.pageSize
	if off+p.size > db.size {
		return nil, db.truncated(db.size, "page %d reaches behind the end of the file", id)
	}
	for i := id; seen != nil && i <= id+overflow; i++ {
		if !seen.set(i) || db.free.has(i) {
			return nil, db.damaged(off, "page %d is in use twice, or free", i)
		}
	}
	if p.size <= maxWindow {
		p.mem, err = db.at(off, int(p.size))
	}
	return p, err
}

// bytes returns n bytes of the page, valid until the next call or read.
func (p *page) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > p.size || n > p.size-off || n > maxValue {
		return nil, p.db.damaged(p.off, "page %d: an element reaches out of the page, or is too large", p.id)
	}
	if p.mem != nil {
		return p.mem[off : off+n : off+n], nil
	}
	p.piece = slices.Grow(p.piece[:0], int(n))[:n]
	return p.piece, p.db.read(p.piece, p.off+off)
}

// child is one element of a branch page.
type child struct {
	key []byte
	id  uint64
}

func (p *page) children() ([]child, error) {
	out := make([]child, 0, p.count)
	for i := range int64(p.count) {
		at := pageHeader + i*elemSize
		e, err := p.bytes(at, elemSize)
		if err != nil {
			return nil, err
		}
		pos, ksize := int64(binary.LittleEndian.Uint32(e)), int64(binary.LittleEndian.Uint32(e[4:]))
		c := child{id: binary.LittleEndian.Uint64(e[8:])}
		if ksize == 0 || ksize > maxKey {
			return nil, p.db.damaged(p.off, "page %d: key of %d bytes", p.id, ksize)
		}
		key, err := p.bytes(at+pos, ksize)
		if err != nil {
			return nil, err
		}
		c.key = slices.Clone(key)
		if i > 0 && bytes.Compare(c.key, out[i-1].key) <= 0 {
			return nil, p.db.damaged(p.off, "page %d: keys out of order", p.id)
		}
		out = append(out, c)
	}
	return out, nil
}

// walker visits one bucket. It goes no deeper than maxDepth and to no page twice.
type walker struct {
	file    *file
	ctx     context.Context // of this one walk
	seen    bitmap
	buckets bool // the entries are buckets
	fn      func(key, value []byte) error

	pages  int
	lower  []byte // smallest key that may come, from the branch above
	upper  []byte // first key that may not come; nil: none
	last   []byte // the key before
	keyBuf []byte
}

func (db *file) walk(ctx context.Context, name string, fn func(key, value []byte) error) error {
	b, ok := db.buckets[name]
	if !ok {
		return nil
	}
	w := walker{file: db, ctx: ctx, seen: newBitmap(db.limit()), fn: fn}
	if b.inline == nil {
		return w.page(b.root, 0)
	}
	p := &page{db: db, off: int64(db.meta.root) * db.meta.pageSize, size: int64(len(b.inline)), mem: b.inline}
	if len(b.inline) < pageHeader {
		return db.damaged(p.off, "inline bucket %q of %d bytes", name, len(b.inline))
	}
	p.flags, p.count = binary.LittleEndian.Uint16(b.inline[8:]), binary.LittleEndian.Uint16(b.inline[10:])
	if p.flags != flagLeaf {
		return db.damaged(p.off, "inline bucket %q is not a leaf", name)
	}
	return w.leaf(p)
}

func (w *walker) page(id uint64, depth int) error {
	if w.pages++; w.pages%ctxEvery == 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
	}
	p, err := w.file.page(id, flagBranch|flagLeaf, w.seen)
	if err != nil {
		return err
	}
	if p.flags == flagLeaf {
		if p.count == 0 && depth > 0 {
			return w.file.damaged(p.off, "page %d is empty", id)
		}
		return w.leaf(p)
	}
	if depth == maxDepth || p.count == 0 {
		return w.file.damaged(p.off, "page %d: the tree is too deep, or the branch empty", id)
	}
	children, err := p.children()
	if err != nil {
		return err
	}
	upper := w.upper
	for i, c := range children {
		w.lower, w.upper = c.key, upper
		if i+1 < len(children) {
			w.upper = children[i+1].key
		}
		if w.upper != nil && bytes.Compare(c.key, w.upper) >= 0 {
			return w.file.damaged(p.off, "page %d: a key is larger than the page above says", id)
		}
		if err := w.page(c.id, depth+1); err != nil {
			return err
		}
	}
	w.upper = upper
	return nil
}

func (w *walker) leaf(p *page) error {
	var want uint32
	if w.buckets {
		want = flagBucket
	}
	for i := range int64(p.count) {
		at := pageHeader + i*elemSize
		e, err := p.bytes(at, elemSize)
		if err != nil {
			return err
		}
		le := binary.LittleEndian
		flags, pos, ksize, vsize := le.Uint32(e), int64(le.Uint32(e[4:])), int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
		if flags != want || ksize == 0 || ksize > maxKey {
			return p.db.damaged(p.off, "page %d: element %d has the flags %#x and a key of %d bytes", p.id, i, flags, ksize)
		}
		key, err := p.bytes(at+pos, ksize)
		if err != nil {
			return err
		}
		if p.mem == nil { // the value will take the buffer
			w.keyBuf = append(w.keyBuf[:0], key...)
			key = w.keyBuf
		}
		if err := w.order(p, key); err != nil {
			return err
		}
		value, err := p.bytes(at+pos+ksize, vsize)
		if err != nil {
			return err
		}
		if err := w.fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// order checks a key against the one before and against the branches above.
func (w *walker) order(p *page, key []byte) error {
	if (w.last != nil && bytes.Compare(key, w.last) <= 0) ||
		(w.lower != nil && bytes.Compare(key, w.lower) < 0) ||
		(w.upper != nil && bytes.Compare(key, w.upper) >= 0) {
		return p.db.damaged(p.off, "page %d: keys out of order", p.id)
	}
	w.last = append(w.last[:0], key...)
	return nil
}
