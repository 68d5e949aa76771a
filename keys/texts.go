package keys

import (
	"encoding/base64"
	"strings"
)

// texts encodes envelopes that begin with the same bytes into strings that
// share memory, a few dozen each, so that a large batch does not allocate once
// a value and does not encode the beginning again and again.
type texts struct {
	left  int // values to come
	skip  int // bytes of each envelope that start stands for
	start []byte
	block strings.Builder
	buf   []byte
}

const textBlock = 16 << 10

// newTexts is for n envelopes that all begin with head.
func newTexts(n int, head []byte) *texts {
	t := &texts{left: n, skip: len(head) / 3 * 3, start: []byte(Prefix)} // three bytes are four characters
	t.start = base64.RawURLEncoding.AppendEncode(t.start, head[:t.skip])
	return t
}

// add encodes the next envelope.
func (t *texts) add(b []byte) string {
	rest := b[t.skip:]
	size := len(t.start) + base64.RawURLEncoding.EncodedLen(len(rest))
	if t.block.Cap()-t.block.Len() < size {
		t.block = strings.Builder{}
		t.block.Grow(max(size, min(textBlock, size*t.left)))
	}
	t.left--
	t.buf = base64.RawURLEncoding.AppendEncode(t.buf[:0], rest)
	start := t.block.Len()
	t.block.Write(t.start)
	t.block.Write(t.buf)
	return t.block.String()[start:]
}
