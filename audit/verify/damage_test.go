package verify_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

// The last page that holds records, replaced.
func TestLastPage(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	tests := []struct {
		name   string
		do     func(r *surgeon.Raw, page int)
		result verify.Result
		kind   string
	}{
		{"zeros", func(r *surgeon.Raw, p int) { r.FillPage(p, func(b []byte) { clear(b) }, true) }, "damaged", "page_damaged"},
		{"random", func(r *surgeon.Raw, p int) { r.FillPage(p, func(b []byte) { rng.Read(b) }, true) }, "damaged", "page_damaged"},
		{"zeros, header kept", func(r *surgeon.Raw, p int) { r.FillPage(p, func(b []byte) { clear(b) }, false) }, "damaged", "page_damaged"},
		{"random, header kept", func(r *surgeon.Raw, p int) { r.FillPage(p, func(b []byte) { rng.Read(b) }, false) }, "damaged", "page_damaged"},
		{"as it was before", func(r *surgeon.Raw, p int) { r.SetCount(p, r.Count(p)-1) }, "truncated", "record_missing"},
		{"the page before", func(r *surgeon.Raw, p int) {
			pages, _ := r.LeafPages("rec")
			r.CopyPage(pages[len(pages)-2], p)
		}, "damaged", "page_damaged"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, 1000, surgeon.Sample, surgeon.Options{})
			raw, err := surgeon.ReadRaw(surgeon.FilePath(dir+"/audit", 0))
			if err != nil {
				t.Fatal(err)
			}
			pages, err := raw.LeafPages("rec")
			if err != nil {
				t.Fatal(err)
			}
			last := pages[len(pages)-1]
			want := uint64(1000 - raw.Count(last))
			if c.result == verify.Truncated {
				want = 999
			}
			c.do(raw, last)
			if err := raw.Write(); err != nil {
				t.Fatal(err)
			}
			rep := check(t, dir)
			if rep.Result != c.result || rep.Kind != c.kind || *rep.FirstBadSeq != want {
				t.Errorf("want %s, %s, %d:\n%s", c.result, c.kind, want, rep.Text())
			}
		})
	}
}

// A page in the middle, and bbolt's own bookkeeping.
func TestContainer(t *testing.T) {
	le := func(b []byte, v uint64) {
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
	}
	tests := []struct {
		name   string
		do     func(t *testing.T, r *surgeon.Raw)
		result verify.Result
		kind   string
	}{
		{"meta page in force", func(_ *testing.T, r *surgeon.Raw) { r.Bytes[r.Meta(true)+30] ^= 1 }, "damaged", "page_damaged"},
		{"other meta page", func(_ *testing.T, r *surgeon.Raw) { r.Bytes[r.Meta(false)+30] ^= 1 }, "damaged", "page_damaged"},
		{"both meta pages", func(_ *testing.T, r *surgeon.Raw) {
			r.Bytes[r.Meta(true)+30] ^= 1
			r.Bytes[r.Meta(false)+30] ^= 1
		}, "damaged", "page_damaged"},
		{"root out of range", func(_ *testing.T, r *surgeon.Raw) {
			m := r.Meta(true)
			le(r.Bytes[m+32:m+40], 1<<50)
			r.SealMeta(m)
		}, "damaged", "page_damaged"},
		{"pages without end", func(_ *testing.T, r *surgeon.Raw) {
			m := r.Meta(true)
			le(r.Bytes[m+56:m+64], 1<<30)
			r.SealMeta(m)
		}, "truncated", "file_truncated"},
		{"page size 0", func(_ *testing.T, r *surgeon.Raw) {
			m := r.Meta(true)
			le(r.Bytes[m+24:m+28], 0)
			r.SealMeta(m)
		}, "damaged", "page_damaged"},
		{"branch refers to itself", func(t *testing.T, r *surgeon.Raw) {
			root, err := r.BucketRoot("rec")
			if err != nil || !r.IsBranch(root) {
				t.Fatal("no branch", err)
			}
			r.SetChild(root, r.Count(root)-1, uint64(root/r.PageSize()))
		}, "damaged", "page_damaged"},
		{"two references to one page", func(t *testing.T, r *surgeon.Raw) {
			root, err := r.BucketRoot("rec")
			if err != nil {
				t.Fatal(err)
			}
			r.SetChild(root, r.Count(root)-1, uint64(r.Child(root, 0)/r.PageSize()))
		}, "damaged", "page_damaged"},
		{"reference out of range", func(t *testing.T, r *surgeon.Raw) {
			root, err := r.BucketRoot("rec")
			if err != nil {
				t.Fatal(err)
			}
			r.SetChild(root, 1, 1<<40)
		}, "damaged", "page_damaged"},
		{"more elements than fit", func(t *testing.T, r *surgeon.Raw) {
			pages, err := r.LeafPages("rec")
			if err != nil {
				t.Fatal(err)
			}
			r.SetCount(pages[1], 0xffff)
		}, "damaged", "page_damaged"},
		{"a page in use is listed as free", func(t *testing.T, r *surgeon.Raw) {
			off, ok := r.Freelist()
			pages, err := r.LeafPages("rec")
			if !ok || err != nil || r.Count(off) == 0 {
				t.Fatal("no free list", err)
			}
			le(r.Bytes[off+16:off+24], uint64(pages[0]/r.PageSize()))
		}, "damaged", "page_damaged"},
		{"free list out of range", func(t *testing.T, r *surgeon.Raw) {
			off, ok := r.Freelist()
			if !ok {
				t.Fatal("no free list")
			}
			r.SetCount(off, 0xfffe)
		}, "damaged", "page_damaged"},
		{"header of a page", func(t *testing.T, r *surgeon.Raw) {
			pages, err := r.LeafPages("rec")
			if err != nil {
				t.Fatal(err)
			}
			r.Bytes[pages[3]+8] ^= 0x41
		}, "damaged", "page_damaged"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, 1000, surgeon.Sample, surgeon.Options{Freelist: true})
			raw, err := surgeon.ReadRaw(surgeon.FilePath(dir+"/audit", 0))
			if err != nil {
				t.Fatal(err)
			}
			c.do(t, raw)
			if err := raw.Write(); err != nil {
				t.Fatal(err)
			}
			if rep := check(t, dir); rep.Result != c.result || rep.Kind != c.kind {
				t.Errorf("want %s, %s:\n%s", c.result, c.kind, rep.Text())
			}
		})
	}
}

