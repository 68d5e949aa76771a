// Package chain computes the hashes that tie the records of the audit log
// together: a hash chain over the records and, in step with it, the Merkle tree
// of RFC 6962 (RFC 9162, section 2.1) over the same leaves, with its proofs.
//
//	leaf_n = SHA-256(0x00 || record_n)
//	head_0 = SHA-256(0x02 || "verdict-audit-v1" || 0x0A || origin)
//	head_n = SHA-256(0x02 || head_{n-1} || leaf_n)
//	node   = SHA-256(0x01 || left || right)
//
// The three prefixes keep the three kinds of hash apart: no record can be
// presented as a node of the tree and no chain head as its root. Everything here
// is a pure function of its arguments; nothing reads or writes a file.
package chain

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

const (
	// HashSize is the length of every hash, in bytes.
	HashSize = sha256.Size

	// TileLevel is the tree level of a tile: TileSize leaves, one level-1 tile of
	// C2SP tlog-tiles.
	TileLevel = 8
	// TileSize is the number of records under one tile hash.
	TileSize = 1 << TileLevel

	// SegmentLevel is the tree level of a segment.
	SegmentLevel = 16
	// SegmentSize is the number of records in a segment; segments are aligned, so
	// that each is one perfect subtree.
	SegmentSize = 1 << SegmentLevel

	prefixLeaf  = 0x00
	prefixNode  = 0x01
	prefixChain = 0x02

	genesisLabel = "verdict-audit-v1\n"
)

// Hash is a SHA-256 hash.
type Hash [HashSize]byte

// String returns the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the hash in lower-case hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error {
	var out Hash
	if len(b) != 2*HashSize {
		return fmt.Errorf("hash of %d characters, want %d", len(b), 2*HashSize)
	}
	if _, err := hex.Decode(out[:], b); err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	*h = out
	return nil
}

// Genesis returns the head of the chain of an empty log. The origin names the
// log, so that no two logs share a prefix.
func Genesis(origin string) Hash {
	b := make([]byte, 0, 1+len(genesisLabel)+len(origin))
	b = append(b, prefixChain)
	b = append(b, genesisLabel...)
	b = append(b, origin...)
	return sha256.Sum256(b)
}

// Leaf returns the leaf hash of a record's bytes.
func Leaf(rec []byte) Hash {
	h := sha256.New()
	prefix := [1]byte{prefixLeaf}
	h.Write(prefix[:])
	h.Write(rec)
	var out Hash
	h.Sum(out[:0])
	return out
}

// Next returns the head of the chain after the leaf.
func Next(head, leaf Hash) Hash { return pair(prefixChain, head, leaf) }

// Node returns the hash of an interior node of the tree.
func Node(l, r Hash) Hash { return pair(prefixNode, l, r) }

func pair(prefix byte, a, b Hash) Hash {
	var buf [1 + 2*HashSize]byte
	buf[0] = prefix
	copy(buf[1:], a[:])
	copy(buf[1+HashSize:], b[:])
	return sha256.Sum256(buf[:])
}
