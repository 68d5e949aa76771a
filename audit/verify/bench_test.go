package verify_test

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

// BenchmarkRun verifies 200,000 records of about 650 bytes from the page cache.
// records/cpu-s is the rate of one core, whatever else the machine does.
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
	before := cpuTime(b)
	for b.Loop() {
		rep, err := verify.Run(context.Background(), src, verify.Options{})
		if err != nil || rep.Result != verify.OK {
			b.Fatal(err, rep.Text())
		}
	}
	done := float64(n) * float64(b.N)
	b.ReportMetric(done/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(done/(cpuTime(b)-before).Seconds(), "records/cpu-s")
}

// cpuTime is the time that the process has spent on processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