// Random bits anywhere in the file: no crash, and no ok when a record's bytes, or
// anything that is stored about them, changed.
func TestRandomFlips(t *testing.T) {
	dir := write(t, 700, surgeon.Sample, surgeon.Options{Marks: true, Freelist: true})
	path := surgeon.FilePath(dir+"/audit", 0)
	raw, err := surgeon.ReadRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	var held []surgeon.Span // what bytes hold entries
	for _, bucket := range []string{"rec", "tile"} {
		spans, err := raw.Entries(bucket)
		if err != nil {
			t.Fatal(err)
		}
		held = slices.AppendSeq(held, maps.Values(spans))
	}
	rng := rand.New(rand.NewPCG(7, 8))
	used := raw.Pages() * raw.PageSize()
	found := 0
	for i := range 300 {
		off, mask := rng.IntN(used), byte(1)<<rng.IntN(8)
		if i%2 == 0 { // headers and elements, where the structure is
			off = off/raw.PageSize()*raw.PageSize() + rng.IntN(128)
		}
		if err := surgeon.FlipFile(path, int64(off), mask); err != nil {
			t.Fatal(err)
		}
		rep := check(t, dir)
		if rep.Result != verify.OK {
			found++
		} else if slices.ContainsFunc(held, func(h surgeon.Span) bool { return off >= h.Off && off < h.Off+h.Len }) {
			t.Errorf("byte %d, mask %#x: ok", off, mask)
		}
		if err := surgeon.FlipFile(path, int64(off), mask); err != nil {
			t.Fatal(err)
		}
	}
	if found < 150 {
		t.Errorf("%d of 300 flips found", found)
	}
	if rep := check(t, dir); rep.Result != verify.OK {
		t.Error(rep.Text())
	}
}

// memory is a Source that may do what no good one does.
type memory struct {
	files   []uint64
	buckets map[string][][2][]byte
	panics  string
	err     error
}

func (m *memory) Files(context.Context) ([]uint64, error) { return m.files, m.err }

func (m *memory) Inspect(context.Context, uint64) ([]string, error) {
	return []string{"meta", "rec"}, nil
}

func (m *memory) Walk(_ context.Context, _ uint64, bucket string, fn func(k, v []byte) error) error {
	for _, e := range m.buckets[bucket] {
		if err := fn(e[0], e[1]); err != nil {
			return err
		}
	}
	if bucket == m.panics {
		panic("page 7: unexpected")
	}
	return nil
}

