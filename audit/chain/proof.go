package chain

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
)

var (
	// ErrProof is returned when a proof does not prove what it is said to.
	ErrProof = errors.New("proof does not verify")
	// ErrRange is returned when an index or a size is outside the tree.
	ErrRange = errors.New("outside the tree")
)

// Source gives the hashes from which proofs are built.
type Source interface {
	// Subtree returns the root of the perfect subtree with the leaves
	// [index*2^level, (index+1)*2^level); level 0 is a leaf hash. It is called
	// only for subtrees that lie wholly inside the tree asked about.
	Subtree(level int, index uint64) (Hash, error)
}

// Root returns the root of the tree over the first size leaves.
func Root(src Source, size uint64) (Hash, error) {
	if size == 0 {
		return sha256.Sum256(nil), nil
	}
	return rangeRoot(src, 0, size)
}

// Inclusion returns the proof that the leaf at index is part of the tree of the
// given size (RFC 9162, section 2.1.3.1), from the leaf upwards.
func Inclusion(src Source, index, size uint64) ([]Hash, error) {
	if index >= size || size >= 1<<(maxLevels-1) {
		return nil, fmt.Errorf("inclusion of %d in %d: %w", index, size, ErrRange)
	}
	proof, err := path(src, index, 0, size)
	if err != nil {
		return nil, fmt.Errorf("inclusion of %d in %d: %w", index, size, err)
	}
	return proof, nil
}

// Consistency returns the proof that the tree of size m is a prefix of the tree
// of size n (RFC 9162, section 2.1.4.1). It is empty when m is 0 or equals n.
func Consistency(src Source, m, n uint64) ([]Hash, error) {
	if m > n || n >= 1<<(maxLevels-1) {
		return nil, fmt.Errorf("consistency of %d with %d: %w", m, n, ErrRange)
	}
	if m == 0 || m == n {
		return nil, nil
	}
	proof, err := subproof(src, m, 0, n, true)
	if err != nil {
		return nil, fmt.Errorf("consistency of %d with %d: %w", m, n, err)
	}
	return proof, nil
}

// VerifyInclusion checks that the leaf hash is at index in the tree of that size
// and root (RFC 9162, section 2.1.3.2).
func VerifyInclusion(index, size uint64, leaf, root Hash, proof []Hash) error {
	if index >= size {
		return fmt.Errorf("inclusion of %d in %d: %w", index, size, ErrRange)
	}
	fn, sn, h := index, size-1, leaf
	for _, p := range proof {
		if sn == 0 {
			return fmt.Errorf("inclusion of %d in %d: proof too long: %w", index, size, ErrProof)
		}
		if fn&1 == 1 || fn == sn {
			h = Node(p, h)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = Node(h, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return fmt.Errorf("inclusion of %d in %d: proof too short: %w", index, size, ErrProof)
	}
	if h != root {
		return fmt.Errorf("inclusion of %d in %d: other root: %w", index, size, ErrProof)
	}
	return nil
}

// VerifyConsistency checks that the tree of size m and root first is a prefix of
// the tree of size n and root second (RFC 9162, section 2.1.4.2). The empty tree
// is a prefix of every tree; its root is checked too.
func VerifyConsistency(m, n uint64, first, second Hash, proof []Hash) error {
	fail := func(why string) error {
		return fmt.Errorf("consistency of %d with %d: %s: %w", m, n, why, ErrProof)
	}
	switch {
	case m > n:
		return fmt.Errorf("consistency of %d with %d: %w", m, n, ErrRange)
	case m == 0 || m == n:
		switch {
		case len(proof) != 0:
			return fail("proof too long")
		case m == 0 && first != sha256.Sum256(nil):
			return fail("not the root of the empty tree")
		case m == n && first != second:
			return fail("two roots of one size")
		}
		return nil
	case len(proof) == 0:
		return fail("proof too short")
	}
	fn, sn := m-1, n-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr := first
	if m&(m-1) != 0 { // m is no power of two: the proof starts with its own node
		fr, proof = proof[0], proof[1:]
	}
	sr := fr
	for _, p := range proof {
		if sn == 0 {
			return fail("proof too long")
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = Node(p, fr), Node(p, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = Node(sr, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	switch {
	case sn != 0:
		return fail("proof too short")
	case fr != first:
		return fail("other first root")
	case sr != second:
		return fail("other second root")
	}
	return nil
}

// split returns the largest power of two below n; n is at least 2.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// rangeRoot returns MTH of the leaves [begin, begin+n), n at least 1. In every
// call begin is a multiple of the power of two that n rounds up to.
func rangeRoot(src Source, begin, n uint64) (Hash, error) {
	if n&(n-1) == 0 {
		level := bits.TrailingZeros64(n)
		return src.Subtree(level, begin>>level)
	}
	k := split(n)
	l, err := rangeRoot(src, begin, k)
	if err != nil {
		return Hash{}, err
	}
	r, err := rangeRoot(src, begin+k, n-k)
	if err != nil {
		return Hash{}, err
	}
	return Node(l, r), nil
}

// path is PATH(m, D[n]) of the RFC for the leaves [begin, begin+n).
func path(src Source, m, begin, n uint64) ([]Hash, error) {
	if n == 1 {
		return nil, nil
	}
	k := split(n)
	inner, outer := func() ([]Hash, error) { return path(src, m, begin, k) }, func() (Hash, error) { return rangeRoot(src, begin+k, n-k) }
	if m >= k {
		inner, outer = func() ([]Hash, error) { return path(src, m-k, begin+k, n-k) }, func() (Hash, error) { return rangeRoot(src, begin, k) }
	}
	return extend(inner, outer)
}

// subproof is SUBPROOF(m, D[n], known) of the RFC for the leaves [begin, begin+n).
func subproof(src Source, m, begin, n uint64, known bool) ([]Hash, error) {
	if m == n {
		if known {
			return nil, nil
		}
		h, err := rangeRoot(src, begin, n)
		if err != nil {
			return nil, err
		}
		return []Hash{h}, nil
	}
	k := split(n)
	if m <= k {
		return extend(
			func() ([]Hash, error) { return subproof(src, m, begin, k, known) },
			func() (Hash, error) { return rangeRoot(src, begin+k, n-k) })
	}
	return extend(
		func() ([]Hash, error) { return subproof(src, m-k, begin+k, n-k, false) },
		func() (Hash, error) { return rangeRoot(src, begin, k) })
}

func extend(inner func() ([]Hash, error), outer func() (Hash, error)) ([]Hash, error) {
	proof, err := inner()
	if err != nil {
		return nil, err
	}
	h, err := outer()
	if err != nil {
		return nil, err
	}
	return append(proof, h), nil
}
