package verify_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

const logSize = 2440 // nine tiles and a part

// tamper is one way to falsify a log of logSize records.
type tamper struct {
	name   string
	do     func(l surgeon.Log) error
	result verify.Result
	kind   string
	seq    uint64 // named when the log has marks
	// from and last bound the place named without marks; both 0: seq.
	from, last uint64
}

func tampers() []tamper {
	other := func(seq uint64) []byte {
		return bytes.Replace(surgeon.Sample(seq), []byte("permission_granted"), []byte("permission_denied"), 1)
	}
	flip := func(seq uint64) func(surgeon.Log) error {
		at := bytes.Index(surgeon.Sample(seq), []byte("support"))
		return func(l surgeon.Log) error { return l.FlipRecord(seq, at, 2) }
	}
	meta := func(key string, v ...byte) func(surgeon.Log) error {
		return func(l surgeon.Log) error { return l.Put("meta", []byte(key), v) }
	}
	u64 := func(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
	return []tamper{
		{"flip one bit", flip(500), "tampered", "record_altered", 500, 256, 511},
		{"flip one bit in the last record", flip(2439), "tampered", "record_altered", 2439, 2432, 2439},
		{"flip one bit of the unfinished tile", flip(2340), "tampered", "record_altered", 2340, 2304, 2431},
		{"flip one bit in the first record", func(l surgeon.Log) error { return l.FlipRecord(0, 60, 1) }, "tampered", "record_malformed", 0, 0, 0},
		{"deny turned to allow", func(l surgeon.Log) error { return l.Replace(700, other(700)) }, "tampered", "record_altered", 700, 512, 767},
		{"swap two", func(l surgeon.Log) error { return l.Swap(600, 800) }, "tampered", "record_swapped", 600, 0, 0},
		{"swap neighbours", func(l surgeon.Log) error { return l.Swap(255, 256) }, "tampered", "record_swapped", 255, 0, 0},
		{"delete", func(l surgeon.Log) error { return l.DeleteRecord(1000) }, "tampered", "record_missing", 1000, 0, 0},
		{"delete the first", func(l surgeon.Log) error { return l.DeleteRecord(0) }, "tampered", "record_missing", 0, 0, 0},
		{"delete and renumber keys", func(l surgeon.Log) error { return l.DeleteAndRenumber(1000, false) }, "tampered", "record_swapped", 1000, 0, 0},
		{"delete and renumber records", func(l surgeon.Log) error { return l.DeleteAndRenumber(1000, true) }, "tampered", "record_altered", 1000, 768, 1023},
		{"duplicate", func(l surgeon.Log) error { return l.Duplicate(1200, 1201) }, "tampered", "record_swapped", 1201, 0, 0},
		{"append a copy of the last", func(l surgeon.Log) error { return l.Duplicate(2439, 2440) }, "tampered", "record_extra", 2440, 0, 0},
		{"forged record in another's place", func(l surgeon.Log) error { return l.Replace(1300, surgeon.Small(1300)) }, "tampered", "record_altered", 1300, 1280, 1535},
		{"insert forged and move the rest", func(l surgeon.Log) error { return l.Insert(1400, other(1400)) }, "tampered", "record_altered or record_swapped", 1400, 1280, 1535},
		{"insert at the end", func(l surgeon.Log) error { return l.Insert(2440, surgeon.Sample(2440)) }, "tampered", "record_extra", 2440, 0, 0},
		{"empty a record", func(l surgeon.Log) error { return l.Replace(1500, []byte{}) }, "tampered", "record_malformed", 1500, 0, 0},
		{"trailing bytes", func(l surgeon.Log) error { return l.Replace(1600, append(surgeon.Sample(1600), '}')) }, "tampered", "record_malformed", 1600, 0, 0},
		{"giant record", func(l surgeon.Log) error { return l.Replace(1600, bytes.Repeat([]byte("x"), 3<<20)) }, "tampered", "record_malformed", 1600, 0, 0},
		{"remove the last 10", func(l surgeon.Log) error { return l.RemoveLast(10) }, "truncated", "record_missing", 2430, 0, 0},
		{"remove the last 1", func(l surgeon.Log) error { return l.RemoveLast(1) }, "truncated", "record_missing", 2439, 0, 0},
		{"remove the last 1,000", func(l surgeon.Log) error { return l.RemoveLast(1000) }, "truncated", "record_missing", 1440, 0, 0},
		{"remove all", func(l surgeon.Log) error { return l.RemoveLast(logSize) }, "truncated", "record_missing", 0, 0, 0},
		{"edit and mend head and tree, not tiles", func(l surgeon.Log) error {
			return errors.Join(l.Replace(1700, other(1700)), l.Rechain(false))
		}, "tampered", "record_altered", 1700, 1536, 1791},
		{"tile head", func(l surgeon.Log) error { return l.FlipEntry("tile", surgeon.Key(3), 5, 1) }, "tampered", "tile_mismatch", 1023, 0, 0},
		{"tile root", func(l surgeon.Log) error { return l.FlipEntry("tile", surgeon.Key(3), 40, 1) }, "tampered", "tile_mismatch", 768, 0, 0},
		{"tile head and root", func(l surgeon.Log) error {
			return errors.Join(l.FlipEntry("tile", surgeon.Key(3), 5, 1), l.FlipEntry("tile", surgeon.Key(3), 40, 1))
		}, "tampered", "tile_mismatch", 768, 0, 0},
		{"last tile, head and root", func(l surgeon.Log) error {
			return errors.Join(l.FlipEntry("tile", surgeon.Key(8), 5, 1), l.FlipEntry("tile", surgeon.Key(8), 40, 1))
		}, "tampered", "tile_mismatch", 2048, 0, 0},
		{"tile row cut", func(l surgeon.Log) error { return l.Put("tile", surgeon.Key(4), []byte("x")) }, "tampered", "tile_mismatch", 1024, 0, 0},
		{"tile row missing", func(l surgeon.Log) error { return l.Delete("tile", surgeon.Key(5)) }, "tampered", "tile_mismatch", 1280, 0, 0},
		{"tile row too many", func(l surgeon.Log) error { return l.Put("tile", surgeon.Key(9), make([]byte, 64)) }, "tampered", "tile_mismatch", 2304, 0, 0},
		{"tiles gone", func(l surgeon.Log) error { return l.DeleteBucket("tile") }, "tampered", "tile_mismatch", 0, 0, 0},
		{"records gone", func(l surgeon.Log) error { return l.DeleteBucket("rec") }, "truncated", "record_missing", 0, 0, 0},
		{"segment too many", func(l surgeon.Log) error { return l.Put("seg", surgeon.Key(0), make([]byte, 80)) }, "tampered", "segment_mismatch", 0, 0, 0},
		{"foreign key in rec", func(l surgeon.Log) error { return l.Put("rec", []byte("hidden"), []byte("x")) }, "tampered", "key_foreign", 2440, 0, 2440},
		{"foreign number in rec", func(l surgeon.Log) error { return l.Put("rec", u64(1<<20), surgeon.Sample(1<<20)) }, "tampered", "key_foreign", 2440, 0, 2440},
		{"foreign key in tile", func(l surgeon.Log) error { return l.Put("tile", []byte("x"), []byte("x")) }, "tampered", "key_foreign", 0, 0, 0},
		{"foreign key in blob", func(l surgeon.Log) error { return l.Put("blob", []byte("x"), []byte("x")) }, "tampered", "key_foreign", 0, 0, 0},
		{"meta head", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("head"), 3, 1) }, "tampered", "head_mismatch", 2439, 0, 0},
		{"meta prev", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("prev"), 3, 1) }, "tampered", "meta_mismatch", 0, 0, 0},
		{"meta origin", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("origin"), 3, 1) }, "tampered", "meta_mismatch", 0, 0, 0},
		{"meta tree", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("tree"), 20, 1) }, "tampered", "meta_mismatch", 0, 0, 0},
		{"meta tree, last part", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("tree"), 8+32*4-1, 1) }, "tampered", "meta_mismatch", 2432, 0, 0},
		{"meta tree size", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("tree"), 7, 1) }, "tampered", "meta_mismatch", 0, 0, 0},
		{"meta time", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("time"), 7, 1) }, "tampered", "meta_mismatch", 2439, 0, 0},
		{"meta next lower", meta("next", u64(2430)...), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta next higher", meta("next", u64(2450)...), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta next outside", meta("next", u64(1<<40)...), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta next cut", meta("next", 1), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta first", meta("first", u64(1)...), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta format 0", meta("format", 0, 0, 0, 0), "tampered", "meta_mismatch", 0, 0, 0},
		{"meta format 2", meta("format", 0, 0, 0, 2), "unverifiable", "format_newer", 0, 0, 0},
		{"meta sealed", meta("sealed", 1), "tampered", "meta_mismatch", 2440, 0, 0},
		{"meta gone", func(l surgeon.Log) error { return l.DeleteBucket("meta") }, "tampered", "meta_mismatch", 0, 0, 0},
		{"clock back", func(l surgeon.Log) error {
			return errors.Join(l.Replace(2000, bytes.Replace(surgeon.Sample(2000), []byte("09:00"), []byte("08:00"), 1)), l.Rechain(true))
		}, "tampered", "time_went_back", 2000, 0, 0},
		{"no genesis", func(l surgeon.Log) error {
			return errors.Join(l.Replace(0, surgeon.ClockStep(0, surgeon.SampleTime(0))), l.Rechain(true))
		}, "tampered", "record_malformed", 0, 0, 0},
		{"file cut to nothing", func(l surgeon.Log) error { return surgeon.Truncate(l.Path, 0) }, "truncated", "file_truncated", 0, 0, 0},
		{"file cut in its meta pages", func(l surgeon.Log) error { return surgeon.Truncate(l.Path, 2440) }, "truncated", "file_truncated", 0, 0, 0},
	}
}

