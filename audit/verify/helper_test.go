package verify_test

import (
	"context"
	"encoding/hex"
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
	"github.com/verdict-pdp/verdict/storage/segmentread"
)

func hexOf(h surgeon.Hash) string { return hex.EncodeToString(h[:]) }

// write makes a log of n records in a new folder.
func write(t testing.TB, n uint64, rec func(uint64) []byte, o surgeon.Options) string {
	t.Helper()
	dir := t.TempDir()
	if err := surgeon.Write(dir, n, rec, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open opens the log in dir until the end of the test.
func open(t testing.TB, dir string) *segmentread.Dir {
	t.Helper()
	src, err := segmentread.Open(dir + "/audit")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
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
