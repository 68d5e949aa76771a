package verify_test

import (
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

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
