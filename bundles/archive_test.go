package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/verdict-pdp/verdict/bundles"
)

func TestArchives(t *testing.T) {
	manifest := entry{name: ".manifest", text: `{"revision": "r1", "roots": ["app"]}`}
	rego := entry{name: "app.rego", text: "package app\n\nx := 1"}
	var whole bytes.Buffer
	gz := gzip.NewWriter(&whole)
	if _, err := gz.Write([]byte(strings.Repeat("no tar", 200))); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	good := pack(t, manifest, rego)
	for _, tt := range []struct {
		name   string
		packed []byte
		part   string // of the refusal; empty: taken
	}{
		{"plain", good, ""},
		{"as opa build names files", pack(t, entry{name: "/.manifest", text: manifest.text}, entry{name: "/app.rego", text: rego.text}), ""},
		{"as tar of a folder names files", pack(t, entry{name: "./", kind: tar.TypeDir}, entry{name: "./.manifest", text: manifest.text}, entry{name: "./app.rego", text: rego.text}), ""},
		{"with a global header", pack(t, entry{name: "pax_global_header", kind: tar.TypeXGlobalHeader}, manifest, rego), ""},
		{"with files that do not count", pack(t, manifest, rego, entry{name: "README.md", text: "x"}, entry{name: "input.json", text: "{"}), ""},
		{"empty", nil, "not a gzipped tarball"},
		{"no gzip", []byte("PK\x03\x04 a zip file"), "not a gzipped tarball"},
		{"no tar", whole.Bytes(), "not a whole tarball"},
		{"nothing in it", pack(t), "holds nothing"},
		{"cut off", good[:len(good)-20], "not a whole tarball"},
		{"cut off at the end", good[:len(good)-4], ""},
		{"something behind", append(bytes.Clone(good), "more"...), "something follows"},
		{"up and out", pack(t, manifest, rego, entry{name: "../../etc/cron.d/x", text: "x"}), "leads out of the bundle"},
		{"down and out", pack(t, manifest, rego, entry{name: "a/../../x.rego", text: "x"}), "leads out of the bundle"},
		{"up inside", pack(t, manifest, rego, entry{name: "a/../b.rego", text: "package b"}), "leads out of the bundle"},
		{"backslashes", pack(t, manifest, rego, entry{name: `..\x.rego`, text: "x"}), "bytes that a bundle's paths do not have"},
		{"a drive", pack(t, manifest, rego, entry{name: "c:/x.rego", text: "x"}), "absolute path"},
		{"absolute", pack(t, manifest, rego, entry{name: "/etc/passwd", text: "x"}), "absolute path"},
		{"absolute first", pack(t, entry{name: "/etc/passwd", text: "x"}, manifest, rego), "absolute path"},
		{"two slashes", pack(t, entry{name: "//host/x.rego", text: "x"}), "absolute path"},
		{"no UTF-8", pack(t, manifest, entry{name: "a\xff.rego", text: "x"}), "bytes that a bundle's paths do not have"},
		{"a long path", pack(t, manifest, entry{name: strings.Repeat("a/", 600) + "x.rego", text: "x"}), "a path of"},
		{"a symbolic link", pack(t, manifest, rego, entry{name: "data.json", kind: tar.TypeSymlink, link: "/etc/passwd"}), "is a link to"},
		{"a hard link", pack(t, manifest, rego, entry{name: "x.rego", kind: tar.TypeLink, link: "app.rego"}), "is a link to"},
		{"a device", pack(t, manifest, rego, entry{name: "x", kind: tar.TypeChar}), "no regular file"},
		{"a pipe", pack(t, manifest, rego, entry{name: "x", kind: tar.TypeFifo}), "no regular file"},
		{"one file twice", pack(t, manifest, rego, rego), "is there twice"},
		{"one file twice by another spelling", pack(t, manifest, rego, entry{name: "./app.rego", text: "package app"}), "is there twice"},
		{"a manifest twice", pack(t, manifest, manifest, rego), "is there twice"},
		{"a manifest elsewhere", pack(t, manifest, rego, entry{name: "sub/.manifest", text: "{}"}), "does not stand at the root"},
		{"a manifest by its ending", pack(t, rego, entry{name: "x.manifest", text: "{}"}), "does not stand at the root"},
		{"a manifest in protobuf", pack(t, rego, entry{name: ".manifest.pb", text: "x"}), "protobuf"},
		{"signatures elsewhere", pack(t, manifest, rego, entry{name: "a/.signatures.json", text: "{}"}), "does not stand at the root"},
		{"a delta bundle", pack(t, entry{name: "patch.json", text: `{"data": []}`}), "delta bundle"},
		{"a delta bundle inside", pack(t, manifest, rego, entry{name: "a/patch.json", text: `{"data": []}`}), "delta bundle"},
		{"a large manifest", pack(t, entry{name: ".manifest", text: noise(1<<20 + 1)}), ".manifest is larger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			result, err := b.push("app", tt.packed)
			if tt.part == "" {
				if tt.name == "cut off at the end" {
					wantRefusal(t, err, bundles.CodeArchive, bundles.GateArchive, "")
					return
				}
				if err != nil || result.Status != "active" {
					t.Fatalf("%+v, %v", result, err)
				}
				return
			}
			refused, ok := errors.AsType[*bundles.Error](err)
			if !ok || refused.Gate != bundles.GateArchive || !strings.Contains(refused.Message, tt.part) {
				t.Fatalf("got %v, want %q", err, tt.part)
			}
			last := b.recorder.last(t)
			if last.Event != "bundle_refused" || last.Outcome != "failure" || !strings.Contains(string(last.Details), `"gate":"archive"`) {
				t.Errorf("record %+v", last)
			}
			if kept := b.kept(); len(kept) != 0 {
				t.Errorf("left behind: %v", kept)
			}
		})
	}
}

