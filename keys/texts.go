package keys

import (
	"encoding/base64"
	"strings"
)

// texts encodes envelopes into strings that share memory, a few dozen each, so
// that a large batch does not allocate once a value.
type texts struct {
	left  int
	block strings.Builder
	buf   []byte
}

const textBlock = 16 << 10

func newTexts(n int) *texts { return &texts{left: n} }

// add encodes the next envelope.
func (t *texts) add(b []byte) string {
	size := len(Prefix) + base64.RawURLEncoding.EncodedLen(len(b))
	if t.block.Cap()-t.block.Len() < size {
		t.block = strings.Builder{}
		t.block.Grow(max(size, min(textBlock, size*t.left)))
	}
	t.left--
	t.buf = append(t.buf[:0], Prefix...)
	t.buf = base64.RawURLEncoding.AppendEncode(t.buf, b)
	start := t.block.Len()
	t.block.Write(t.buf)
	return t.block.String()[start:]
}
