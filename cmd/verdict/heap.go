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
	// heapSlack is how many times the room lies between the live heap and the
	// runtime's own goal. A collection is begun when the room is used up; as it
	// comes near the goal, the runtime makes those who allocate do the marking,
	// and a decision would have to wait while a bundle is compiled.
	heapSlack = 3
	// heapLook is the time between two looks at the heap.
	heapLook = 20 * time.Millisecond

	liveMetric    = "/gc/heap/live:bytes"
	objectsMetric = "/memory/classes/heap/objects:bytes"
	percentMetric = "/gc/gogc:percent"
)

// garbageFor is how much garbage may gather over a live heap of so many bytes.
func garbageFor(live uint64) uint64 {
	return max(live*leastGCPercent/100, min(live*gcPercent/100, heapRoom))
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
		live := readMetric(liveMetric)
		room := garbageFor(live)
		percent := uint64(gcPercent)
		if live > 0 {
			percent = min(gcPercent, heapSlack*room*100/live)
		}
		// Setting it stops the world for a moment: small differences wait.
		if now := readMetric(percentMetric); percent*10 < now*9 || percent*10 > now*11 {
			debug.SetGCPercent(int(percent))
		}
		if live*gcPercent/100 > room && readMetric(objectsMetric) > live+room {
			a.work.Collect()
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
