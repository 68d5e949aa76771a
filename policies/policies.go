// Package policies holds verdict's standard policies: a Rego library under the
// package `verdict`, the data that configures it, its JSON schema, and a small
// example organisation. docs/policies.md describes them.
//
// Everything is plain Rego and JSON, so that stock OPA can read the folder too.
package policies

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// DecisionPath is the entry point: the rule that answers an AuthZEN evaluation
// object. CallerPath is the rule that may refuse a caller a class of endpoints.
const (
	DecisionPath = "verdict/authz/decision"
	CallerPath   = "verdict/system/authz/allow"
	// ProblemsPath lists faults of the data under data.verdict; it depends on
	// data alone, so that whoever loads data can warn of them.
	ProblemsPath = "verdict/authz/problems"
	// KeysPath is the rule that answers whether ciphertexts may be opened.
	KeysPath = "verdict/keys/decision"
)

const revisionDigits = 12

//go:embed verdict schema example
var files embed.FS

// Set is a library ready to load: modules by path, one data document, and the
// revision that names exactly this content.
type Set struct {
	Modules  map[string]string // path below this folder -> Rego source, tests left out
	Data     map[string]any    // the document at the root; numbers are json.Number
	Revision string            // first 12 hex digits of the digest over all files of the set
}

// Standard returns the library with the data it is shipped with.
func Standard() (*Set, error) {
	return load("verdict")
}

// Example returns the library with the example organisation's data laid over
// it. The example only adds members, it never changes one.
func Example() (*Set, error) {
	return load("verdict", "example/data.json")
}

// Schema returns the JSON schema (draft 7) of the document data.verdict.
// Its definitions `rule` and `zeroTrustPolicy` describe one rule and one policy.
func Schema() ([]byte, error) {
	return read("schema/verdict.json")
}

// ExampleInputs returns the two documented questions to the example
// organisation, each an AuthZEN evaluation object: one that is allowed and one
// that is denied.
func ExampleInputs() (allowed, denied []byte, err error) {
	if allowed, err = read("example/allowed/input.json"); err != nil {
		return nil, nil, err
	}
	denied, err = read("example/denied/input.json")
	return allowed, denied, err
}

func read(name string) ([]byte, error) {
	content, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read embedded policies: %w", err)
	}
	return content, nil
}

// load reads files and folders into one set.
func load(roots ...string) (*Set, error) {
	set := &Set{Modules: map[string]string{}, Data: map[string]any{}}
	var digests []string
	for _, root := range roots {
		err := fs.WalkDir(files, root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.rego") {
				return err
			}
			content, err := files.ReadFile(name)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			digests = append(digests, name+"\x00"+hex.EncodeToString(sum[:])+"\n")
			return set.add(name, content)
		})
		if err != nil {
			return nil, fmt.Errorf("read embedded policies: %w", err)
		}
	}
	slices.Sort(digests)
	sum := sha256.Sum256([]byte(strings.Join(digests, "")))
	set.Revision = hex.EncodeToString(sum[:])[:revisionDigits]
	return set, nil
}

func (s *Set) add(name string, content []byte) error {
	if path.Ext(name) == ".rego" {
		s.Modules[name] = string(content)
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// A data file of the library lies below the folder that is its place in the
	// document; the example's holds the document from the root.
	if folder := path.Dir(name); strings.HasPrefix(folder, "verdict/") {
		segments := strings.Split(folder, "/")
		for _, segment := range slices.Backward(segments) {
			value = map[string]any{segment: value}
		}
	}
	return merge(s.Data, value, name)
}

// merge lays src over dst: objects are merged, anything else may stand in one
// of the two only.
func merge(dst, src map[string]any, name string) error {
	for key, value := range src {
		old, exists := dst[key]
		if !exists {
			dst[key] = value
			continue
		}
		below, isObject := value.(map[string]any)
		into, wasObject := old.(map[string]any)
		if !isObject || !wasObject {
			return fmt.Errorf("%s: %q is already set", name, key)
		}
		if err := merge(into, below, name); err != nil {
			return err
		}
	}
	return nil
}