func TestTamper(t *testing.T) {
	for _, marks := range []bool{true, false} {
		dir := write(t, logSize, surgeon.Sample, surgeon.Options{Marks: marks})
		whole, err := surgeon.ReadRaw(surgeon.FilePath(dir+"/audit", 0))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range tampers() {
			name := c.name
			if !marks {
				name += ", no marks"
				if c.from == 0 && c.last == 0 && c.kind != verify.KindTile {
					continue // marks make no difference
				}
			}
			t.Run(name, func(t *testing.T) {
				if err := whole.Write(); err != nil {
					t.Fatal(err)
				}
				if err := c.do(surgeon.Open(dir, 0, surgeon.Layout{})); err != nil {
					t.Fatal(err)
				}
				rep := check(t, dir)
				from, last := c.seq, c.seq
				if !marks && (c.from != 0 || c.last != 0) {
					from, last = c.from, c.last
				}
				if rep.Result != c.result || !strings.Contains(c.kind, rep.Kind) || *rep.FirstBadSeq < from || *rep.FirstBadSeq > last {
					t.Errorf("want %s, %s, %d:\n%s", c.result, c.kind, c.seq, rep.Text())
				}
				if rep.IsValid || rep.ErrorsTotal == 0 || rep.File != "00000000.db" {
					t.Errorf("report: %+v", rep)
				}
				if line, _, _ := strings.Cut(rep.Text(), "\n"); !strings.Contains(line, rep.Kind) {
					t.Errorf("first line: %s", line)
				}
			})
		}
	}
}