// noise is text that does not compress well.
func noise(n int) string {
	var b strings.Builder
	for sum := sha256.Sum256(nil); b.Len() < n; sum = sha256.Sum256(sum[:]) {
		fmt.Fprintf(&b, "%x", sum)
	}
	return b.String()[:n]
}

// TestHostileArchives wants archives that unpack to far more than they are to
// be refused early, in little memory.
func TestHostileArchives(t *testing.T) {
	zeros := func(n int64) io.Reader { return io.LimitReader(zeroes{}, n) }
	for _, tt := range []struct {
		name  string
		write func(tw *tar.Writer) error
		part  string
	}{
		{"10 GB of zeros", func(tw *tar.Writer) error {
			if err := tw.WriteHeader(&tar.Header{Name: "data.json", Size: 10 << 30, Mode: 0o644}); err != nil {
				return err
			}
			_, err := io.Copy(tw, zeros(10<<30))
			return err
		}, "more than 536870912 bytes unpacked"},
		{"500 MB of zeros", func(tw *tar.Writer) error {
			if err := tw.WriteHeader(&tar.Header{Name: "data.json", Size: 500 << 20, Mode: 0o644}); err != nil {
				return err
			}
			_, err := io.Copy(tw, zeros(500<<20))
			return err
		}, "more than 200 times its size"},
		{"1 million tiny files", func(tw *tar.Writer) error {
			for i := range 1_000_000 {
				if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%d.rego", i), Size: 1, Mode: 0o644}); err != nil {
					return err
				}
				if _, err := tw.Write([]byte("x")); err != nil {
					return err
				}
			}
			return nil
		}, "more than 20000 files"},
		{"long headers", func(tw *tar.Writer) error {
			for i := range 1000 {
				h := &tar.Header{Name: fmt.Sprintf("f%d", i), Mode: 0o644, PAXRecords: map[string]string{"VERDICT.x": strings.Repeat("x", 1<<19)}}
				if err := tw.WriteHeader(h); err != nil {
					return err
				}
			}
			return nil
		}, "more than 200 times its size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			r, w := io.Pipe()
			go func() { // ends when the reader is closed
				gz := gzip.NewWriter(w)
				tw := tar.NewWriter(gz)
				err := tt.write(tw)
				w.CloseWithError(errors.Join(err, tw.Close(), gz.Close()))
			}()
			peak := watchHeap(t)
			_, err := b.push("app", nil, func(p *bundles.PushRequest) { p.Body = r })
			r.Close()
			wantRefusal(t, err, bundles.CodeTooLarge, bundles.GateArchive, tt.part)
			if grown := peak(); grown > 64<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
			if kept := b.kept(); len(kept) != 0 {
				t.Errorf("left behind: %v", kept)
			}
		})
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// watchHeap gives a function that stops it and tells by how much the heap had
// grown at most.
func watchHeap(t *testing.T) func() uint64 {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start := m.HeapAlloc
	var peak atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ended by the function
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapAlloc))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return peak.Load() - min(peak.Load(), start)
	}
}

