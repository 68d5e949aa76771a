package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// Position returns where the log ends.
func (s *Store) Position() audit.Position { return s.pos }

// Room returns how many records fit into the file that is written.
func (s *Store) Room() uint64 {
	return s.opts.RecordsPerFile - s.pos.Next%s.opts.RecordsPerFile
}

// Append writes the batch in one transaction of bbolt, synced when it returns.
func (s *Store) Append(b *audit.Batch) error {
	n := uint64(len(b.Records))
	if n == 0 || len(b.Leaves) != len(b.Records) || n > s.Room() || b.First != s.pos.Next || b.After.Next != b.First+n {
		return fmt.Errorf("append: batch of %d records from %d on where %d fit from %d on", n, b.First, s.Room(), s.pos.Next)
	}
	f := s.files[len(s.files)-1]
	if f.sealed || b.First == (f.number+1)*s.opts.RecordsPerFile {
		next, err := s.rotate(f)
		if err != nil {
			return fmt.Errorf("append: start a new file: %w", err)
		}
		f = next
	}
	size, err := f.inPlace()
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	marks := s.marks
	err = f.update(func(tx *bolt.Tx) error {
		if marks, err = put(tx, b, marks, n == s.Room()); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(keySize), binary.BigEndian.AppendUint64(nil, size))
	})
	if err != nil {
		return fmt.Errorf("append to %s: %w", f.path, err)
	}
	s.pos, s.marks = b.After, marks
	if len(b.Segments) > 0 {
		s.mu.Lock()
		for _, row := range b.Segments {
			s.spans = append(s.spans, span{row.First.UnixMicro(), row.Last.UnixMicro()})
		}
		s.mu.Unlock()
	}
	s.next.Store(s.pos.Next)
	return nil
}

// put writes the batch; full seals the file. marks are those of the records
// behind the last complete tile, before and, as it returns them, after the batch.
func put(tx *bolt.Tx, b *audit.Batch, marks []byte, full bool) ([]byte, error) {
	records := tx.Bucket([]byte(bucketRecord))
	// Keys only grow: what is split off a page stays as it is.
	records.FillPercent = 1
	var k [8]byte
	for i, rec := range b.Records {
		binary.BigEndian.PutUint64(k[:], b.First+uint64(i))
		if err := records.Put(k[:], rec); err != nil {
			return nil, err
		}
	}
	for _, blob := range b.Blobs {
		if err := tx.Bucket([]byte(bucketBlob)).Put(blob.Sum[:], blob.Bytes); err != nil {
			return nil, err
		}
	}
	marks, err := putTiles(tx, b, marks)
	if err != nil {
		return nil, err
	}
	for _, row := range b.Segments {
		v := binary.BigEndian.AppendUint64(nil, uint64(row.First.UnixMicro()))
		v = binary.BigEndian.AppendUint64(v, uint64(row.Last.UnixMicro()))
		v = append(append(v, row.Head[:]...), row.Root[:]...)
		if err := tx.Bucket([]byte(bucketSegment)).Put(key(row.Number), v); err != nil {
			return nil, err
		}
	}
	m := tx.Bucket([]byte(bucketMeta))
	if full {
		if err := m.Put([]byte(keySealed), []byte{1}); err != nil {
			return nil, err
		}
	}
	return marks, putPosition(m, &b.After, marks)
}

// putTiles writes the rows of the tiles that the batch completes: head, root, and
// the marks of the records, by which a verifier names the one that was changed.
func putTiles(tx *bolt.Tx, b *audit.Batch, marks []byte) ([]byte, error) {
	bucket := tx.Bucket([]byte(bucketTile))
	bucket.FillPercent = 1
	tail := slices.Clone(marks)
	tiles := b.Tiles
	for i := range b.Leaves {
		tail = append(tail, b.Leaves[i][:markSize]...)
		if (b.First+uint64(i)+1)%chain.TileSize != 0 {
			continue
		}
		if len(tiles) == 0 || len(tail) != chain.TileSize*markSize {
			return nil, fmt.Errorf("tile of record %d: no row, or marks of %d bytes", b.First+uint64(i), len(tail))
		}
		t := tiles[0]
		row := slices.Concat(t.Head[:], t.Root[:], tail)
		if err := bucket.Put(key(t.Number), row); err != nil {
			return nil, err
		}
		tiles, tail = tiles[1:], tail[:0]
	}
	return tail, nil
}

// rotate starts the file after f, and opens f, which is sealed, for reading only.
func (s *Store) rotate(f *file) (*file, error) {
	m := meta{format: audit.FormatVersion, first: s.pos.Next, prev: s.pos.Head, pos: s.pos}
	next, err := createFile(s.dir, f.number+1, m, s.opts.GrowBytes)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, next)
	if f.sealed {
		return next, nil
	}
	if err := f.close(); err != nil {
		return nil, errors.Join(err, errors.New("the sealed file stays closed"))
	}
	sealed, err := openFile(f.path, f.number, 0)
	if err != nil {
		return nil, err
	}
	s.files[f.number] = sealed
	return next, nil
}

func microTime(micros uint64) time.Time { return time.UnixMicro(int64(micros)).UTC() }