// One altered record is named, and no other.
func TestOneFaultIsOneFinding(t *testing.T) {
	dir := write(t, logSize, surgeon.Sample, surgeon.Options{Marks: true})
	l := surgeon.Open(dir, 0, surgeon.Layout{})
	for _, seq := range []uint64{300, 301, 2000, 2439} {
		if err := l.FlipRecord(seq, 450, 0x02); err != nil {
			t.Fatal(err)
		}
	}
	rep := check(t, dir)
	var got []uint64
	for _, f := range rep.Errors {
		got = append(got, f.Seq)
		if f.Seq != f.Last {
			t.Errorf("range: %v", f)
		}
	}
	if len(got) != 4 || got[0] != 300 || got[1] != 301 || got[2] != 2000 || got[3] != 2439 || rep.HashChainValid {
		t.Errorf("found %v\n%s", got, rep.Text())
	}
	// What lies in no tile with a fault still counts as verified.
	if want := uint64(logSize - 256 - 256 - (logSize % 256)); rep.VerifiedEvents != want {
		t.Errorf("%d verified, want %d", rep.VerifiedEvents, want)
	}
}

// A cut or a rewriting that mends everything is what the plain chain cannot show.
func TestConsistentForgeriesPass(t *testing.T) {
	dir := write(t, logSize, surgeon.Sample, surgeon.Options{})
	before := check(t, dir)
	l := surgeon.Open(dir, 0, surgeon.Layout{})
	if err := l.RemoveLastConsistently(1000); err != nil {
		t.Fatal(err)
	}
	if rep := check(t, dir); rep.Result != verify.OK || rep.TotalEvents != logSize-1000 {
		t.Error(rep.Text())
	}
	if err := errors.Join(l.Replace(5, surgeon.Small(5)), l.Rechain(true)); err != nil {
		t.Fatal(err)
	}
	rep := check(t, dir)
	if rep.Result != verify.OK || rep.Head == before.Head || rep.Root == before.Root {
		t.Error(rep.Text())
	}
}

