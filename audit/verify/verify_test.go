package verify_test

import (
	"context"
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
	"github.com/verdict-pdp/verdict/storage/segmentread"
)

// write makes a log of n records in a new folder.
func write(t testing.TB, n uint64, rec func(uint64) []byte, o surgeon.Options) string {
	t.Helper()
	dir := t.TempDir()
	if err := surgeon.Write(dir, n, rec, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// check verifies the log in dir, in the documented layout.
func check(t testing.TB, dir string) verify.Report {
	t.Helper()
	rep, err := tryCheck(t, dir, surgeon.Layout{TileBits: 8, SegmentBits: 16, FileBits: 20})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func tryCheck(t testing.TB, dir string, l surgeon.Layout) (verify.Report, error) {
	t.Helper()
	src, err := segmentread.Open(dir + "/audit")
	if err != nil {
		return verify.Report{}, err
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	return verify.RunLayout(context.Background(), src, verify.Options{}, l.TileBits, l.SegmentBits, l.FileBits)
}

func TestSoundLogs(t *testing.T) {
	small := surgeon.Layout{TileBits: 4, SegmentBits: 6, FileBits: 8}
	for _, n := range []uint64{1, 2, 15, 16, 17, 63, 64, 65, 255, 256, 257, 300, 511, 512, 513, 1024, 1100} {
		for _, o := range []surgeon.Options{{Layout: small}, {Layout: small, Marks: true, Batch: 7, Freelist: true}} {
			dir := write(t, n, surgeon.Sample, o)
			rep, err := tryCheck(t, dir, small)
			if err != nil {
				t.Fatalf("%d records: %v", n, err)
			}
			if rep.Result != verify.OK || rep.VerifiedEvents != n || rep.TotalEvents != n || len(rep.Warnings) > 0 {
				t.Fatalf("%d records, %+v:\n%s", n, o, rep.Text())
			}
			leaves := make([]surgeon.Hash, n)
			head := surgeon.GenesisHead("test.example/log")
			for i := range leaves {
				leaves[i] = surgeon.LeafHash(surgeon.Sample(uint64(i)))
				head = surgeon.NextHead(head, leaves[i])
			}
			if want := hexOf(head); rep.Head != want {
				t.Errorf("%d records: head %s, want %s", n, rep.Head, want)
			}
			if want := hexOf(surgeon.TreeHash(leaves)); rep.Root != want {
				t.Errorf("%d records: root %s, want %s", n, rep.Root, want)
			}
		}
	}
}
