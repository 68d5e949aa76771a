// Package mask removes from records what must not be kept: values by the names of
// their keys, and what the policy data.system.log.mask names by JSON pointers.
package mask

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Keys is a set of key names that match in any case. The zero value matches
// nothing. It is read-only and may be shared.
type Keys struct {
	lower map[string]struct{} // ASCII, lower case
	other []string            // with characters beyond ASCII
	max   int                 // length of the longest in lower
}

// maxKey is the longest ASCII name that is looked up in the map.
const maxKey = 64

// NewKeys returns the set of the names. Empty names are ignored.
func NewKeys(names []string) Keys {
	k := Keys{lower: map[string]struct{}{}}
	for _, name := range names {
		switch lower := strings.ToLower(name); {
		case name == "":
		case ascii(name) && len(name) <= maxKey:
			k.lower[lower] = struct{}{}
			k.max = max(k.max, len(lower))
		case !slices.Contains(k.other, lower):
			k.other = append(k.other, lower)
		}
	}
	return k
}

// Match tells whether the key is in the set, whatever its case. It follows
// Unicode's simple case folding, so that a look-alike such as U+017F for s does
// not slip through, and allocates nothing.
func (k Keys) Match(key string) bool {
	if ascii(key) {
		if len(key) <= k.max {
			var buf [maxKey]byte
			for i := range len(key) {
				c := key[i]
				if 'A' <= c && c <= 'Z' {
					c += 'a' - 'A'
				}
				buf[i] = c
			}
			if _, ok := k.lower[string(buf[:len(key)])]; ok {
				return true
			}
		}
	} else {
		for name := range k.lower {
			if strings.EqualFold(name, key) {
				return true
			}
		}
	}
	for _, name := range k.other {
		if strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