func TestClockStep(t *testing.T) {
	rec := func(seq uint64) []byte {
		back := time.Hour
		switch {
		case seq < 40:
			return surgeon.Small(seq)
		case seq == 40:
			return surgeon.ClockStep(seq, surgeon.SampleTime(seq).Add(-back))
		}
		return append(surgeon.Prefix(seq, surgeon.SampleTime(seq).Add(-back)), `"type":"decision"}`...)
	}
	if rep := check(t, write(t, 100, rec, surgeon.Options{})); rep.Result != verify.OK {
		t.Error(rep.Text())
	}
}

func TestBlobs(t *testing.T) {
	blob := func(seq uint64) []byte {
		if seq%10 != 3 {
			return nil
		}
		return bytes.Repeat([]byte{byte(seq), 'b'}, 200_000)
	}
	rec := func(seq uint64) []byte {
		if b := blob(seq); b != nil {
			return surgeon.BlobRecord(seq, b)
		}
		return surgeon.Small(seq)
	}
	dir := write(t, 60, rec, surgeon.Options{Blob: blob})
	if rep := check(t, dir); rep.Result != verify.OK || len(rep.Warnings) > 0 {
		t.Fatal(rep.Text())
	}
	l := surgeon.Open(dir, 0, surgeon.Layout{})
	if err := l.Put("blob", bytes.Repeat([]byte{9}, 32), []byte("stray")); err != nil {
		t.Fatal(err)
	}
	if rep := check(t, dir); rep.Kind != verify.KindBlobAltered || *rep.FirstBadSeq != 0 || len(rep.Warnings) != 1 {
		t.Error(rep.Text())
	}
	if err := l.Delete("blob", bytes.Repeat([]byte{9}, 32)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.AlterBlob(blob(23)), l.DeleteBlob(blob(43))); err != nil {
		t.Fatal(err)
	}
	rep := check(t, dir)
	if rep.Kind != verify.KindBlobAltered || *rep.FirstBadSeq != 23 || rep.ErrorsTotal != 2 || !rep.HashChainValid ||
		rep.Errors[1].Kind != verify.KindBlobMissing || rep.Errors[1].Seq != 43 {
		t.Error(rep.Text())
	}
}

// Every byte of a few records, and 1,000 random ones: each is named, no other is.
func TestEveryByte(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		f := newFlipper(t, 270)
		for i := range len(surgeon.Sample(269)) {
			f.try(i, 0, 130, 269)
		}
	})
	t.Run("random", func(t *testing.T) {
		f := newFlipper(t, 5000)
		for range 20 {
			seqs := make([]uint64, 52)
			for i := range seqs {
				seqs[i] = f.rng.Uint64N(5000)
			}
			slices.Sort(seqs)
			f.try(-1, slices.Compact(seqs)...)
		}
	})
}

