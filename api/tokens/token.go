// Package tokens keeps the bearer tokens of callers: a file that holds their
// SHA-256 hashes, never the tokens themselves.
//
// The command line and a live server may use the same folder at the same time:
// whoever writes holds a lock and replaces the file by a rename, and the server
// reads it again when it has changed.
package tokens

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A token is "verdict_", an id of 12 hex digits, "_", and 32 random bytes in
// base64url without padding. The id is public: it names the token in lists.
const (
	prefix       = "verdict_"
	idBytes      = 6
	secretBytes  = 32
	idLength     = 2 * idBytes
	secretLength = 43
	tokenLength  = len(prefix) + idLength + 1 + secretLength
)

// maxName bounds the name of a token, in bytes.
const maxName = 128

var (
	// ErrUnknown is returned when no token has the hash of what was presented.
	ErrUnknown = errors.New("unknown token")
	// ErrExpired is returned when the token is known and its time is over.
	ErrExpired = errors.New("token has expired")
	// ErrName is returned when a name is empty, too long, not printable or taken.
	ErrName = errors.New("invalid token name")
)

// Token is what is known of a token. Values handed out are never changed.
type Token struct {
	ID      string
	Name    string
	Scopes  Scopes
	Created time.Time
	Expires time.Time // zero: never
	// CreatedBy holds the ids of the token that this one was created with, of
	// the one which that was created with, and so on; empty: it was created on
	// the host.
	CreatedBy []string

	hash [sha256.Size]byte
}

// Expired reports whether the token's time is over at now.
func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// generate makes a new secret and its id from chance.
func generate(chance io.Reader) (secret, id string, err error) {
	var b [idBytes + secretBytes]byte
	if _, err := io.ReadFull(chance, b[:]); err != nil {
		return "", "", fmt.Errorf("read random bytes: %w", err)
	}
	id = hex.EncodeToString(b[:idBytes])
	return prefix + id + "_" + base64.RawURLEncoding.EncodeToString(b[idBytes:]), id, nil
}

// wellFormed reports whether s can be a token. It says nothing of a secret, so
// that it need not take the same time for each.
func wellFormed(s string) bool {
	return len(s) == tokenLength && strings.HasPrefix(s, prefix) && s[len(prefix)+idLength] == '_'
}

// idOf is the id inside a well-formed token.
func idOf(s string) string { return s[len(prefix) : len(prefix)+idLength] }

// hashOf hashes a well-formed token without allocating.
func hashOf(s string) [sha256.Size]byte {
	var buf [tokenLength]byte
	copy(buf[:], s)
	return sha256.Sum256(buf[:])
}

func checkName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("%w: it must have 1 to %d bytes of UTF-8", ErrName, maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w: %q has a character that cannot be printed", ErrName, name)
		}
	}
	return nil
}
