package tokens

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// formatVersion is the version of the file that this program writes; it reads
// no newer one.
const formatVersion = 1

// Bounds of the file: what is beyond them is refused whole.
const (
	maxFileBytes = 8 << 20
	maxTokens    = 10_000
	maxLineage   = 32 // tokens that created one another
)

// ErrFile is returned when the token file cannot be understood.
var ErrFile = errors.New("token file is damaged")

// fileDocument is the token file: {"format": 1, "tokens": [...]}.
type fileDocument struct {
	Format int         `json:"format"`
	Tokens []fileToken `json:"tokens"`
}

type fileToken struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Scopes  []string   `json:"scopes"`
	SHA256  string     `json:"sha256"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	// CreatedBy: see Token.
	CreatedBy []string `json:"created_by,omitempty"`
}

// decodeFile reads a token file whole or not at all. An empty file is not
// valid: a file that was cut to nothing must not pass for one without tokens.
func decodeFile(b []byte) ([]*Token, error) {
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFile, maxFileBytes)
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if version.Format > formatVersion {
		return nil, fmt.Errorf("%w: format %d is newer than %d, which this program knows", ErrFile, version.Format, formatVersion)
	}
	if version.Format != formatVersion {
		return nil, fmt.Errorf("%w: format %d, want %d", ErrFile, version.Format, formatVersion)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var doc fileDocument
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the document", ErrFile)
	}
	if len(doc.Tokens) > maxTokens {
		return nil, fmt.Errorf("%w: more than %d tokens", ErrFile, maxTokens)
	}
	list := make([]*Token, 0, len(doc.Tokens))
	names := make(map[string]bool, len(doc.Tokens))
	ids := make(map[string]bool, len(doc.Tokens))
	for i, ft := range doc.Tokens {
		t, err := ft.token()
		if err != nil {
			return nil, fmt.Errorf("%w: token %d: %w", ErrFile, i, err)
		}
		if names[t.Name] || ids[t.ID] {
			return nil, fmt.Errorf("%w: token %d: name %q or id %s is there twice", ErrFile, i, t.Name, t.ID)
		}
		names[t.Name], ids[t.ID] = true, true
		list = append(list, t)
	}
	return list, nil
}

func (ft fileToken) token() (*Token, error) {
	t := &Token{ID: ft.ID, Name: ft.Name, Created: ft.Created.UTC(), CreatedBy: ft.CreatedBy}
	if len(ft.CreatedBy) > maxLineage {
		return nil, fmt.Errorf("created_by names more than %d tokens", maxLineage)
	}
	for _, id := range append([]string{ft.ID}, ft.CreatedBy...) {
		if b, err := hex.DecodeString(id); err != nil || len(b) != idBytes {
			return nil, fmt.Errorf("id %q is not %d hex digits", id, idLength)
		}
	}
	if err := checkName(ft.Name); err != nil {
		return nil, err
	}
	var err error
	if t.Scopes, err = ParseScopes(ft.Scopes); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(ft.SHA256)
	if err != nil || len(sum) != len(t.hash) {
		return nil, errors.New("sha256 is not 64 hex digits")
	}
	copy(t.hash[:], sum)
	if ft.Expires != nil {
		if ft.Expires.IsZero() {
			return nil, errors.New("expires is the zero time")
		}
		t.Expires = ft.Expires.UTC()
	}
	if !writable(t.Created) || !writable(t.Expires) {
		return nil, errors.New("a time is out of the years 1 to 9999")
	}
	return t, nil
}

// writable reports whether JSON can hold the time, which it cannot for some
// that are read, once they are taken to UTC.
func writable(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }

// encodeFile is the file that decodeFile reads back.
func encodeFile(list []*Token) ([]byte, error) {
	doc := fileDocument{Format: formatVersion, Tokens: make([]fileToken, 0, len(list))}
	for _, t := range list {
		ft := fileToken{
			ID: t.ID, Name: t.Name, Scopes: t.Scopes.Names(),
			SHA256: hex.EncodeToString(t.hash[:]), Created: t.Created, CreatedBy: t.CreatedBy,
		}
		if !t.Expires.IsZero() {
			ft.Expires = &t.Expires
		}
		doc.Tokens = append(doc.Tokens, ft)
	}
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode tokens: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxFileBytes || len(list) > maxTokens {
		return nil, fmt.Errorf("too many tokens: at most %d and %d bytes", maxTokens, maxFileBytes)
	}
	return b, nil
}
