package chain_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// memory is a Source over leaf hashes.
type memory []chain.Hash

func (m memory) Subtree(level int, index uint64) (chain.Hash, error) {
	begin, end := index<<level, (index+1)<<level
	if end > uint64(len(m)) {
		return chain.Hash{}, errors.New("subtree outside the tree")
	}
	var tree chain.Tree
	for _, leaf := range m[begin:end] {
		tree.Append(leaf)
	}
	return tree.Root(), nil
}

func log(n int) memory {
	m := make(memory, n)
	for i := range m {
		m[i] = chain.Leaf([]byte{byte(i), byte(i >> 8)})
	}
	return m
}

func root(t testing.TB, src chain.Source, size uint64) chain.Hash {
	t.Helper()
	h, err := chain.Root(src, size)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestInclusionVectors(t *testing.T) {
	leaves, roots := vectors(t)
	for _, tc := range []struct {
		index, size uint64
		proof       []string
	}{
		{0, 1, nil},
		{0, 8, []string{
			"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
		}},
		{5, 8, []string{
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		}},
		{2, 3, []string{"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"}},
		{1, 5, []string{
			"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
		}},
	} {
		got, err := chain.Inclusion(memory(leaves), tc.index, tc.size)
		if err != nil || !slices.Equal(texts(got), tc.proof) {
			t.Errorf("Inclusion(%d, %d) = %v, %v", tc.index, tc.size, texts(got), err)
		}
		if err := chain.VerifyInclusion(tc.index, tc.size, leaves[tc.index], roots[tc.size], got); err != nil {
			t.Error(err)
		}
	}
}

func TestConsistencyVectors(t *testing.T) {
	leaves, roots := vectors(t)
	for _, tc := range []struct {
		m, n  uint64
		proof []string
	}{
		{1, 1, nil},
		{1, 8, []string{
			"96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
		}},
		{6, 8, []string{
			"0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
			"ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
			"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		}},
		{2, 5, []string{
			"5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
			"bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
		}},
	} {
		got, err := chain.Consistency(memory(leaves), tc.m, tc.n)
		if err != nil || !slices.Equal(texts(got), tc.proof) {
			t.Errorf("Consistency(%d, %d) = %v, %v", tc.m, tc.n, texts(got), err)
		}
		if err := chain.VerifyConsistency(tc.m, tc.n, roots[tc.m], roots[tc.n], got); err != nil {
			t.Error(err)
		}
	}
}

func texts(proof []chain.Hash) (out []string) {
	for _, h := range proof {
		out = append(out, h.String())
	}
	return out
}

// Every proof of every small tree verifies, and nothing near it does.
func TestProofsExhaustively(t *testing.T) {
	const size = 40
	src := log(size)
	roots := make([]chain.Hash, size+1)
	for n := range roots {
		roots[n] = root(t, src, uint64(n))
	}
	for n := uint64(1); n <= size; n++ {
		for i := range n {
			proof, err := chain.Inclusion(src, i, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.VerifyInclusion(i, n, src[i], roots[n], proof); err != nil {
				t.Fatal(err)
			}
			refuse(t, proof, func(proof []chain.Hash) error {
				return chain.VerifyInclusion(i, n, src[i], roots[n], proof)
			})
			if n > 1 && chain.VerifyInclusion((i+1)%n, n, src[i], roots[n], proof) == nil {
				t.Fatalf("inclusion of %d in %d: passes for another index", i, n)
			}
		}
		for m := range n + 1 {
			proof, err := chain.Consistency(src, m, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.VerifyConsistency(m, n, roots[m], roots[n], proof); err != nil {
				t.Fatal(err)
			}
			refuse(t, proof, func(proof []chain.Hash) error {
				return chain.VerifyConsistency(m, n, roots[m], roots[n], proof)
			})
			if chain.VerifyConsistency(m, n, chain.Hash{}, roots[n], proof) == nil {
				t.Fatalf("consistency of %d with %d: passes with another first root", m, n)
			}
		}
	}
}

// refuse tries every proof at distance one.
func refuse(t *testing.T, proof []chain.Hash, verify func([]chain.Hash) error) {
	t.Helper()
	for i := range proof {
		bad := slices.Clone(proof)
		bad[i][7] ^= 1
		if verify(bad) == nil || verify(slices.Delete(slices.Clone(proof), i, i+1)) == nil {
			t.Fatalf("proof with hash %d changed or removed verifies", i)
		}
	}
	if verify(append(slices.Clone(proof), chain.Hash{})) == nil {
		t.Fatal("proof with one hash more verifies")
	}
}

func TestProofRanges(t *testing.T) {
	src := log(4)
	for _, err := range []error{
		second(chain.Inclusion(src, 4, 4)), second(chain.Inclusion(src, 0, 0)), second(chain.Inclusion(src, 0, 1<<63)),
		second(chain.Consistency(src, 4, 3)), second(chain.Consistency(src, 1, 1<<63)),
		chain.VerifyInclusion(0, 0, chain.Hash{}, chain.Hash{}, nil), chain.VerifyConsistency(2, 1, chain.Hash{}, chain.Hash{}, nil),
	} {
		if !errors.Is(err, chain.ErrRange) {
			t.Errorf("%v, want ErrRange", err)
		}
	}
	if _, err := chain.Inclusion(src, 0, 5); err == nil {
		t.Error("a source that cannot answer gives a proof")
	}
	if _, err := chain.Consistency(src, 3, 5); err == nil {
		t.Error("a source that cannot answer gives a proof")
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzVerifyInclusion(f *testing.F) {
	f.Add(uint64(3), uint64(7), []byte{1, 2, 3})
	f.Add(uint64(0), uint64(1), []byte{})
	f.Add(uint64(1)<<63, ^uint64(0), make([]byte, 70*chain.HashSize))
	src := log(100)
	f.Fuzz(func(t *testing.T, index, size uint64, raw []byte) {
		proof := hashes(raw)
		if chain.VerifyInclusion(index, size, chain.Hash{1}, chain.Hash{2}, proof) == nil {
			t.Fatal("a made-up proof verifies")
		}
		if n := size%100 + 1; index < n {
			want, err := chain.Inclusion(src, index, n)
			if err != nil {
				t.Fatal(err)
			}
			err = chain.VerifyInclusion(index, n, src[index], root(t, src, n), proof)
			if (err == nil) != slices.Equal(proof, want) {
				t.Fatalf("VerifyInclusion = %v with proof %v, want %v", err, texts(proof), texts(want))
			}
		}
	})
}

func FuzzVerifyConsistency(f *testing.F) {
	f.Add(uint64(3), uint64(7), []byte{1, 2, 3})
	f.Add(uint64(0), uint64(1), []byte{})
	f.Add(uint64(1)<<63, ^uint64(0), make([]byte, 70*chain.HashSize))
	src := log(100)
	f.Fuzz(func(t *testing.T, m, n uint64, raw []byte) {
		proof := hashes(raw)
		if m > 0 && m < n && chain.VerifyConsistency(m, n, chain.Hash{1}, chain.Hash{2}, proof) == nil {
			t.Fatal("a made-up proof verifies")
		}
		if n := n%100 + 1; m <= n {
			want, err := chain.Consistency(src, m, n)
			if err != nil {
				t.Fatal(err)
			}
			err = chain.VerifyConsistency(m, n, root(t, src, m), root(t, src, n), proof)
			if (err == nil) != slices.Equal(proof, want) {
				t.Fatalf("VerifyConsistency = %v with proof %v, want %v", err, texts(proof), texts(want))
			}
		}
	})
}

func hashes(raw []byte) (proof []chain.Hash) {
	for len(raw) >= chain.HashSize {
		proof = append(proof, chain.Hash(raw[:chain.HashSize]))
		raw = raw[chain.HashSize:]
	}
	return proof
}
