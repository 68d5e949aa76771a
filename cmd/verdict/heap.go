package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapRoom is how much garbage may gather between two collections once the
	// live heap is large: with 100 MB of policy and data gcPercent would let it be
	// 800 MB, with 500 MB 4 GB, and a bundle that is compiled makes much garbage.
	heapRoom = 512 << 20
	// leastGCPercent keeps the collector from working more than Go's default.
	leastGCPercent = 100
	// heapLook is the time between two looks at the heap.
	heapLook = time.Second

	liveMetric    = "/gc/heap/live:bytes"
	percentMetric = "/gc/gogc:percent"
)

// gcPercentFor is the setting for a live heap of so many bytes.
func gcPercentFor(live uint64) int {
	return int(max(leastGCPercent, min(gcPercent, heapRoom*100/max(live, 1))))
}

// boundHeap keeps the garbage within bounds while the live heap grows and
// shrinks, until ctx ends. Where GOGC is set it does nothing.
func (a *app) boundHeap(ctx context.Context) error {
	if !a.runtime.gcOurs {
		return nil
	}
	ticker := time.NewTicker(heapLook)
	defer ticker.Stop()
	for {
		live, now := readMetric(liveMetric), readMetric(percentMetric)
		// Setting it stops the world for a moment: small differences wait.
		if want := uint64(gcPercentFor(live)); want*10 < now*9 || want*10 > now*11 {
			debug.SetGCPercent(int(want))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// readMetric reads a metric of the runtime that is a number of something.
func readMetric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
