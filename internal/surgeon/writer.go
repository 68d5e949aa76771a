// Package surgeon writes small audit logs and corrupts them on purpose, for the
// tests of the verifier, of recovery and of the command line.
//
// The writer works from the documented format alone and computes every hash by
// the plain recursive definition, so that a mistake in the real writer or in
// audit/chain shows as a difference. Nothing here is meant for a log that
// somebody needs.
package surgeon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// ErrNotFound is returned when the log does not hold what is to be altered.
var ErrNotFound = errors.New("not in the log")

// Hash is a SHA-256 hash.
type Hash = [sha256.Size]byte

// Layout is the shape of a log: records in a tile, a segment and a file, as
// powers of two. Zero fields mean the documented 8, 16 and 20.
type Layout struct{ TileBits, SegmentBits, FileBits int }

func (l Layout) filled() Layout {
	if l.TileBits == 0 {
		l.TileBits = 8
	}
	if l.SegmentBits == 0 {
		l.SegmentBits = 16
	}
	if l.FileBits == 0 {
		l.FileBits = 20
	}
	return l
}

// Options of Write. The zero value is the documented format with the origin
// "test.example/log" and batches of 100 records.
type Options struct {
	Origin string
	Layout Layout
	Batch  int
	// Marks also writes the optional marks: the first four bytes of each leaf.
	Marks bool
	// Freelist makes bbolt store its list of free pages in the file.
	Freelist bool
	// PageSize of the file; 0: that of the machine.
	PageSize int
	// Blob returns the blob to be stored with record seq, nil for none.
	Blob func(seq uint64) []byte
}

// Write creates dir/audit with a log of n records, rec(0) to rec(n-1).
func Write(dir string, n uint64, rec func(seq uint64) []byte, o Options) error {
	w := writer{dir: filepath.Join(dir, "audit", "log"), o: o, lay: o.Layout.filled()}
	if w.o.Origin == "" {
		w.o.Origin = "test.example/log"
	}
	if w.o.Batch == 0 {
		w.o.Batch = 100
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return fmt.Errorf("create the log folder: %w", err)
	}
	lock := fmt.Sprintf("%d surgeon", os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "audit", "lock"), []byte(lock), 0o600); err != nil {
		return fmt.Errorf("create the lock file: %w", err)
	}
	w.head = GenesisHead(w.o.Origin)
	for seq := uint64(0); seq < n; {
		file := seq >> w.lay.FileBits
		end := min(n, (file+1)<<w.lay.FileBits)
		if err := w.file(file, seq, end, rec); err != nil {
			return err
		}
		seq = end
	}
	return nil
}

type writer struct {
	dir  string
	o    Options
	lay  Layout
	head Hash
	// subtrees are the roots of the perfect subtrees over all records, largest
	// first, as (level, root).
	subtrees []subtree
	tile     []Hash // leaves of the unfinished tile
	roots    []Hash // tile roots of the unfinished segment
	segFirst int64
	last     int64
}

type subtree struct {
	level int
	root  Hash
}

func (w *writer) file(file, first, end uint64, rec func(uint64) []byte) error {
	db, err := bolt.Open(FilePath(filepath.Dir(w.dir), file), 0o600, &bolt.Options{
		PageSize: w.o.PageSize, NoFreelistSync: !w.o.Freelist, NoSync: true, NoGrowSync: true, FreelistType: bolt.FreelistMapType, Timeout: time.Second,
	})
	if err != nil {
		return fmt.Errorf("create file %d: %w", file, err)
	}
	db.AllocSize = 1 << 20
	prev := w.head
	for seq := first; seq < end; {
		to := min(end, seq+uint64(w.o.Batch))
		err := db.Update(func(tx *bolt.Tx) error {
			if err := w.static(tx, first, prev); err != nil {
				return err
			}
			for ; seq < to; seq++ {
				if err := w.append(tx, seq, rec(seq)); err != nil {
					return err
				}
			}
			return w.meta(tx, end, seq)
		})
		if err != nil {
			return errors.Join(fmt.Errorf("write file %d: %w", file, err), db.Close())
		}
	}
	return db.Close()
}

func (w *writer) static(tx *bolt.Tx, first uint64, prev Hash) error {
	for _, name := range []string{"meta", "rec", "tile", "seg", "blob"} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return putAll(tx.Bucket([]byte("meta")), map[string][]byte{
		"format": {0, 0, 0, 1}, "origin": []byte(w.o.Origin), "first": be64(first), "prev": prev[:],
	})
}