// flipper alters bytes of records in the file itself.
type flipper struct {
	t    *testing.T
	dir  string
	path string
	recs map[string]surgeon.Span
	rng  *rand.Rand
}

func newFlipper(t *testing.T, n uint64) *flipper {
	f := &flipper{t: t, dir: write(t, n, surgeon.Sample, surgeon.Options{Marks: true}), rng: rand.New(rand.NewPCG(1, 2))}
	f.path = surgeon.FilePath(f.dir+"/audit", 0)
	raw, err := surgeon.ReadRaw(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if f.recs, err = raw.Entries("rec"); err != nil {
		t.Fatal(err)
	}
	return f
}

// try alters byte i of each record, a random one when i is negative, verifies, and
// mends them.
func (f *flipper) try(i int, seqs ...uint64) {
	type change struct {
		off  int64
		mask byte
	}
	var done []change
	var want []uint64
	for _, seq := range seqs {
		rec := f.recs[string(surgeon.Key(seq))]
		at := i
		if i < 0 {
			at = f.rng.IntN(rec.Len)
		}
		if at < rec.Len {
			done, want = append(done, change{int64(rec.Off + at), byte(1 + f.rng.IntN(255))}), append(want, seq)
		}
	}
	for _, c := range done {
		if err := surgeon.FlipFile(f.path, c.off, c.mask); err != nil {
			f.t.Fatal(err)
		}
	}
	rep := check(f.t, f.dir)
	var got []uint64
	for _, e := range rep.Errors {
		if e.Kind != verify.KindTimeWentBack && e.Kind != verify.KindMeta { // the time of a neighbour, or the last
			got = append(got, e.Seq)
		}
	}
	if !slices.Equal(got, want) || len(want) > 0 && rep.Result != verify.Tampered {
		f.t.Errorf("byte %d of %v (%v): found %v\n%s", i, want, done, got, rep.Text())
	}
	for _, c := range done {
		if err := surgeon.FlipFile(f.path, c.off, c.mask); err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestTruncatedFile(t *testing.T) {
	dir := write(t, 700, surgeon.Sample, surgeon.Options{})
	path := surgeon.FilePath(dir+"/audit", 0)
	raw, err := surgeon.ReadRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	end := raw.Pages() * raw.PageSize()
	sizes := make([]int, 0, end/512+100)
	for n := 0; n < end; n += 512 {
		sizes = append(sizes, n)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		sizes = append(sizes, rng.IntN(len(raw.Bytes)))
	}
	slices.Sort(sizes)
	for _, n := range slices.Backward(sizes) {
		if err := surgeon.Truncate(path, int64(n)); err != nil {
			t.Fatal(err)
		}
		rep := check(t, dir)
		if n >= end && n%raw.PageSize() == 0 {
			continue // nothing was there
		}
		if rep.Result != verify.Truncated || rep.Kind != verify.KindFileTruncated {
			t.Errorf("cut at %d:\n%s", n, rep.Text())
		}
	}
	// Behind the last page a cut shows only when the file says how long it was.
	if err := raw.Write(); err != nil {
		t.Fatal(err)
	}
	l := surgeon.Open(dir, 0, surgeon.Layout{})
	if err := l.Put("meta", []byte("size"), surgeon.Key(uint64(len(raw.Bytes)))); err != nil {
		t.Fatal(err)
	}
	if rep := check(t, dir); rep.Result != verify.OK {
		t.Error(rep.Text())
	}
	if err := surgeon.Truncate(path, int64(len(raw.Bytes)-raw.PageSize())); err != nil {
		t.Fatal(err)
	}
	if rep := check(t, dir); rep.Kind != verify.KindFileTruncated || *rep.FirstBadSeq != 700 {
		t.Error(rep.Text())
	}
}

// Several files: missing, spare, mixed up.
func TestFiles(t *testing.T) {
	lay := surgeon.Layout{TileBits: 4, SegmentBits: 6, FileBits: 8}
	name := func(dir string, n uint64) string { return surgeon.FilePath(dir+"/audit", n) }
	move := func(from, to uint64) func(dir string) error {
		return func(dir string) error { return os.Rename(name(dir, from), name(dir, to)) }
	}
	tests := []struct {
		name   string
		do     func(dir string) error
		result verify.Result
		kind   string
		seq    uint64
	}{
		{"middle file missing", func(d string) error { return os.Remove(name(d, 1)) }, "tampered", "file_missing", 256},
		{"first file missing", func(d string) error { return os.Remove(name(d, 0)) }, "tampered", "file_missing", 0},
		{"last file missing", func(d string) error { return os.Remove(name(d, 3)) }, "ok", "", 0},
		{"file in another's place", move(1, 4), "tampered", "file_missing", 256},
		{"extra file", func(d string) error {
			b, err := os.ReadFile(name(d, 0))
			return errors.Join(err, os.WriteFile(name(d, 7), b, 0o600))
		}, "tampered", "record_missing", 900},
		{"other names are left alone", func(d string) error {
			return os.WriteFile(filepath.Join(d, "audit", "log", "notes.db"), []byte("x"), 0o600)
		}, "ok", "", 0},
		{"empty file", func(d string) error { return os.Truncate(name(d, 2), 0) }, "truncated", "file_truncated", 512},
		{"segment head", func(d string) error {
			return surgeon.Open(d, 1, lay).FlipEntry("seg", surgeon.Key(5), 17, 1)
		}, "tampered", "segment_mismatch", 320},
		{"segment root", func(d string) error {
			return surgeon.Open(d, 1, lay).FlipEntry("seg", surgeon.Key(5), 50, 1)
		}, "tampered", "segment_mismatch", 320},
		{"segment time", func(d string) error {
			return surgeon.Open(d, 1, lay).FlipEntry("seg", surgeon.Key(5), 7, 1)
		}, "tampered", "segment_mismatch", 320},
		{"segment missing", func(d string) error {
			return surgeon.Open(d, 1, lay).Delete("seg", surgeon.Key(5))
		}, "tampered", "segment_mismatch", 320},
		{"sealed file short", func(d string) error { return surgeon.Open(d, 1, lay).RemoveLast(20) }, "tampered", "record_missing", 492},
		{"prev of the next file", func(d string) error {
			return surgeon.Open(d, 2, lay).FlipEntry("meta", []byte("prev"), 0, 1)
		}, "tampered", "meta_mismatch", 512},
		{"origin of the next file", func(d string) error {
			return surgeon.Open(d, 2, lay).FlipEntry("meta", []byte("origin"), 0, 1)
		}, "tampered", "meta_mismatch", 512},
		{"record in the next file", func(d string) error {
			return surgeon.Open(d, 2, lay).Replace(600, surgeon.Small(600))
		}, "tampered", "record_altered", 592},
		{"newer format in a later file", func(d string) error {
			return surgeon.Open(d, 2, lay).Put("meta", []byte("format"), []byte{0, 0, 0, 9})
		}, "unverifiable", "format_newer", 512},
		{"unknown bucket", func(d string) error {
			return surgeon.Open(d, 2, lay).Put("post", []byte("a"), []byte("b"))
		}, "ok", "", 0},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, 900, surgeon.Sample, surgeon.Options{Layout: lay})
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			rep, err := tryCheck(t, dir, lay)
			if err != nil {
				t.Fatal(err)
			}
			if rep.Result != c.result || rep.Kind != c.kind || rep.FirstBadSeq != nil && *rep.FirstBadSeq != c.seq {
				t.Errorf("want %s, %s, %d:\n%s", c.result, c.kind, c.seq, rep.Text())
			}
			if rep.ErrorsTotal > 6 {
				t.Errorf("one fault became many:\n%s", rep.Text())
			}
		})
	}
}