func TestSources(t *testing.T) {
	gone := errors.New("gone")
	ctx := context.Background()
	if _, err := verify.Run(ctx, &memory{err: gone}, verify.Options{}); !errors.Is(err, gone) {
		t.Errorf("error of the source: %v", err)
	}
	if _, err := verify.Run(ctx, &memory{}, verify.Options{}); !errors.Is(err, verify.ErrEmpty) {
		t.Errorf("no files: %v", err)
	}
	recs := [][2][]byte{
		{surgeon.Key(0), surgeon.Sample(0)},
		{surgeon.Key(0), surgeon.Sample(0)},
		{surgeon.Key(2), surgeon.Sample(2)},
		{surgeon.Key(1), surgeon.Sample(1)},
	}
	rep, err := verify.Run(ctx, &memory{files: []uint64{0}, buckets: map[string][][2][]byte{"rec": recs}}, verify.Options{})
	if err != nil || rep.Result != verify.Tampered {
		t.Errorf("keys out of order: %v\n%s", err, rep.Text())
	}
	for _, bucket := range []string{"meta", "rec", "tile", "blob"} {
		rep, err := verify.Run(ctx, &memory{files: []uint64{0}, panics: bucket}, verify.Options{})
		if err != nil || rep.ErrorsTotal == 0 || !slices.ContainsFunc(rep.Errors, func(f verify.Finding) bool { return f.Kind == verify.KindPageDamaged }) {
			t.Errorf("panic in %s: %v\n%s", bucket, err, rep.Text())
		}
	}
}

// growing shows the log in dir as one that has grown since its meta was read.
type growing struct {
	verify.Source
	meta map[string][]byte
}

func (g growing) Walk(ctx context.Context, file uint64, bucket string, fn func(k, v []byte) error) error {
	return g.Source.Walk(ctx, file, bucket, func(k, v []byte) error {
		if old, ok := g.meta[string(k)]; ok && bucket == "meta" {
			v = old
		}
		return fn(k, v)
	})
}

func TestLive(t *testing.T) {
	early, late := write(t, 700, surgeon.Sample, surgeon.Options{Marks: true}), write(t, 1500, surgeon.Sample, surgeon.Options{Marks: true})
	old := map[string][]byte{}
	for _, key := range []string{"next", "head", "tree", "time", "marks"} {
		v, err := surgeon.Open(early, 0, surgeon.Layout{}).Get("meta", []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		old[key] = v
	}
	src := open(t, late)
	for live, want := range map[bool]verify.Result{true: verify.OK, false: verify.Tampered} {
		var calls int
		rep, err := verify.Run(context.Background(), growing{src, old}, verify.Options{Live: live, Progress: func(uint64, uint64) { calls++ }})
		if err != nil || rep.Result != want || rep.VerifiedEvents != 700 || calls != 0 {
			t.Errorf("live %v: %v\n%s", live, err, rep.Text())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := verify.Run(ctx, src, verify.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzFile(f *testing.F) {
	dir := write(f, 40, surgeon.Small, surgeon.Options{Freelist: true, Batch: 9})
	path := surgeon.FilePath(dir+"/audit", 0)
	sound, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	sound = bytes.TrimRight(sound, "\x00")
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 30, 1, 0, 16, 8, 0xff})
	f.Add([]byte{1, 0, 0, 32, 1, 0, 16, 32, 2})
	f.Add([]byte{0, 0, 32, 12, 0x80})
	// The first byte says whether the meta pages get right checksums again; then four
	// bytes each alter one byte of the file: offset (3), mask.
	f.Fuzz(func(t *testing.T, mutation []byte) {
		b := bytes.Clone(sound)
		seal := len(mutation) > 0 && mutation[0]&1 == 1
		mutation = mutation[min(1, len(mutation)):]
		altered := false
		for ; len(mutation) >= 4; mutation = mutation[4:] {
			off := (int(mutation[0])<<16 | int(mutation[1])<<8 | int(mutation[2])) % len(b)
			b[off] ^= mutation[3]
			altered = altered || b[off] != sound[off]
		}
		raw := surgeon.Raw{Path: path, Bytes: b}
		if seal {
			raw.SealMeta(0)
			raw.SealMeta(os.Getpagesize())
		}
		if err := raw.Write(); err != nil {
			t.Fatal(err)
		}
		rep, err := tryCheck(t, dir, surgeon.Layout{TileBits: 8, SegmentBits: 16, FileBits: 20})
		if err != nil {
			if !errors.Is(err, verify.ErrEmpty) {
				t.Fatal(err)
			}
			return
		}
		if rep.Result == verify.OK && (rep.VerifiedEvents != 40 || rep.ErrorsTotal != 0) {
			t.Errorf("ok, and\n%s", rep.Text())
		}
		if rep.Result == verify.OK && altered {
			// What changed must be slack: the records are those that were written.
			want := surgeon.GenesisHead("test.example/log")
			for seq := range uint64(40) {
				want = surgeon.NextHead(want, surgeon.LeafHash(surgeon.Small(seq)))
			}
			if rep.Head != hexOf(want) {
				t.Errorf("ok with another head\n%s", rep.Text())
			}
		}
	})
}