func (w *writer) append(tx *bolt.Tx, seq uint64, rec []byte) error {
	b := tx.Bucket([]byte("rec"))
	b.FillPercent = 1
	if err := b.Put(be64(seq), rec); err != nil {
		return err
	}
	if w.o.Blob != nil {
		if blob := w.o.Blob(seq); blob != nil {
			sum := sha256.Sum256(blob)
			if err := tx.Bucket([]byte("blob")).Put(sum[:], blob); err != nil {
				return err
			}
		}
	}
	leaf := LeafHash(rec)
	w.head = NextHead(w.head, leaf)
	w.last = RecordTime(rec)
	if seq&(1<<w.lay.SegmentBits-1) == 0 {
		w.segFirst = w.last
	}
	w.push(subtree{0, leaf})
	w.tile = append(w.tile, leaf)
	if len(w.tile) < 1<<w.lay.TileBits {
		return nil
	}
	return w.endTile(tx, seq)
}

func (w *writer) endTile(tx *bolt.Tx, seq uint64) error {
	root := TreeHash(w.tile)
	row := append(append([]byte{}, w.head[:]...), root[:]...)
	if w.o.Marks {
		row = append(row, marks(w.tile)...)
	}
	if err := tx.Bucket([]byte("tile")).Put(be64(seq>>w.lay.TileBits), row); err != nil {
		return err
	}
	w.tile, w.roots = w.tile[:0], append(w.roots, root)
	if len(w.roots) < 1<<(w.lay.SegmentBits-w.lay.TileBits) {
		return nil
	}
	seg := NodeHash(w.roots)
	row = append(be64(uint64(w.segFirst)), be64(uint64(w.last))...)
	row = append(append(row, w.head[:]...), seg[:]...)
	w.roots = w.roots[:0]
	return tx.Bucket([]byte("seg")).Put(be64(seq>>w.lay.SegmentBits), row)
}

func (w *writer) push(s subtree) {
	for n := len(w.subtrees); n > 0 && w.subtrees[n-1].level == s.level; n = len(w.subtrees) {
		s = subtree{s.level + 1, pair(1, w.subtrees[n-1].root, s.root)}
		w.subtrees = w.subtrees[:n-1]
	}
	w.subtrees = append(w.subtrees, s)
}

func (w *writer) meta(tx *bolt.Tx, end, next uint64) error {
	tree := be64(next)
	for _, s := range w.subtrees {
		tree = append(tree, s.root[:]...)
	}
	values := map[string][]byte{
		"next": be64(next), "head": w.head[:], "tree": tree, "time": be64(uint64(w.last)),
	}
	if w.o.Marks {
		values["marks"] = marks(w.tile)
	}
	if next == end && end&(1<<w.lay.FileBits-1) == 0 {
		values["sealed"] = []byte{1}
	}
	return putAll(tx.Bucket([]byte("meta")), values)
}

func marks(leaves []Hash) []byte {
	out := make([]byte, 0, 4*len(leaves))
	for _, l := range leaves {
		out = append(out, l[:4]...)
	}
	return out
}

func putAll(b *bolt.Bucket, values map[string][]byte) error {
	for k, v := range values {
		if err := b.Put([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}

// FilePath returns the path of a log file; audit is the folder DIR/audit.
func FilePath(audit string, file uint64) string {
	return filepath.Join(audit, "log", fmt.Sprintf("%08d.db", file))
}

// GenesisHead is SHA-256(0x02 || "verdict-audit-v1" || 0x0A || origin).
func GenesisHead(origin string) Hash { return sha256.Sum256([]byte("\x02verdict-audit-v1\n" + origin)) }

// LeafHash is SHA-256(0x00 || record).
func LeafHash(rec []byte) Hash { return sha256.Sum256(append([]byte{0}, rec...)) }

// NextHead is SHA-256(0x02 || head || leaf).
func NextHead(head, leaf Hash) Hash { return pair(2, head, leaf) }

// TreeHash is MTH of RFC 9162, section 2.1.1, over leaf hashes.
func TreeHash(leaves []Hash) Hash {
	if len(leaves) == 0 {
		return sha256.Sum256(nil)
	}
	return NodeHash(leaves)
}

// NodeHash is the root over at least one node of equal level.
func NodeHash(nodes []Hash) Hash {
	if len(nodes) == 1 {
		return nodes[0]
	}
	k := 1 << (bits.Len(uint(len(nodes)-1)) - 1)
	return pair(1, NodeHash(nodes[:k]), NodeHash(nodes[k:]))
}

func pair(prefix byte, l, r Hash) Hash {
	return sha256.Sum256(bytes.Join([][]byte{{prefix}, l[:], r[:]}, nil))
}

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
