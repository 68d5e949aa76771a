package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// maxLevels bounds the tree: sizes stay below 2^63.
const maxLevels = 63

// ErrTree is returned when the bytes of a tree are not those of MarshalBinary.
var ErrTree = errors.New("malformed tree")

// ErrAlignment is returned when a subtree is appended where it cannot stand.
var ErrAlignment = errors.New("subtree does not fit here")

// Tree is the compact range of a log: its size and the roots of the perfect
// subtrees that cover it, enough to append and to compute the root. The zero
// value is the empty tree. A Tree is a value: a copy is a snapshot.
type Tree struct {
	size uint64
	// last holds, by level, the root of the most recent complete subtree of that
	// level. Only those whose bit is set in size are part of the range.
	last [maxLevels]Hash
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Append adds a leaf hash.
func (t *Tree) Append(leaf Hash) {
	h, level := leaf, 0
	for ; t.size>>level&1 == 1; level++ {
		left := t.last[level]
		t.last[level] = h
		h = Node(left, h)
	}
	t.last[level] = h
	t.size++
}

// AppendSubtree adds a perfect subtree of 2^level leaves by its root. The size
// must be a multiple of 2^level.
func (t *Tree) AppendSubtree(level int, root Hash) error {
	if level < 0 || level >= maxLevels-1 || t.size&(1<<level-1) != 0 || t.size>>(maxLevels-2) != 0 {
		return fmt.Errorf("append subtree of level %d at size %d: %w", level, t.size, ErrAlignment)
	}
	clear(t.last[:level])
	h, l := root, level
	for ; t.size>>l&1 == 1; l++ {
		left := t.last[l]
		t.last[l] = h
		h = Node(left, h)
	}
	t.last[l] = h
	t.size += 1 << level
	return nil
}

// Last returns the root of the subtree of 2^level leaves that ends at the size.
// It is known, and ok is true, when it is part of the range or when this Tree saw
// it completed; a tree read by UnmarshalBinary no longer knows what was merged.
func (t *Tree) Last(level int) (root Hash, ok bool) {
	if level < 0 || level >= maxLevels || t.size == 0 || t.size&(1<<level-1) != 0 {
		return Hash{}, false
	}
	return t.last[level], t.last[level] != Hash{}
}

// Root returns the root of the tree; that of the empty tree is SHA-256 of
// nothing (RFC 9162, section 2.1.1).
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	level := bits.TrailingZeros64(t.size)
	root := t.last[level]
	for level++; t.size>>level != 0; level++ {
		if t.size>>level&1 == 1 {
			root = Node(t.last[level], root)
		}
	}
	return root
}

// MarshalBinary returns the size (8 bytes, big endian) and the roots of the
// perfect subtrees, largest first. The error is always nil.
func (t *Tree) MarshalBinary() ([]byte, error) {
	return t.AppendBinary(make([]byte, 0, 8+HashSize*bits.OnesCount64(t.size)))
}

// AppendBinary appends what MarshalBinary returns. The error is always nil.
func (t *Tree) AppendBinary(dst []byte) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, t.size)
	for level := bits.Len64(t.size) - 1; level >= 0; level-- {
		if t.size>>level&1 == 1 {
			dst = append(dst, t.last[level][:]...)
		}
	}
	return dst, nil
}

// UnmarshalBinary reads what MarshalBinary wrote. On an error the tree is left
// as it was.
func (t *Tree) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("tree of %d bytes: %w", len(b), ErrTree)
	}
	size := binary.BigEndian.Uint64(b)
	b = b[8:]
	if size >= 1<<(maxLevels-1) {
		return fmt.Errorf("tree of size %d: %w", size, ErrTree)
	}
	if want := HashSize * bits.OnesCount64(size); len(b) != want {
		return fmt.Errorf("tree of size %d with %d bytes of hashes, want %d: %w", size, len(b), want, ErrTree)
	}
	out := Tree{size: size}
	for level := bits.Len64(size) - 1; level >= 0; level-- {
		if size>>level&1 == 1 {
			copy(out.last[level][:], b)
			b = b[HashSize:]
		}
	}
	*t = out
	return nil
}
