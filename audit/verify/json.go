package verify

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// checker tells whether bytes are one JSON value and nothing else, several times
// faster than encoding/json and without recursion.
type checker struct {
	stack []bool // the open containers around the innermost, true: an object
}

// valid reports whether b is one JSON value (RFC 8259) in valid UTF-8, without
// anything behind it. The loop reads one value, scalar or opening bracket, and
// then whatever closes behind it.
func (c *checker) valid(b []byte) bool {
	c.stack = c.stack[:0]
	depth, object := 0, false
	i, ok := space(b, 0), true
	for i < len(b) {
		switch b[i] {
		case '"':
			i, ok = str(b, i+1)
		case '{', '[':
			c.stack = append(c.stack, object)
			depth, object = depth+1, b[i] == '{'
			i = space(b, i+1)
			if i < len(b) && (b[i] == '}' && object || b[i] == ']' && !object) {
				break // closed at once, below
			}
			if object {
				if i, ok = key(b, i); !ok {
					return false
				}
			}
			continue
		case 't':
			i, ok = literal(b, i, "true")
		case 'f':
			i, ok = literal(b, i, "false")
		case 'n':
			i, ok = literal(b, i, "null")
		default:
			i, ok = number(b, i)
		}
		if !ok {
			return false
		}
		for i = space(b, i); ; i = space(b, i+1) {
			if depth == 0 {
				return i == len(b)
			}
			if i >= len(b) {
				return false
			}
			if b[i] == ',' {
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return false
			}
			depth--
			object = c.stack[depth]
			c.stack = c.stack[:depth]
		}
		i = space(b, i+1)
		if object {
			if i, ok = key(b, i); !ok {
				return false
			}
		}
	}
	return false
}

// key reads a member's name and the colon, and returns the index of the value.
func key(b []byte, i int) (int, bool) {
	if i >= len(b) || b[i] != '"' {
		return i, false
	}
	i, ok := str(b, i+1)
	if !ok {
		return i, false
	}
	if i = space(b, i); i >= len(b) || b[i] != ':' {
		return i, false
	}
	return space(b, i+1), true
}

// space skips white space, of which records have none.
func space(b []byte, i int) int {
	if i < len(b) && b[i] <= ' ' {
		return skipSpace(b, i)
	}
	return i
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

func literal(b []byte, i int, word string) (int, bool) {
	end := i + len(word)
	return end, end <= len(b) && string(b[i:end]) == word
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// str reads a string behind its opening quote, eight bytes at a time. In the mask
// the lowest bit set is that of the first byte that is a quote, a backslash, a
// control character or not ASCII; what is above it may be wrong, by a borrow.
// (Flipping bit 1 makes the quote, 0x22, the neighbour of the control characters.)
func str(b []byte, i int) (int, bool) {
	for {
		if i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			m := (w | ((w ^ ones*2) - ones*0x21) | ((w ^ ones*'\\') - ones)) & highs
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		if i >= len(b) {
			return i, false
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, true
		case c < 0x20:
			return i, false
		case c == '\\':
			var ok bool
			if i, ok = escape(b, i+1); !ok {
				return i, false
			}
		case c < utf8.RuneSelf: // near the end
			i++
		default:
			r, size := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && size == 1 {
				return i, false
			}
			i += size
		}
	}
}

func escape(b []byte, i int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1, true
	case 'u':
		if i+5 > len(b) {
			return i, false
		}
		for _, c := range b[i+1 : i+5] {
			if c-'0' > 9 && c|0x20-'a' > 5 {
				return i, false
			}
		}
		return i + 5, true
	}
	return i, false
}

func number(b []byte, i int) (int, bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = digits(b, i)
	if i == start || (b[start] == '0' && i > start+1) {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		if start, i = i+1, digits(b, i+1); i == start {
			return i, false
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if start, i = i, digits(b, i); i == start {
			return i, false
		}
	}
	return i, true
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}
