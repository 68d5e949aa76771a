package pack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/verdict-pdp/verdict/bundles/pack"
)

func folder() fstest.MapFS {
	old := time.Unix(1, 0)
	return fstest.MapFS{
		"b/policy.rego":      {Data: []byte("package b"), ModTime: time.Now()},
		"a/policy.rego":      {Data: []byte("package a"), ModTime: old},
		"a/policy_test.rego": {Data: []byte("package a_test"), Mode: 0o600},
		"a/data.json":        {Data: []byte("{}")},
		"data.yaml":          {Data: []byte("a: 1")},
		".manifest":          {Data: []byte(`{"revision": "r1", "metadata": {"n": 12345678901234567890, "t": "<b>"}}`)},
		".signatures.json":   {Data: []byte("{}")},
		"a/.manifest":        {Data: []byte("{}")},
		"readme.md":          {Data: []byte("no")},
		"a/other.json":       {Data: []byte("no")},
	}
}

func names(files []pack.File) string {
	var list []string
	for _, f := range files {
		list = append(list, f.Name)
	}
	return strings.Join(list, " ")
}

func write(t *testing.T, files []pack.File) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := pack.Write(&out, files); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFolder(t *testing.T) {
	files, err := pack.Folder(folder())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(files), ".manifest a/data.json a/policy.rego a/policy_test.rego b/policy.rego data.yaml"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}

func TestFolderRefuses(t *testing.T) {
	link := folder()
	link["c.rego"] = &fstest.MapFile{Mode: fs.ModeSymlink, Data: []byte("/etc/passwd")}
	if _, err := pack.Folder(link); err == nil || !strings.Contains(err.Error(), "c.rego is not a regular file") {
		t.Errorf("a link: %v", err)
	}
	if _, err := pack.Folder(fstest.MapFS{"readme.md": {}}); !errors.Is(err, pack.ErrEmpty) {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestSameBytes: order, times and modes of the files do not count.
func TestSameBytes(t *testing.T) {
	files, err := pack.Folder(folder())
	if err != nil {
		t.Fatal(err)
	}
	first := write(t, files)
	slices.Reverse(files)
	if !bytes.Equal(first, write(t, files)) {
		t.Error("the same files gave other bytes")
	}
	zipped, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if !zipped.ModTime.IsZero() || zipped.Name != "" {
		t.Errorf("gzip header %+v", zipped.Header)
	}
	var got []pack.File
	for entries := tar.NewReader(zipped); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Mode != 0o644 || h.Uname != "" {
			t.Errorf("%s: header %+v", h.Name, h)
		}
		content, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, pack.File{Name: h.Name, Content: content})
	}
	if !bytes.Equal(first, write(t, got)) || len(got) != len(files) {
		t.Errorf("unpacked %s", names(got))
	}
}

func TestSetManifest(t *testing.T) {
	for _, tt := range []struct {
		name     string
		manifest string
		revision string
		roots    []string
		want     string
	}{
		{"nothing to set", `{"x":1}`, "", nil, `{"x":1}`},
		{"nothing there", "", "r2", []string{"a", "b"}, "{\n  \"revision\": \"r2\",\n  \"roots\": [\n    \"a\",\n    \"b\"\n  ]\n}\n"},
		{
			"the rest stays", `{"metadata": {"n": 12345678901234567890, "t": "<b>"}, "revision": "r1"}`, "r2", nil,
			"{\n  \"metadata\": {\n    \"n\": 12345678901234567890,\n    \"t\": \"<b>\"\n  },\n  \"revision\": \"r2\"\n}\n",
		},
		{"no roots at all", `{"revision": "r1"}`, "", []string{}, "{\n  \"revision\": \"r1\",\n  \"roots\": []\n}\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := []pack.File{{Name: "a.rego"}}
			if tt.manifest != "" {
				files = append(files, pack.File{Name: pack.ManifestName, Content: []byte(tt.manifest)})
			}
			got, err := pack.SetManifest(files, tt.revision, tt.roots)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || string(got[1].Content) != tt.want {
				t.Errorf("%q, want %q", got[len(got)-1].Content, tt.want)
			}
			if len(files) == 2 && string(files[1].Content) != tt.manifest {
				t.Error("what was given has changed")
			}
		})
	}
	if _, err := pack.SetManifest([]pack.File{{Name: pack.ManifestName, Content: []byte("[]")}}, "r", nil); err == nil {
		t.Error("a manifest that is no object was taken")
	}
}
