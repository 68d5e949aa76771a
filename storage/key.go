package storage

import (
	"encoding/hex"
	"fmt"
	"strings"
)

const reserved = "_kv" // JetStream keeps keys that start so for itself

// Key joins parts to a key, whatever bytes they hold: those other than letters,
// digits, "-" and "_" are escaped as "=" and two hex digits, an empty part is
// "=". The result may be longer than MaxKey.
func Key(parts ...string) string {
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		if part == "" {
			b.WriteByte('=')
		}
		for _, c := range []byte(part) {
			if isWord(c) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "=%02X", c)
			}
		}
	}
	return b.String()
}

// Prefix is the prefix of all keys that start with these parts and have more;
// without parts it is that of all keys.
func Prefix(parts ...string) string {
	if len(parts) == 0 {
		return ""
	}
	return Key(parts...) + "."
}

// Parts splits a key that Key made, or returns ErrInvalid.
func Parts(key string) ([]string, error) {
	var parts []string
	for word := range strings.SplitSeq(key, ".") {
		part, ok := unescape(word)
		if !ok {
			return nil, fmt.Errorf("key %q has a part %q: %w", key, word, ErrInvalid)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func unescape(word string) (string, bool) {
	if word == "=" {
		return "", true
	}
	var out []byte
	for i := 0; i < len(word); i++ {
		if isWord(word[i]) {
			out = append(out, word[i])
			continue
		}
		if word[i] != '=' || i+3 > len(word) || strings.ToUpper(word[i+1:i+3]) != word[i+1:i+3] {
			return "", false
		}
		c, err := hex.DecodeString(word[i+1 : i+3])
		if err != nil || isWord(c[0]) {
			return "", false
		}
		out = append(out, c[0])
		i += 2
	}
	return string(out), len(out) > 0
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// CheckKey returns ErrInvalid unless the key is 1 to MaxKey letters, digits and
// "-/_=.", with no dot at either end, no two dots in a row, and without the
// start that JetStream reserves ("_kv").
func CheckKey(key string) error {
	switch {
	case key == "" || len(key) > MaxKey:
		return fmt.Errorf("key of %d bytes, want 1 to %d: %w", len(key), MaxKey, ErrInvalid)
	case strings.HasPrefix(key, reserved):
		return fmt.Errorf("key %q starts with %s: %w", key, reserved, ErrInvalid)
	case key[0] == '.' || key[len(key)-1] == '.' || strings.Contains(key, ".."):
		return fmt.Errorf("key %q has an empty part: %w", key, ErrInvalid)
	}
	for _, c := range []byte(key) {
		if !isWord(c) && c != '/' && c != '=' && c != '.' {
			return fmt.Errorf("key %q: byte %#x: %w", key, c, ErrInvalid)
		}
	}
	return nil
}

// CheckPrefix returns ErrInvalid unless the prefix is empty or a key and a dot.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	key, ok := strings.CutSuffix(prefix, ".")
	if !ok {
		return fmt.Errorf("prefix %q does not end with a dot: %w", prefix, ErrInvalid)
	}
	return CheckKey(key)
}

// CheckBucket returns ErrInvalid unless the name is a lower-case letter and up
// to MaxBucket-1 lower-case letters, digits, "-" and "_".
func CheckBucket(name string) error {
	if name == "" || len(name) > MaxBucket {
		return fmt.Errorf("bucket name of %d bytes, want 1 to %d: %w", len(name), MaxBucket, ErrInvalid)
	}
	for i, c := range []byte(name) {
		if !isWord(c) || c >= 'A' && c <= 'Z' || i == 0 && (c < 'a' || c > 'z') {
			return fmt.Errorf("bucket name %q: %w", name, ErrInvalid)
		}
	}
	return nil
}
