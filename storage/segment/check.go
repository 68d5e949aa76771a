package segment

import (
	"bytes"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// recordKeys checks that the numbers of the records of a file have no gap.
type recordKeys struct {
	count       uint64
	first, last uint64
}

func (k *recordKeys) visit(bucket string, key, _ []byte) error {
	if bucket != bucketRecord {
		return nil
	}
	if len(key) != 8 {
		return damage("record key %x", key)
	}
	seq := binary.BigEndian.Uint64(key)
	if k.count == 0 {
		k.first = seq
	} else if seq != k.last+1 {
		return damage("record %d follows record %d", seq, k.last)
	}
	k.last = seq
	k.count++
	return nil
}

func (k *recordKeys) check(m meta) error {
	want := m.pos.Next - m.first
	if k.count != want || k.count > 0 && k.first != m.first {
		return damage("%d records from %d on, meta says %d from %d on", k.count, k.first, want, m.first)
	}
	return nil
}

// checkMeta checks the meta of file n against its place among the files.
func (s *Store) checkMeta(n uint64, m, before meta, last bool) error {
	full := (n + 1) * s.opts.RecordsPerFile
	switch {
	case m.first != n*s.opts.RecordsPerFile:
		return damage("starts with record %d, want %d", m.first, n*s.opts.RecordsPerFile)
	case m.pos.Next > full || m.sealed != (m.pos.Next == full):
		return damage("next is %d of %d, sealed %v", m.pos.Next, full, m.sealed)
	case !last && !m.sealed:
		return damage("not full, yet not the last file")
	case n == 0 && m.prev != chain.Genesis(m.pos.Origin):
		return damage("chain does not start from the origin %q", m.pos.Origin)
	case n > 0 && m.prev != before.pos.Head:
		return damage("chain does not continue that of the file before")
	case n > 0 && m.pos.Origin != before.pos.Origin:
		return damage("origin %q, that of the file before is %q", m.pos.Origin, before.pos.Origin)
	}
	return nil
}

// checkTail re-hashes the end of the file: the last complete block and what
// follows it must lead from the stored heads and roots to the head and the tree in
// meta. tree is the tree of all files before.
func (f *file) checkTail(m meta, tree chain.Tree) error {
	return f.view(func(tx *bolt.Tx) error {
		if m.pos.Next == m.first {
			if m.pos.Head != m.prev || m.pos.Tree.Root() != tree.Root() {
				return damage("empty, yet head and tree are not those of the file before")
			}
			return nil
		}
		if err := addComplete(tx, m, &tree); err != nil {
			return err
		}
		var last chain.Tree // of the last complete block alone
		var marks []byte    // of what follows it
		partial := m.pos.Next &^ (chain.TileSize - 1)
		from, head := m.first, m.prev
		if partial > m.first+chain.TileSize {
			from = partial - chain.TileSize
			before, err := getTile(tx, from/chain.TileSize-1)
			if err != nil {
				return err
			}
			head = before.Head
		}
		for seq := from; seq < m.pos.Next; seq++ {
			rec := tx.Bucket([]byte(bucketRecord)).Get(key(seq))
			number, at, _, err := audit.ParseHead(rec)
			if err != nil || number != seq {
				return damage("record %d: does not start with its number and time", seq)
			}
			leaf := chain.Leaf(rec)
			head = chain.Next(head, leaf)
			if seq < partial {
				last.Append(leaf)
			} else {
				tree.Append(leaf)
				marks = append(marks, leaf[:markSize]...)
			}
			if seq+1 == partial {
				tile, err := getTile(tx, seq/chain.TileSize)
				if err != nil {
					return err
				}
				if tile.Head != head || tile.Root != last.Root() {
					return damage("records %d to %d do not have the hashes stored for them", from, seq)
				}
			}
			if seq+1 == m.pos.Next && !at.Equal(m.pos.Time) {
				return damage("record %d: its time is not that in meta", seq)
			}
		}
		if !bytes.Equal(marks, m.marks) {
			return damage("records %d to %d do not have the marks stored for them", partial, m.pos.Next-1)
		}
		if head != m.pos.Head || tree.Root() != m.pos.Tree.Root() {
			return damage("records %d to %d do not lead to the stored head", partial, m.pos.Next-1)
		}
		return nil
	})
}

// addComplete appends the file's complete segments and then blocks to the tree.
func addComplete(tx *bolt.Tx, m meta, tree *chain.Tree) error {
	for tree.Size()+chain.TileSize <= m.pos.Next {
		level, size := chain.TileLevel, uint64(chain.TileSize)
		if tree.Size()%chain.SegmentSize == 0 && tree.Size()+chain.SegmentSize <= m.pos.Next {
			level, size = chain.SegmentLevel, chain.SegmentSize
		}
		var root chain.Hash
		if level == chain.SegmentLevel {
			row, err := getSegment(tx, tree.Size()/size)
			if err != nil {
				return err
			}
			root = row.Root
		} else {
			row, err := getTile(tx, tree.Size()/size)
			if err != nil {
				return err
			}
			root = row.Root
		}
		if err := tree.AppendSubtree(level, root); err != nil {
			return err
		}
	}
	return nil
}

// loadSpans reads the segment table of a file.
func (s *Store) loadSpans(f *file, m meta) error {
	return f.view(func(tx *bolt.Tx) error {
		for n := uint64(len(s.spans)); (n+1)*chain.SegmentSize <= m.pos.Next; n++ {
			row, err := getSegment(tx, n)
			if err != nil {
				return err
			}
			s.spans = append(s.spans, span{row.First.UnixMicro(), row.Last.UnixMicro()})
		}
		return nil
	})
}

func key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func getTile(tx *bolt.Tx, n uint64) (audit.Tile, error) {
	v := tx.Bucket([]byte(bucketTile)).Get(key(n))
	if len(v) != 2*chain.HashSize+chain.TileSize*markSize {
		return audit.Tile{}, damage("tile %d has %d bytes", n, len(v))
	}
	return audit.Tile{Number: n, Head: chain.Hash(v[:chain.HashSize]), Root: chain.Hash(v[chain.HashSize : 2*chain.HashSize])}, nil
}

func getSegment(tx *bolt.Tx, n uint64) (audit.Segment, error) {
	v := tx.Bucket([]byte(bucketSegment)).Get(key(n))
	if len(v) != 16+2*chain.HashSize {
		return audit.Segment{}, damage("segment %d has %d bytes", n, len(v))
	}
	return audit.Segment{
		Number: n,
		First:  microTime(binary.BigEndian.Uint64(v)), Last: microTime(binary.BigEndian.Uint64(v[8:])),
		Head: chain.Hash(v[16 : 16+chain.HashSize]), Root: chain.Hash(v[16+chain.HashSize:]),
	}, nil
}
