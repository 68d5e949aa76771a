package verify_test

import (
	"context"
	"os"
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

// BenchmarkRun verifies 200,000 records of about 650 bytes from the page cache.
// With -cpu 1 it gives the rate of one core.
func BenchmarkRun(b *testing.B) {
	const n = 200_000
	dir := b.TempDir()
	if err := surgeon.Write(dir, n, surgeon.Sample, surgeon.Options{Batch: 1000}); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(surgeon.FilePath(dir+"/audit", 0))
	if err != nil {
		b.Fatal(err)
	}
	src := open(b, dir)
	b.SetBytes(info.Size())
	b.ReportAllocs()
	for b.Loop() {
		rep, err := verify.Run(context.Background(), src, verify.Options{})
		if err != nil || rep.Result != verify.OK {
			b.Fatal(err, rep.Text())
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkValidJSON(b *testing.B) {
	rec := surgeon.Sample(12345)
	b.SetBytes(int64(len(rec)))
	for b.Loop() {
		if !verify.ValidJSON(rec) {
			b.Fatal("not JSON")
		}
	}
}
