package chain_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/verdict-pdp/verdict/audit/chain"
)

func TestHashes(t *testing.T) {
	leaf := chain.Leaf([]byte("record"))
	if want := sha256.Sum256([]byte("\x00record")); leaf != want {
		t.Errorf("Leaf = %s, want %x", leaf, want)
	}
	genesis := chain.Genesis("example.org/log")
	if want := sha256.Sum256([]byte("\x02verdict-audit-v1\nexample.org/log")); genesis != want {
		t.Errorf("Genesis = %s, want %x", genesis, want)
	}
	both := append(append([]byte{}, genesis[:]...), leaf[:]...)
	if want := sha256.Sum256(append([]byte{2}, both...)); chain.Next(genesis, leaf) != want {
		t.Errorf("Next = %s, want %x", chain.Next(genesis, leaf), want)
	}
	if want := sha256.Sum256(append([]byte{1}, both...)); chain.Node(genesis, leaf) != want {
		t.Errorf("Node = %s, want %x", chain.Node(genesis, leaf), want)
	}
}

// The head of the chain must never be usable as a node or a root of the tree.
func TestDomainsAreSeparate(t *testing.T) {
	var l, r chain.Hash
	r[0] = 1
	if chain.Next(l, r) == chain.Node(l, r) {
		t.Error("a chain head equals a tree node")
	}
	if chain.Genesis("a") == chain.Genesis("b") {
		t.Error("two origins share a genesis")
	}
	concat := append(append([]byte{}, l[:]...), r[:]...)
	if chain.Leaf(concat) == chain.Node(l, r) {
		t.Error("a leaf equals a tree node")
	}
}

func TestHashText(t *testing.T) {
	h := chain.Leaf([]byte("x"))
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"` + h.String() + `"`; string(text) != want {
		t.Errorf("JSON %s, want %s", text, want)
	}
	var back chain.Hash
	if err := json.Unmarshal(text, &back); err != nil || back != h {
		t.Errorf("round trip: %s, %v", back, err)
	}
	for _, bad := range []string{"", "00", hex.EncodeToString(make([]byte, 33)), string(bytes.Repeat([]byte("z"), 64))} {
		was := back
		if err := back.UnmarshalText([]byte(bad)); err == nil || back != was {
			t.Errorf("UnmarshalText(%q) = %v and %s", bad, err, back)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	rec := bytes.Repeat([]byte("r"), 700)
	var tree chain.Tree
	head := chain.Genesis("o")
	if n := testing.AllocsPerRun(100, func() {
		leaf := chain.Leaf(rec)
		head = chain.Next(head, leaf)
		tree.Append(leaf)
	}); n != 0 {
		t.Errorf("%v allocations for a record, want none", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	rec := bytes.Repeat([]byte("r"), 700)
	var tree chain.Tree
	head := chain.Genesis("o")
	b.ReportAllocs()
	for b.Loop() {
		leaf := chain.Leaf(rec)
		head = chain.Next(head, leaf)
		tree.Append(leaf)
	}
}
