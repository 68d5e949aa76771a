package keys

import (
	"fmt"
	"strings"
)

// Class is a classification of data. Its number stands in ciphertexts; the
// zero Class is none.
type Class uint8

// The classifications, in ascending order of what they protect.
const (
	// Public data is not encrypted.
	Public Class = iota + 1
	Internal
	Confidential
	Restricted
	TopSecret
)

// Classes gives all classifications, ascending.
func Classes() []Class { return []Class{Public, Internal, Confidential, Restricted, TopSecret} }

// String gives the name: "public", "internal", "confidential", "restricted" or
// "top_secret".
func (c Class) String() string {
	switch c {
	case Public:
		return "public"
	case Internal:
		return "internal"
	case Confidential:
		return "confidential"
	case Restricted:
		return "restricted"
	case TopSecret:
		return "top_secret"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// ParseClass reads a name in lower or upper case; ok is false for all else.
func ParseClass(name string) (c Class, ok bool) {
	for _, c := range Classes() {
		if lower := c.String(); name == lower || name == strings.ToUpper(lower) {
			return c, true
		}
	}
	return 0, false
}

// MarshalText gives the name.
func (c Class) MarshalText() ([]byte, error) {
	if c < Public || c > TopSecret {
		return nil, fmt.Errorf("no classification has the number %d", uint8(c))
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads what ParseClass reads.
func (c *Class) UnmarshalText(text []byte) error {
	parsed, ok := ParseClass(string(text))
	if !ok {
		return fmt.Errorf("%q is no classification; want public, internal, confidential, restricted or top_secret", bounded(string(text)))
	}
	*c = parsed
	return nil
}

// bounded shortens what a caller sent, for messages.
func bounded(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
