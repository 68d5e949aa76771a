package chain_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// leaves are the eight entries of the Certificate Transparency test vectors,
// roots the roots of the trees over the first 0 to 8 of them.
func vectors(t testing.TB) (leaves []chain.Hash, roots []chain.Hash) {
	for _, data := range []string{
		"", "\x00", "\x10", "\x20\x21", "\x30\x31", "\x40\x41\x42\x43",
		"\x50\x51\x52\x53\x54\x55\x56\x57", "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
	} {
		leaves = append(leaves, chain.Leaf([]byte(data)))
	}
	for _, text := range []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	} {
		roots = append(roots, hash(t, text))
	}
	return leaves, roots
}

func hash(t testing.TB, text string) (h chain.Hash) {
	t.Helper()
	if err := h.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTreeVectors(t *testing.T) {
	leaves, roots := vectors(t)
	var tree chain.Tree
	for n := 0; ; n++ {
		if tree.Size() != uint64(n) || tree.Root() != roots[n] {
			t.Errorf("size %d: size %d, root %s, want %s", n, tree.Size(), tree.Root(), roots[n])
		}
		if n == len(leaves) {
			break
		}
		tree.Append(leaves[n])
	}
}

func TestTreeRoundTrip(t *testing.T) {
	var tree chain.Tree
	for n := range 600 {
		b, _ := tree.MarshalBinary()
		var back chain.Tree
		if err := back.UnmarshalBinary(b); err != nil {
			t.Fatalf("size %d: %v", n, err)
		}
		if back.Size() != tree.Size() || back.Root() != tree.Root() {
			t.Fatalf("size %d: came back as size %d", n, back.Size())
		}
		leaf := chain.Leaf([]byte{byte(n), byte(n >> 8)})
		tree.Append(leaf)
		back.Append(leaf)
		if back.Root() != tree.Root() {
			t.Fatalf("size %d: roots differ after an append to the copy", n)
		}
	}
}

func TestTreeLastSubtree(t *testing.T) {
	var tree, tile chain.Tree
	for n := range 4 * chain.TileSize {
		leaf := chain.Leaf([]byte{byte(n), byte(n >> 8)})
		tree.Append(leaf)
		tile.Append(leaf)
		root, ok := tree.Last(chain.TileLevel)
		if complete := (n+1)%chain.TileSize == 0; ok != complete {
			t.Fatalf("after %d: Last says %v", n+1, ok)
		} else if complete {
			if root != tile.Root() {
				t.Fatalf("after %d: tile %s, want %s", n+1, root, tile.Root())
			}
			tile = chain.Tree{}
		}
	}
	b, _ := tree.MarshalBinary()
	var back chain.Tree
	if err := back.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if _, ok := back.Last(chain.TileLevel); ok {
		t.Error("a tree read back claims to know a merged subtree")
	}
}

func TestTreeAppendSubtree(t *testing.T) {
	var tree, byTile, tile chain.Tree
	for n := range 5*chain.TileSize + 3 {
		leaf := chain.Leaf([]byte{byte(n), byte(n >> 8)})
		tree.Append(leaf)
		tile.Append(leaf)
		if tile.Size() == chain.TileSize {
			if err := byTile.AppendSubtree(chain.TileLevel, tile.Root()); err != nil {
				t.Fatal(err)
			}
			tile = chain.Tree{}
			if byTile.Root() != tree.Root() {
				t.Fatalf("size %d: roots differ", tree.Size())
			}
		}
	}
	for _, level := range []int{-1, 1, chain.TileLevel, 62, 63, 64} {
		was := tree
		if err := tree.AppendSubtree(level, chain.Hash{}); !errors.Is(err, chain.ErrAlignment) || tree != was {
			t.Errorf("AppendSubtree(%d) at size %d = %v", level, was.Size(), err)
		}
	}
}

func FuzzTreeUnmarshalBinary(f *testing.F) {
	leaves, _ := vectors(f)
	var tree chain.Tree
	for _, leaf := range leaves {
		b, _ := tree.MarshalBinary()
		f.Add(b)
		tree.Append(leaf)
	}
	f.Add([]byte{})
	f.Add(binary.BigEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tree chain.Tree
		if err := tree.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, chain.ErrTree) || tree != (chain.Tree{}) {
				t.Fatalf("error %v with a tree of size %d", err, tree.Size())
			}
			return
		}
		if back, _ := tree.MarshalBinary(); !bytes.Equal(back, b) {
			t.Fatalf("%x came back as %x", b, back)
		}
		tree.Root()
		tree.Append(chain.Hash{})
	})
}
