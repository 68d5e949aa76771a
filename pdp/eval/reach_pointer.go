package eval

import (
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Reads tells whether anything at, above or below a JSON pointer (RFC 6901) into
// the input may be read: false means that the value there, or that there is none,
// changes nothing. Parts of the pointer may also be percent-encoded, as those of
// masking rules are.
func (r Reach) Reads(pointer string) bool {
	var parts []string
	if pointer = strings.TrimPrefix(pointer, "/"); pointer != "" {
		parts = strings.Split(pointer, "/")
	}
	for _, ref := range r.Inputs {
		if meets(ref[1:], parts) {
			return true
		}
	}
	return false
}

// meets tells whether one of two places is the other or lies in it.
func meets(ref ast.Ref, parts []string) bool {
	for i := range min(len(ref), len(parts)) {
		if !names(parts[i], ref[i].Value) {
			return false
		}
	}
	return true
}

// names tells whether a part of a pointer may mean a key.
func names(part string, key ast.Value) bool {
	text, ok := key.(ast.String)
	if !ok {
		return part == key.String()
	}
	name := string(text)
	if part == name || part == url.PathEscape(name) || strings.NewReplacer("~1", "/", "~0", "~").Replace(part) == name {
		return true
	}
	decoded, err := url.PathUnescape(part)
	return err == nil && decoded == name
}
