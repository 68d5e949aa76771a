package load_test

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
)

func TestHistogramQuantiles(t *testing.T) {
	ramp := func(n int, unit time.Duration) []time.Duration {
		all := make([]time.Duration, n)
		for i := range all {
			all[i] = time.Duration(i+1) * unit
		}
		return all
	}
	random := make([]time.Duration, 100_000)
	rnd := rand.New(rand.NewSource(1))
	for i := range random {
		random[i] = time.Duration(rnd.ExpFloat64() * float64(3*time.Millisecond))
	}
	for name, values := range map[string][]time.Duration{
		"one":         {5 * time.Millisecond},
		"small exact": ramp(100, time.Nanosecond),
		"ramp":        ramp(1000, time.Microsecond),
		"random":      random,
		"wide":        {0, time.Nanosecond, time.Hour, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var h load.Histogram
			for _, v := range values {
				h.Record(v)
			}
			sorted := slices.Sorted(slices.Values(values))
			for _, q := range []float64{0, .5, .9, .99, .999, 1} {
				rank := max(1, int(q*float64(len(sorted))+.9999999))
				want, got := sorted[rank-1], h.Quantile(q)
				if got < want || float64(got) > float64(want)*1.004+1 {
					t.Errorf("quantile %v = %v, want %v to 0.4 %%", q, got, want)
				}
			}
			if h.Count() != uint64(len(values)) || h.Max() != sorted[len(sorted)-1] {
				t.Errorf("count %d, max %v", h.Count(), h.Max())
			}
		})
	}
}

func TestHistogramEmptyAndNegative(t *testing.T) {
	var h load.Histogram
	if got := h.Quantile(.5); got != 0 {
		t.Errorf("quantile of nothing = %v", got)
	}
	h.Record(-time.Second)
	if h.Count() != 1 || h.Max() != 0 || h.Quantile(1) != 0 {
		t.Errorf("a negative duration gives count %d, max %v", h.Count(), h.Max())
	}
}
