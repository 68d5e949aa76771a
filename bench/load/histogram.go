package load

import (
	"math/bits"
	"time"
)

const (
	// subBits is the number of bits kept below the leading one: a value is
	// known to one part in 256.
	subBits  = 8
	subCount = 1 << subBits
	buckets  = (64 - subBits) * subCount
)

// Histogram counts durations in buckets whose width grows with the value, at
// most 0.4 % of it. The zero value is empty and ready. It is not safe for
// concurrent use.
type Histogram struct {
	count  uint64
	max    time.Duration
	counts [buckets]uint64
}

// Record counts one duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.count }

// Max returns the largest recorded duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the smallest duration that is not exceeded by a share q of
// those recorded (the nearest-rank definition), to the precision of the
// buckets, rounded up. It is zero when nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := min(max(uint64(q*float64(h.count)+0.9999999), 1), h.count)
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if seen >= rank {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// bucket returns the index of the bucket that holds v. Below 2*subCount each
// value has its own; above, each power of two is cut into subCount pieces.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upper returns the largest value of a bucket.
func upper(i int) uint64 {
	if i < 2*subCount {
		return uint64(i)
	}
	shift := i>>subBits - 1
	top := uint64(i - shift<<subBits)
	return (top+1)<<shift - 1
}
