package eval

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanString reads a string from its opening to behind its closing quote and
// returns what is between; plain reports that this is its value.
func (p *parser) scanString() (raw []byte, plain bool, _ *InputError) {
	p.i++
	start, ascii, escaped := p.i, true, false
	for {
		p.i += plainASCII(p.b[p.i:])
		if p.i == len(p.b) {
			return nil, false, p.invalid("")
		}
		switch c := p.b[p.i]; {
		case c == '"':
			raw = p.b[start:p.i]
			p.i++
			return raw, !escaped && (ascii || utf8.Valid(raw)), nil
		case c == '\\':
			escaped = true
			if err := p.escape(); err != nil {
				return nil, false, err
			}
		case c < ' ':
			return nil, false, p.invalid("in string literal")
		default:
			ascii = false
			p.i++
		}
	}
}

// plainASCII returns how many bytes of b come before the first quote, backslash,
// control character or byte beyond ASCII. It looks at eight bytes at a time: a
// test sets the top bit of each byte it holds for, exactly so for the lowest.
func plainASCII(b []byte) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^'"'*ones, x^'\\'*ones
		found := (x-' '*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash | x
		if found &= tops; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// escape skips an escape sequence; the cursor is at its backslash.
func (p *parser) escape() *InputError {
	p.i++
	if p.i == len(p.b) {
		return p.invalid("")
	}
	switch p.b[p.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		p.i++
		return nil
	case 'u':
		p.i++
		for range 4 {
			if p.i == len(p.b) || hexDigit(p.b[p.i]) < 0 {
				return p.invalid(`in \u hexadecimal character escape`)
			}
			p.i++
		}
		return nil
	}
	return p.invalid("in string escape code")
}

// keep returns a copy of a string's value.
func (p *parser) keep(raw []byte, plain bool) string {
	if plain {
		return p.cut(raw)
	}
	return unquote(raw)
}

// cut copies b into the current chunk and returns the copy.
func (p *parser) cut(b []byte) string {
	if len(b) > maxTextChunk/4 {
		return string(b)
	}
	if p.text.Cap()-p.text.Len() < len(b) {
		p.text.Reset()
		p.text.Grow(max(len(b), min(max((len(p.b)-p.i)/2, minTextChunk), maxTextChunk)))
	}
	start := p.text.Len()
	p.text.Write(b)
	return p.text.String()[start:]
}

// unquote resolves the escapes of a string already checked, and replaces what is
// not UTF-8, byte by byte.
func unquote(raw []byte) string {
	var sb strings.Builder
	sb.Grow(len(raw))
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '\\' && raw[i+1] == 'u':
			r := hexRune(raw[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(raw)-i >= 6 && raw[i] == '\\' && raw[i+1] == 'u' {
					low = hexRune(raw[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			sb.WriteRune(r)
		case c == '\\':
			sb.WriteByte(unescaped(raw[i+1]))
			i += 2
		case c < utf8.RuneSelf:
			sb.WriteByte(c)
			i++
		default:
			r, size := utf8.DecodeRune(raw[i:])
			sb.WriteRune(r)
			i += size
		}
	}
	return sb.String()
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hexRune returns the code of four hexadecimal digits.
func hexRune(b []byte) (r rune) {
	for _, c := range b[:4] {
		r = r<<4 | rune(hexDigit(c))
	}
	return r
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
