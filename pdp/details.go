package pdp

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// withMember returns a JSON object with one more member, which is written as
// "name":value. Neither is changed.
func withMember(object, member []byte) []byte {
	if n := len(object); n > 2 {
		return slices.Concat(object[:n-1], []byte{','}, member, []byte{'}'})
	}
	return slices.Concat([]byte{'{'}, member, []byte{'}'})
}

// staleMember tells how old the bundle was that kept a decision from being made.
func staleMember(e *eval.StaleError) []byte {
	told, err := json.Marshal(struct {
		Bundle   string `json:"bundle"`
		Revision string `json:"revision"`
		Age      int64  `json:"age_seconds"`
		MaxAge   int64  `json:"max_age_seconds"`
	}{e.Bundle, e.Revision, int64(e.Age.Seconds()), int64(e.MaxAge.Seconds())})
	if err != nil {
		told = []byte("{}") // strings and numbers always encode
	}
	return append([]byte(`"stale":`), told...)
}

// isStale tells whether a bundle is too old for an answer.
func isStale(err error) bool {
	_, ok := errors.AsType[*eval.StaleError](err)
	return ok
}