func TestPackedLimit(t *testing.T) {
	b := open(t, t.TempDir(), func(o *bundles.Options) { o.Limits = bundles.Limits{Packed: 100} })
	_, err := b.push("app", files(t, app("r1")))
	wantRefusal(t, err, bundles.CodeTooLarge, bundles.GateArchive, "more than 100 bytes packed")
}

func TestContentDigest(t *testing.T) {
	packed := files(t, app("r1"))
	for _, tt := range []struct {
		field, part string
	}{
		{"sha-256=:" + sum256(packed) + ":", ""},
		{"md5=:AAAA:, sha-256=:" + sum256(packed) + ":", ""},
		{"sha-256=:" + sum256(packed[1:]) + ":", "is not what Content-Digest"},
		{"md5=:AAAA:", "are known here"},
		{"sha-256=" + sum256(packed), "write sha-256"},
		{"sha-256=:?:", "no base64"},
	} {
		b := newBench(t)
		_, err := b.push("app", packed, func(p *bundles.PushRequest) { p.ContentDigest = tt.field })
		if tt.part == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.field, err)
			}
			continue
		}
		wantRefusal(t, err, bundles.CodeDigest, "", tt.part)
		if len(b.kept()) != 0 || b.recorder.last(t).Event != "bundle_refused" {
			t.Errorf("%s: %v kept, %v", tt.field, b.kept(), b.recorder.events())
		}
	}
}

// FuzzArchive: no panic, an error comes without a bundle, and what is taken is
// what OPA's own reader takes, with the same modules and data.
func FuzzArchive(f *testing.F) {
	seeds := [][4]string{
		{".manifest", `{"revision": "r1", "roots": ["app"]}`, "app.rego", "package app\n\nx := 1"},
		{"/data.json", `{"a": {"b": 1}}`, "/a/data.yaml", "c: [1, 2]"},
		{"./a/b/data.json", `[1, {"x": null}]`, "x_test.rego", "package x"},
		{"../x", "", "a/.manifest", "{}"},
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, name1, text1, name2, text2 string) {
		var packed bytes.Buffer
		gz := gzip.NewWriter(&packed)
		tw := tar.NewWriter(gz)
		for _, e := range []entry{{name: name1, text: text1}, {name: name2, text: text2}} {
			if tw.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.text)), Mode: 0o644, Typeflag: tar.TypeReg}) != nil {
				return // a name that no tarball has
			}
			if _, err := io.WriteString(tw, e.text); err != nil {
				return
			}
		}
		if err := errors.Join(tw.Close(), gz.Close()); err != nil {
			t.Fatal(err)
		}
		taken, err := bundles.ReadPacked("app", packed.Bytes(), filepath.Join(t.TempDir(), "x.tar.gz"))
		if err != nil {
			if taken != nil {
				t.Fatalf("a bundle with %v", err)
			}
			return
		}
		theirs, err := bundle.NewReader(&packed).WithSkipBundleVerification(true).Read()
		if err != nil {
			if strings.Contains(name1+name2, "_test.rego") {
				return // tests are kept apart here, wherever they stand
			}
			t.Fatalf("OPA refuses what is taken here: %v", err)
		}
		data, err := ast.InterfaceToValue(theirs.Data)
		if err != nil {
			t.Fatal(err)
		}
		if taken.Data.Compare(data) != 0 {
			t.Fatalf("data %v, OPA has %v", taken.Data, data)
		}
	})
}
