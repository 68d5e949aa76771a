package audit

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// text is what appendText found in a string.
type text uint8

const (
	textSanitized text = 1 << iota // invalid UTF-8 became U+FFFD
	textTruncated                  // cut at the limit
)

// appendText appends s as a JSON string of at most limit bytes between the
// quotes. Invalid UTF-8 becomes U+FFFD. Besides what JSON demands it escapes
// whatever could deceive a reader of raw lines: DEL, the C1 controls, line and
// paragraph separators, direction marks and the byte order mark.
func appendText(dst []byte, s string, limit int) ([]byte, text) {
	dst = append(dst, '"')
	start := len(dst)
	i := 0
	for i < len(s) && i < limit && plain(s[i]) {
		i++
	}
	dst = append(dst, s[:i]...)
	if i == len(s) {
		return append(dst, '"'), 0
	}
	var found text
	for i < len(s) {
		mark := len(dst)
		size := 1
		if c := s[i]; plain(c) {
			dst = append(dst, c)
		} else if c < utf8.RuneSelf {
			dst = appendEscape(dst, rune(c))
		} else {
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				dst = append(dst, "\uFFFD"...)
				found |= textSanitized
			case deceptive(r):
				dst = appendEscape(dst, r)
			default:
				dst = append(dst, s[i:i+size]...)
			}
		}
		if len(dst)-start > limit {
			dst = dst[:mark]
			found |= textTruncated
			break
		}
		i += size
	}
	return append(dst, '"'), found
}

// plain tells whether the byte stands for itself in a JSON string.
func plain(c byte) bool {
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\'
}

// deceptive tells whether the rune can change how the text around it is shown.
func deceptive(r rune) bool {
	switch {
	case r < 0xa0: // C1
	case r == 0x061c, r == 0x200e, r == 0x200f, r == 0x2028, r == 0x2029, r == 0xfeff:
	case r >= 0x202a && r <= 0x202e:
	case r >= 0x2066 && r <= 0x2069:
	default:
		return false
	}
	return true
}

// appendEscape appends the escape of a rune of the basic plane.
func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
