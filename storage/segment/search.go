package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
)

// errStop ends a scan that has found what it looked for.
var errStop = errors.New("stop")

// Search looks through the segments whose time touches [from, to], newest first:
// in each first the blocks of 256 records that may be meant by the times of their
// first records, then, since a clock that was set may hide it there, all of it.
func (s *Store) Search(ctx context.Context, from, to time.Time, match func([]byte) bool) (uint64, []byte, error) {
	next := s.next.Load()
	window := span{from.UnixMicro(), to.UnixMicro()}
	for n := int64(next / chain.SegmentSize); n >= 0; n-- {
		begin := uint64(n) * chain.SegmentSize
		end := min(begin+chain.SegmentSize, next)
		if begin == end {
			continue
		}
		meets, err := s.meets(uint64(n), begin, window)
		if err != nil {
			return 0, nil, err
		}
		if !meets {
			continue
		}
		blocks, err := s.blocks(begin, end, window)
		if err != nil {
			return 0, nil, err
		}
		for _, r := range append(blocks, [2]uint64{begin, end}) {
			seq, rec, err := s.first(ctx, r[0], r[1], match)
			if err != nil || rec != nil {
				return seq, rec, err
			}
		}
	}
	return 0, nil, fmt.Errorf("search: %w", audit.ErrNotFound)
}

// first returns the first record of [from, to) that match accepts, or nil.
func (s *Store) first(ctx context.Context, from, to uint64, match func([]byte) bool) (at uint64, found []byte, err error) {
	err = s.scan(ctx, from, to, func(seq uint64, rec []byte) error {
		if !match(rec) {
			return nil
		}
		at, found = seq, bytes.Clone(rec)
		return errStop
	})
	if errors.Is(err, errStop) {
		err = nil
	}
	return at, found, err
}

// meets tells whether segment n, which starts with record begin, may hold records
// of the window. The last one, which is not complete, has no end yet.
func (s *Store) meets(n, begin uint64, window span) (bool, error) {
	s.mu.RLock()
	complete := n < uint64(len(s.spans))
	var of span
	if complete {
		of = s.spans[n]
	}
	s.mu.RUnlock()
	if !complete {
		first, err := s.micros(begin)
		if err != nil {
			return false, err
		}
		of = span{first, math.MaxInt64}
	}
	return of.meets(window), nil
}

// meets tells whether two spans overlap; one that ends before it begins, because
// the clock was set back, may hold anything.
func (a span) meets(b span) bool {
	return a.first > a.last || a.first <= b.last && b.first <= a.last
}

// blocks returns the ranges of the blocks in [begin, end) that may hold records of
// the window, going by the time of each block's first record.
func (s *Store) blocks(begin, end uint64, window span) (found [][2]uint64, err error) {
	first, err := s.micros(begin)
	if err != nil {
		return nil, err
	}
	for at := begin; at < end; at += chain.TileSize {
		last, following := int64(math.MaxInt64), min(at+chain.TileSize, end)
		if following < end {
			if last, err = s.micros(following); err != nil {
				return nil, err
			}
		}
		if (span{first, last}).meets(window) {
			found = append(found, [2]uint64{at, following})
		}
		first = last
	}
	return found, nil
}

// micros returns the time of a record.
func (s *Store) micros(seq uint64) (micros int64, err error) {
	err = s.viewFile(seq/s.opts.RecordsPerFile, func(tx *bolt.Tx) error {
		number, at, _, err := audit.ParseHead(tx.Bucket([]byte(bucketRecord)).Get(key(seq)))
		if err != nil || number != seq {
			return damage("record %d: does not start with its number and time", seq)
		}
		micros = at.UnixMicro()
		return nil
	})
	return micros, err
}
