package transit

import (
	"encoding/base64"

	"github.com/verdict-pdp/verdict/keys"
)

// Parse and Format read and write Vault's own form, in its base64.
func Parse(text string) (version uint32, b []byte, err error) {
	return parse(text, base64.StdEncoding)
}

// Format is the other way.
func Format(version uint32, b []byte) string { return format(version, b, base64.StdEncoding) }

// ParseVersion reads one version of a key and gives whether it has a public key.
func ParseVersion(typ string, raw []byte) (bool, error) {
	v, err := parseVersion(keys.Type(typ), raw)
	return v.Public != nil, err
}
