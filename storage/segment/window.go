package segment

import (
	"context"
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// Window goes by the times of segments, and in the first and the last of those
// that touch [from, to] by the times of the first records of blocks.
func (s *Store) Window(ctx context.Context, from, to time.Time) (first, next uint64, err error) {
	end := s.next.Load()
	window := span{from.UnixMicro(), to.UnixMicro()}
	var touching []uint64 // segments, ascending
	for n := uint64(0); n*chain.SegmentSize < end; n++ {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		meets, err := s.meets(n, n*chain.SegmentSize, window)
		if err != nil {
			return 0, 0, err
		}
		if meets {
			touching = append(touching, n)
		}
	}
	if len(touching) == 0 {
		return 0, 0, nil
	}
	if first, _, err = s.narrow(touching[0], end, window); err != nil {
		return 0, 0, err
	}
	_, next, err = s.narrow(touching[len(touching)-1], end, window)
	return first, max(first, next), err
}

// narrow returns what of a segment may hold records of the window. A segment in
// which the clock was set back may hold them anywhere.
func (s *Store) narrow(n, end uint64, window span) (first, next uint64, err error) {
	first, next = n*chain.SegmentSize, min((n+1)*chain.SegmentSize, end)
	blocks, err := s.blocks(first, next, window)
	if err != nil || len(blocks) == 0 {
		return first, next, err
	}
	steady, err := s.steady(first, next)
	if err != nil || !steady {
		return first, next, err
	}
	return blocks[0][0], blocks[len(blocks)-1][1], nil
}

// steady tells whether the times of the first records of a segment's blocks do
// not go back.
func (s *Store) steady(first, next uint64) (bool, error) {
	var last int64
	for at := first; at < next; at += chain.TileSize {
		micros, err := s.micros(at)
		if err != nil {
			return false, err
		}
		if at > first && micros < last {
			return false, nil
		}
		last = micros
	}
	return true, nil
}
