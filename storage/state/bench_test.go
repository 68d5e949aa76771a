package state_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
)

const benchEntries = 10_000

func benchStore(b *testing.B) *state.Bucket {
	b.Helper()
	bucket := bucket(b, open(b, b.TempDir(), state.Options{}), "bench")
	var ops []storage.Op
	for i := range benchEntries {
		ops = append(ops, storage.Put(benchKey(i), make([]byte, 300)))
		if len(ops) == storage.MaxOps || i == benchEntries-1 {
			if _, err := bucket.Apply(context.Background(), ops...); err != nil {
				b.Fatal(err)
			}
			ops = ops[:0]
		}
	}
	return bucket
}

func benchKey(i int) string { return fmt.Sprintf("sessions.%06d", i) }

func BenchmarkGet(b *testing.B) {
	bucket := benchStore(b)
	keys := make([]string, benchEntries)
	for i := range keys {
		keys[i] = benchKey(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i = (i + 7919) % benchEntries {
			if _, err := bucket.Get(context.Background(), keys[i]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}

// BenchmarkReplace reads an entry and replaces it at its revision.
func BenchmarkReplace(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			bucket := benchStore(b)
			value := make([]byte, 300)
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for i := w; left.Add(-1) >= 0; i = (i + 64) % benchEntries {
						e, err := bucket.Get(context.Background(), benchKey(i))
						if err == nil {
							_, err = bucket.Apply(context.Background(), storage.Replace(e.Key, value, e.Revision))
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
