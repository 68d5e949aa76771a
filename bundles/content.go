package bundles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxDataDepth is how deeply a pushed data file may be nested: as deeply as
// encoding/json reads, and far from the end of the stack.
const maxDataDepth = 10_000

// Bounds on what a manifest says.
const (
	maxRevision = 200 // bytes
	maxRoots    = 1000
)

// content is a bundle that was read from its archive.
type content struct {
	bundle *eval.Bundle
	tests  []*eval.Module // kept apart: they never reach a snapshot
	serial *int64         // metadata verdict.serial

	before *eval.Bundle            // what is active under the name; may be nil
	parsed map[string]*eval.Module // the modules of before, by id
}

// manifestOf decodes and checks the manifest; without one it is that of a
// bundle that owns everything.
func manifestOf(a *Archive) (*bundle.Manifest, error) {
	var m bundle.Manifest
	if raw := a.Manifest(); raw != nil {
		decoder := util.NewJSONDecoder(bytes.NewReader(raw))
		if err := decoder.Decode(&m); err != nil {
			return nil, refuse(CodeGate, GateManifest, "%s: %v", manifestName, err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return nil, refuse(CodeGate, GateManifest, "%s: something follows the object", manifestName)
		}
	}
	m.Init()
	if len(m.Revision) > maxRevision || strings.ContainsFunc(m.Revision, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, refuse(CodeGate, GateManifest, "the revision is longer than %d bytes or has control characters", maxRevision)
	}
	if len(m.WasmResolvers) > 0 {
		return nil, refuse(CodeGate, GateManifest, "it has entry points in WebAssembly, which are not evaluated here")
	}
	roots := *m.Roots
	if len(roots) > maxRoots {
		return nil, refuse(CodeGate, GateManifest, "more than %d roots", maxRoots)
	}
	for i, root := range roots {
		roots[i] = strings.Trim(root, "/")
		if roots[i] != "" && slices.Contains(strings.Split(roots[i], "/"), "") {
			return nil, refuse(CodeGate, GateManifest, "the root %q has an empty segment", root)
		}
		for _, other := range roots[:i] {
			if bundle.RootPathsOverlap(roots[i], other) {
				return nil, refuse(CodeGate, GateManifest, "the roots %q and %q overlap", other, roots[i])
			}
		}
	}
	return &m, nil
}

// serialOf finds verdict.serial in the manifest's metadata, written as one key
// or as two.
func serialOf(m *bundle.Manifest) (*int64, error) {
	v, ok := m.Metadata["verdict.serial"]
	if !ok {
		nested, _ := m.Metadata["verdict"].(map[string]any)
		if v, ok = nested["serial"]; !ok {
			return nil, nil
		}
	}
	number, ok := v.(json.Number)
	if !ok {
		return nil, refuse(CodeGate, GateManifest, "metadata verdict.serial is no integer")
	}
	n, err := number.Int64()
	if err != nil {
		return nil, refuse(CodeGate, GateManifest, "metadata verdict.serial is no integer of 64 bits")
	}
	return &n, nil
}

// read reads the bundle called name from its archive: one file after the
// other, so that beside what it becomes only one file is in memory. What is the
// same in another revision, before, is taken from there, so that two revisions
// take little more time and memory than one; before may be nil.
func read(name string, a *Archive, m *bundle.Manifest, before *eval.Bundle) (*content, error) {
	c := &content{
		bundle: &eval.Bundle{Name: name, Revision: m.Revision, Roots: *m.Roots, Data: ast.NewObject(), DataFiles: map[string]eval.DataFile{}},
		before: before, parsed: map[string]*eval.Module{},
	}
	if before != nil {
		for _, m := range before.Modules {
			c.parsed[m.ID] = m
		}
	}
	if c.bundle.Revision == "" {
		c.bundle.Revision = a.Digest[:shortRevision]
	}
	var err error
	if c.serial, err = serialOf(m); err != nil {
		return nil, err
	}
	if a.Manifest() != nil {
		encoded, err := json.Marshal(m)
		if err != nil {
			return nil, refuse(CodeGate, GateManifest, "%s: %v", manifestName, err)
		}
		if c.bundle.Manifest, _, err = eval.ParseInput(encoded, eval.Limits{Depth: maxDataDepth, Members: math.MaxInt}); err != nil {
			return nil, refuse(CodeGate, GateManifest, "%s: %v", manifestName, err)
		}
	}
	err = a.Each(func(f File, file io.Reader) error { return c.add(f, file, m) })
	if err != nil {
		return nil, err
	}
	if err := checkRoots(c.bundle); err != nil {
		return nil, refuse(CodeGate, GateManifest, "%v", err)
	}
	slices.SortFunc(c.bundle.Modules, func(x, y *eval.Module) int { return strings.Compare(x.ID, y.ID) })
	return c, nil
}

// add takes one file, if it is one that counts.
func (c *content) add(f File, file io.Reader, m *bundle.Manifest) error {
	base := path.Base(f.Path)
	isData := base == "data.json" || base == "data.yaml" || base == "data.yml"
	if !isData && !strings.HasSuffix(f.Path, regoSuffix) {
		return nil
	}
	if isData {
		return c.addDataFile(f, file)
	}
	raw, err := readAll(f, file)
	if err != nil {
		return err
	}
	return c.addModule(f.Path, raw, m)
}

// readAll reads a file whose size is known.
func readAll(f File, file io.Reader) ([]byte, error) {
	raw := make([]byte, f.Size)
	if _, err := io.ReadFull(file, raw); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return raw, nil
}

func (c *content) addDataFile(f File, file io.Reader) error {
	var old eval.DataFile
	if c.before != nil {
		old = c.before.DataFiles[f.Path]
	}
	found := eval.DataFile{SHA256: f.SHA256, Data: old.Data}
	if old.Data == nil || old.SHA256 != f.SHA256 {
		raw, err := readAll(f, file)
		if err != nil {
			return err
		}
		if found.Data, err = parseData(f.Path, raw); err != nil {
			return refuse(CodeGate, GateManifest, "%v", err)
		}
		found.Data = eval.ShareData(old.Data, found.Data)
	}
	c.bundle.DataFiles[f.Path] = found
	if err := mergeData(c.bundle, f.Path, found.Data); err != nil {
		return refuse(CodeGate, GateManifest, "%v", err)
	}
	return nil
}

func (c *content) addModule(name string, raw []byte, m *bundle.Manifest) error {
	id := path.Join(c.bundle.Name, name)
	options := ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1}
	version, err := m.RegoVersionForFile("/" + name)
	if err != nil {
		return refuse(CodeGate, GateManifest, "%s: %v", manifestName, err)
	}
	if version != ast.RegoUndefined {
		options.RegoVersion = version
	}
	module := c.parsed[id]
	if module == nil || module.Version != options.RegoVersion || !bytes.Equal(module.Raw, raw) {
		parsed, err := ast.ParseModuleWithOpts(id, string(raw), options)
		switch {
		case err != nil:
			return &Error{Code: CodeGate, Gate: GateCompile, Message: bounded(err.Error()), Err: err}
		case parsed == nil:
			return refuse(CodeGate, GateCompile, "%s: an empty module", id)
		}
		module = &eval.Module{ID: id, Raw: raw, Parsed: parsed, Version: options.RegoVersion}
	}
	pkg, err := module.Package()
	if err != nil {
		return refuse(CodeGate, GateCompile, "%v", err)
	}
	if strings.HasSuffix(name, testSuffix) {
		c.tests = append(c.tests, module)
		return nil
	}
	if !bundle.RootPathsContain(c.bundle.Roots, strings.Join(pkg, "/")) {
		return refuse(CodeGate, GateManifest, "the manifest's roots %q do not permit %v in %s", c.bundle.Roots, module.Parsed.Package, name)
	}
	c.bundle.Modules = append(c.bundle.Modules, module)
	return nil
}

// maxMessage bounds a message that holds somebody else's text.
const maxMessage = 4 << 10

func bounded(text string) string {
	if len(text) > maxMessage {
		return strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text
}
