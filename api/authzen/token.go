package authzen

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// A token of a page is the base64url of
//
//	sum   [16]byte  of SHA-256(kind || path || 0 || search without its token || 0 || from || key)
//	from  byte      0: at the start, 1: behind key
//	key   []byte    of the last candidate that was decided
//
// It holds all that is needed, so that every node can answer the next page and a
// restart in between does no harm. The sum is no secret: it keeps a token from
// being used with another search, and a caller that makes its own gets no more
// than the search gives anyway.
const (
	sumSize = 16

	fromStart  = 0
	fromBehind = 1
)

// binding is the hash of what a token is good for.
type binding [sha256.Size]byte

// bind hashes a search without its token: the same document, however it is
// written.
func (s *Server) bind(kind search.Kind, doc, page ast.Object) (b binding, err error) {
	rest := s.without(doc, s.names.page)
	rest.Insert(s.names.page, ast.NewTerm(s.without(page, s.names.token)))
	text := append([]byte(kind.String()+s.options.Path), 0)
	if text, err = eval.AppendJSON(text, rest); err != nil {
		return b, err
	}
	return sha256.Sum256(text), nil
}

func (b binding) sum(place []byte) []byte {
	sum := sha256.Sum256(append(b[:], place...))
	return sum[:sumSize]
}

// seal makes the token for what comes behind a key; nil: for the start.
func (b binding) seal(after *string) string {
	place := []byte{fromStart}
	if after != nil {
		place = append([]byte{fromBehind}, *after...)
	}
	return base64.RawURLEncoding.EncodeToString(append(b.sum(place), place...))
}

// open reads a token; ok is false for one that seal has not made.
func (b binding) open(token string) (after *string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) <= sumSize {
		return nil, false
	}
	place := raw[sumSize:]
	if string(b.sum(place)) != string(raw[:sumSize]) {
		return nil, false
	}
	if place[0] == fromStart {
		return nil, len(place) == 1
	}
	key := string(place[1:])
	return &key, place[0] == fromBehind
}
