// Package workload makes the requests that every engine is measured with, and
// the answer that each of them must get. Everything is generated from fixed
// seeds, so that figures of different days and machines compare.
package workload

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// DataSeed is the seed of math/rand for roles, grants and users.
	DataSeed = 42
	// RequestSeed is the seed of math/rand for the requests.
	RequestSeed = 7
	// Requests is how many distinct requests the first and third set hold.
	Requests = 20_000
)

// idDigits is the width of the number in a resource id ("res-99449412").
const idDigits = 8

// Request is one question and its known answer.
type Request struct {
	// Body is the body of a POST to OPA's Data API.
	Body []byte
	// Want is the JSON text that must stand behind "result" in the answer.
	Want []byte
	// ID is the offset in Body of the eight digits of the resource id.
	ID int
}

// Set is a policy, its data, and the requests to ask.
type Set struct {
	// Name is the name of the set on the command line.
	Name string
	// Title describes the set in one line of the report.
	Title string
	// Path is the entry point as the Data API spells it: "authz/allow".
	Path string
	// Files is the bundle: file name to content. The standard set's bundle is
	// left out for a server that has the standard policies already.
	Files map[string][]byte
	// Standard says that Files are verdict's own standard policies.
	Standard bool
	// FreshIDs says that the answers do not depend on the resource id, so
	// that a request which is sent again can be given a fresh one.
	FreshIDs bool
	// Cold says that a server must not see the set twice in its life.
	Cold bool
	// Requests are asked in this order, and then again from the start.
	Requests []Request
	// Checks are the same questions as messages for ext_authz, asked of
	// data.envoy.authz.allow; nil: the set has none.
	Checks []Request
}

// WriteBundle writes the set's files as a bundle folder.
func (s *Set) WriteBundle(dir string) error {
	for name, content := range s.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	return nil
}

// encode returns v as JSON. All values that come here are maps, slices,
// strings and numbers made by this package, which always encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("workload: " + err.Error())
	}
	return b
}
