// Package bundles brings policy bundles to the engine.
package bundles

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/loader"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// shortRevision is how many hex digits of the digest stand for a revision that
// the manifest does not give.
const shortRevision = 12

// ErrTooLarge is wrapped by the error of a bundle that exceeds a limit.
var ErrTooLarge = errors.New("bundle exceeds a limit")

// Limits bound what a bundle may hold. A zero field means its default.
type Limits struct {
	Packed   int64 // bytes of the archive; default 64 MiB
	Unpacked int64 // bytes of all files together; default 512 MiB
	Files    int   // entries of the archive; default 20,000
	Ratio    int   // how many times its size an archive may unpack to; default 200
}

func (l Limits) withDefaults() Limits {
	if l.Packed == 0 {
		l.Packed = 64 << 20
	}
	if l.Ratio == 0 {
		l.Ratio = 200
	}
	if l.Unpacked == 0 {
		l.Unpacked = 512 << 20
	}
	if l.Files == 0 {
		l.Files = 20_000
	}
	return l
}

// Load reads a bundle from a folder or a gzipped tarball, as opa run -b does:
// *.rego, data.json, data.yaml, data.yml and .manifest count, everything else
// is ignored. Without a manifest the bundle has no roots. name becomes the
// bundle's name.
func Load(name, location string, limits Limits) (*eval.Bundle, error) {
	limits = limits.withDefaults()
	seen := &census{limits: limits}
	files, isDir, err := loader.GetBundleDirectoryLoaderFS(nil, location, seen.skip)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	reader := bundle.NewCustomReader(files.WithSizeLimitBytes(limits.Unpacked)).
		WithSkipBundleVerification(true). // a path on the command line is the operator's own
		WithProcessAnnotations(true).
		WithLazyLoadingMode(true). // data is parsed here, straight to ast.Value
		WithSizeLimitBytes(limits.Unpacked)
	if isDir {
		reader = reader.WithBaseDir(location)
	}
	content, err := reader.Read()
	if err == nil {
		err = seen.err()
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", location, err)
	}
	if content.Type() == bundle.DeltaBundleType {
		return nil, fmt.Errorf("read bundle %s: a delta bundle (patch.json) cannot be loaded on its own", location)
	}
	return convert(name, &content, seen.manifest)
}

// census counts what a loader finds and stops it at the limits. The loader asks
// it whether to skip a file.
type census struct {
	limits   Limits
	files    int
	bytes    int64
	manifest bool
}

func (c *census) skip(name string, info fs.FileInfo, _ int) bool {
	if info.IsDir() {
		return false
	}
	if path.Base(filepath.ToSlash(name)) == bundle.ManifestExt {
		c.manifest = true
	}
	c.files++
	c.bytes += info.Size()
	return c.err() != nil
}

func (c *census) err() error {
	switch {
	case c.files > c.limits.Files:
		return fmt.Errorf("%w: more than %d files", ErrTooLarge, c.limits.Files)
	case c.bytes > c.limits.Unpacked:
		return fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, c.limits.Unpacked)
	}
	return nil
}

