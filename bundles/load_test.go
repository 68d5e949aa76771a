package bundles_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// content is a bundle by file name.
type content map[string]string

func (c content) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range c {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (c content) tarball(t *testing.T) string {
	t.Helper()
	var packed bytes.Buffer
	gz := gzip.NewWriter(&packed)
	tw := tar.NewWriter(gz)
	for name, text := range c {
		if err := tw.WriteHeader(&tar.Header{Name: "/" + name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoad(t *testing.T) {
	for _, tt := range []struct {
		name    string
		content content
		roots   string // joined by a space; "-": none
		data    string
		modules int
		err     string
	}{
		{
			name:    "everything counts that OPA counts",
			content: content{"app.rego": "package app", "data.json": `{"a": 1}`, "x/y/data.yaml": "b: [2]", "z/data.yml": "c: d", "notes.json": "{", "readme.md": "no"},
			roots:   "-", data: `{"a":1,"x":{"y":{"b":[2]}},"z":{"c":"d"}}`, modules: 1,
		},
		{name: "empty", content: content{"readme.md": "nothing"}, roots: "-", data: `{}`},
		{
			name:    "manifest without roots owns everything",
			content: content{".manifest": `{"revision": "r1"}`, "app.rego": "package app"},
			roots:   "", data: `{}`, modules: 1,
		},
		{
			name:    "manifest with roots",
			content: content{".manifest": `{"revision": "r1", "roots": ["app", "roles/eu"]}`, "app.rego": "package app", "roles/eu/data.json": `{"x": 1}`},
			roots:   "app roles/eu", data: `{"roles":{"eu":{"x":1}}}`, modules: 1,
		},
		{name: "data outside the roots", content: content{".manifest": `{"roots": ["app"]}`, "roles/data.json": `{"x": 1}`}, err: "do not permit data at path '/roles'"},
		{name: "module outside the roots", content: content{".manifest": `{"roots": ["app"]}`, "a.rego": "package other"}, err: "do not permit"},
		{name: "value twice", content: content{"data.json": `{"a": {"b": 1}}`, "a/data.json": `{"b": 2}`}, err: "data at /a/b is defined twice"},
		{name: "data that is no JSON", content: content{"data.json": `{"a": `}, err: "data.json"},
		{name: "data that is no object", content: content{"data.json": `[1]`}, err: "must be an object"},
		{name: "module that does not parse", content: content{"a.rego": "package a\n\nx = {"}, err: "rego_parse_error"},
		{name: "delta bundle", content: content{"patch.json": `{"data": [{"op": "upsert", "path": "/a", "value": 1}]}`, ".manifest": `{}`}, err: "delta bundle"},
		{name: "bad manifest", content: content{".manifest": `{"roots": 1}`}, err: "manifest"},
	} {
		for form, location := range map[string]func(*testing.T) string{"folder": tt.content.folder, "tarball": tt.content.tarball} {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				b, err := bundles.Load("test", location(t), bundles.Limits{})
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) {
						t.Fatalf("got error %v, want %q in it", err, tt.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				roots := "-"
				if b.Roots != nil {
					roots = strings.Join(b.Roots, " ")
				}
				data, err := eval.AppendJSON(nil, b.Data)
				if err != nil {
					t.Fatal(err)
				}
				if roots != tt.roots || string(data) != tt.data || len(b.Modules) != tt.modules {
					t.Errorf("got roots %q, data %s, %d modules; want %q, %s, %d", roots, data, len(b.Modules), tt.roots, tt.data, tt.modules)
				}
				if b.Revision == "" {
					t.Error("no revision")
				}
			})
		}
	}
}

// TestRevision wants one revision for the same files, however they are packed,
// and another one for others.
func TestRevision(t *testing.T) {
	files := content{"a.rego": "package a", "data.json": `{"x": 1}`}
	load := func(location string) string {
		b, err := bundles.Load("test", location, bundles.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return b.Revision
	}
	folder, tarball := load(files.folder(t)), load(files.tarball(t))
	if folder != tarball || len(folder) != 12 {
		t.Errorf("folder %q, tarball %q", folder, tarball)
	}
	files["data.json"] = `{"x": 2}`
	if changed := load(files.folder(t)); changed == folder {
		t.Error("other content, same revision")
	}
}

func TestLimits(t *testing.T) {
	files := content{"a.rego": "package a", "b.rego": "package b", "data.json": `{"x": "` + strings.Repeat("y", 1000) + `"}`}
	for name, limits := range map[string]bundles.Limits{
		"files": {Files: 2},
		"bytes": {Unpacked: 500},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bundles.Load("test", files.folder(t), limits); err == nil {
				t.Fatal("no error")
			}
		})
	}
	if _, err := bundles.Load("test", files.folder(t), bundles.Limits{Files: 2}); !errors.Is(err, bundles.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := bundles.Load("test", filepath.Join(t.TempDir(), "none"), bundles.Limits{}); err == nil {
		t.Error("a missing folder is no error")
	}
}
