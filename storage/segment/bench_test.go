package segment_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// decision is a record of the usual size, about 700 bytes.
func decision() *audit.Record {
	return &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventPermissionGranted,
		Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
		DecisionID: "0193587b-3b40-7c6e-b1a5-0123456789ab", Path: "verdict/authz/decision",
		Subject: "user:alice", Action: "customer.read", Resource: "customer:4711", Tenant: "north",
		ClientIP: "192.0.2.7", RequestedBy: "gateway",
		Input:    []byte(`{"action":{"name":"customer.read"},"resource":{"id":"4711","properties":{"owner":"alice","tenant":"north"},"type":"customer"},"subject":{"id":"alice","properties":{"roles":["support","billing"]},"type":"user"}}`),
		Result:   []byte(`{"allow":true,"decision":"permit","obligations":[],"reasons":[]}`),
		Reasons:  []byte(`[]`),
		Bundles:  []byte(`{"verdict":"4f2a9c1d77e0"}`),
		Duration: 41 * time.Microsecond,
	}
}

// BenchmarkAppend reports records per second, CPU time per record and the 99th
// percentile of the time that a caller waits, over a disk that syncs.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchmarkAppend(b, callers) })
	}
}

func benchmarkAppend(b *testing.B, callers int) {
	store := open(b, filepath.Join(b.TempDir(), "audit"), segment.Options{})
	counting := &countingStore{Store: store}
	log, err := audit.Open(counting, audit.Options{QueueWait: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- log.Run(ctx) }()

	var left atomic.Int64
	left.Store(int64(b.N))
	waits := make([][]time.Duration, callers)
	var done sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for c := range callers {
		waits[c] = make([]time.Duration, 0, b.N/callers*2+16)
		done.Go(func() {
			r := decision()
			for left.Add(-1) >= 0 {
				start := time.Now()
				if _, err := log.Append(ctx, r); err != nil {
					b.Error(err)
					return
				}
				waits[c] = append(waits[c], time.Since(start))
			}
		})
	}
	done.Wait()
	b.StopTimer()
	used := cpuTime() - before
	all := slices.Concat(waits...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/record")
	b.ReportMetric(float64(b.N)/float64(counting.commits), "records/commit")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	cancel()
	if err := <-ran; err != nil {
		b.Error(err)
	}
	if err := log.Close(); err != nil {
		b.Error(err)
	}
}

// countingStore counts commits.
type countingStore struct {
	audit.Store
	commits int
}

func (s *countingStore) Append(b *audit.Batch) error {
	s.commits++
	return s.Store.Append(b)
}

// BenchmarkOpen opens a log of a million records as kill -9 left it.
func BenchmarkOpen(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	store := open(b, dir, segment.Options{})
	fill(b, store, 1<<20-1000, strings.Repeat("x", 600))
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := open(b, dir, segment.Options{})
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		b.StartTimer()
	}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