// convert turns what OPA's reader found into what the engine takes.
func convert(name string, content *bundle.Bundle, hasManifest bool) (*eval.Bundle, error) {
	b := &eval.Bundle{Name: name, Revision: content.Manifest.Revision, Data: ast.NewObject()}
	digest := newDigest()
	for _, m := range content.Modules {
		digest.add(m.RelativePath, m.Raw)
		id := path.Join(name, strings.TrimPrefix(filepath.ToSlash(m.RelativePath), "/"))
		b.Modules = append(b.Modules, &eval.Module{ID: id, Raw: m.Raw, Parsed: m.Parsed})
	}
	for _, raw := range content.Raw {
		if strings.HasSuffix(raw.Path, bundle.RegoExt) {
			continue
		}
		digest.add(raw.Path, raw.Value)
		if err := addData(b, raw.Path, raw.Value); err != nil {
			return nil, fmt.Errorf("bundle %s: %w", name, err)
		}
	}
	if hasManifest {
		encoded, err := json.Marshal(&content.Manifest)
		if err != nil {
			return nil, fmt.Errorf("bundle %s: encode manifest: %w", name, err)
		}
		if b.Manifest, _, err = eval.ParseInput(encoded, eval.Limits{}); err != nil {
			return nil, fmt.Errorf("bundle %s: manifest: %w", name, err)
		}
		digest.add(bundle.ManifestExt, encoded)
		b.Roots = *content.Manifest.Roots
		if err := checkRoots(b); err != nil {
			return nil, fmt.Errorf("bundle %s: %w", name, err)
		}
	}
	if b.Revision == "" {
		b.Revision = digest.short()
	}
	return b, nil
}

// addData parses a data file and puts it below the folder it lies in.
func addData(b *eval.Bundle, file string, raw []byte) error {
	data, err := parseData(file, raw)
	if err != nil {
		return err
	}
	return mergeData(b, file, data)
}

// parseData gives the document of a data file, from the root of the bundle.
func parseData(file string, raw []byte) (ast.Object, error) {
	var value ast.Value
	var err error
	if path.Ext(file) == ".json" {
		value, err = eval.ParseData(raw)
	} else {
		var decoded any
		if err = util.Unmarshal(raw, &decoded); err == nil {
			value, err = ast.InterfaceToValue(decoded)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", file, err)
	}
	folder := strings.Trim(path.Dir(filepath.ToSlash(file)), "/")
	if folder != "" && folder != "." {
		segments := strings.Split(folder, "/")
		for _, segment := range slices.Backward(segments) {
			value = ast.NewObject(ast.Item(ast.StringTerm(segment), ast.NewTerm(value)))
		}
	}
	obj, ok := value.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("data file %s: the document at the root must be an object", file)
	}
	return obj, nil
}

func mergeData(b *eval.Bundle, file string, data ast.Object) (err error) {
	if b.Data, err = eval.MergeData(b.Data, data); err != nil {
		return fmt.Errorf("data file %s: %w", file, err)
	}
	return nil
}

// checkRoots refuses data outside the manifest's roots; OPA's reader has
// checked the modules.
func checkRoots(b *eval.Bundle) error {
	return outsideRoots(b.Data, nil, b.Roots)
}

func outsideRoots(obj ast.Object, at, roots []string) error {
	return obj.Iter(func(k, v *ast.Term) error {
		key, _ := k.Value.(ast.String)
		here := append(at[:len(at):len(at)], string(key))
		within, above := false, false
		for _, root := range roots {
			segments := strings.Split(root, "/")
			within = within || root == "" || hasPrefix(here, segments)
			above = above || hasPrefix(segments, here)
		}
		if within {
			return nil
		}
		if child, ok := v.Value.(ast.Object); ok && above {
			return outsideRoots(child, here, roots)
		}
		return fmt.Errorf("manifest roots %v do not permit data at path '/%s'", roots, strings.Join(here, "/"))
	})
}

func hasPrefix(path, prefix []string) bool {
	return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// digest is SHA-256 over the sorted list of (path, SHA-256 of the bytes), so
// that packing the same files again gives the same digest.
type digest struct {
	lines []string
}

func newDigest() *digest { return &digest{} }

func (d *digest) add(file string, content []byte) {
	sum := sha256.Sum256(content)
	d.lines = append(d.lines, strings.TrimPrefix(filepath.ToSlash(file), "/")+"\x00"+hex.EncodeToString(sum[:])+"\n")
}

func (d *digest) short() string {
	slices.Sort(d.lines)
	h := sha256.New()
	for _, line := range d.lines {
		h.Write([]byte(line))
	}
	return hex.EncodeToString(h.Sum(nil))[:shortRevision]
}
