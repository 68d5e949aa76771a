package eval

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxEncodeDepth is how deep a value may be nested to be written as JSON: as
// deep as encoding/json reads.
const maxEncodeDepth = 10_000

// maskedValue stands where a masked value was.
const maskedValue = `"***"`

// ErrTooDeep is returned for a value that is nested too deep to be written.
var ErrTooDeep = errors.New("value is nested too deep")

// AppendJSON appends the JSON text of v, byte for byte what encoding/json makes
// of ast.JSON(v): names sorted, HTML escaped, sets as sorted arrays, a name that
// is no string as its own JSON text. After an error, dst is returned as it came.
func AppendJSON(dst []byte, v ast.Value) ([]byte, error) {
	return AppendMasked(dst, v, nil, nil)
}

// AppendMasked is AppendJSON, except that the value of each object member whose
// name satisfies match becomes "***". So do value and rawValue in an object whose
// member key satisfies it: that is how a list of pairs, as Envoy tells raw
// headers, has them. For each of them hit, if not nil, gets the member's JSON
// Pointer (RFC 6901) from v on.
func AppendMasked(dst []byte, v ast.Value, match func(key string) bool, hit func(pointer string)) ([]byte, error) {
	if out, ok, err := appendScalar(dst, v); ok {
		return out, err
	}
	e := &encoder{dst: dst, match: match, locate: hit != nil}
	e.each = e.member
	e.value(v)
	if e.err != nil {
		return dst, e.err
	}
	for _, p := range e.hits {
		hit(p)
	}
	return e.dst, nil
}

// appendScalar appends v unless it is, or is not known to be, a container.
func appendScalar(dst []byte, v ast.Value) (_ []byte, ok bool, _ error) {
	switch v := v.(type) {
	case ast.Null:
		return append(dst, "null"...), true, nil
	case ast.Boolean:
		return strconv.AppendBool(dst, bool(v)), true, nil
	case ast.String:
		return appendString(dst, string(v)), true, nil
	case ast.Number:
		dst, err := appendNumber(dst, string(v))
		return dst, true, err
	}
	return dst, false, nil
}

// encoder writes one value. Its state is in fields, not in closures, because
// ast.Object is iterated by a callback, which would be allocated each time.
type encoder struct {
	dst   []byte
	err   error
	depth int

	each  func(k, v *ast.Term) bool // the method member, bound once
	first bool                      // no member of the open object is written yet
	mixed bool                      // the open object has a name that is no string
	pair  bool                      // the open object has a key that match is true for

	match  func(string) bool
	locate bool     // keep path and hits
	path   []step   // to the value being written
	hits   []string // pointers to what was masked
}

// step is one token of a JSON Pointer: an element's index, or a member's name
// when index is negative.
type step struct {
	name  string
	index int
}

// value appends v, or sets e.err.
func (e *encoder) value(v ast.Value) {
	var scalar bool
	if e.dst, scalar, e.err = appendScalar(e.dst, v); scalar {
		return
	}
	if e.depth++; e.depth > maxEncodeDepth {
		e.err = ErrTooDeep
		return
	}
	switch v := v.(type) {
	case ast.Object:
		e.object(v)
	case *ast.Array:
		e.dst = append(e.dst, '[')
		for i := 0; i < v.Len() && e.err == nil; i++ {
			e.element(i, v.Elem(i))
		}
		e.dst = append(e.dst, ']')
	case ast.Set:
		e.dst = append(e.dst, '[')
		for i, t := range v.Slice() {
			if e.err == nil {
				e.element(i, t)
			}
		}
		e.dst = append(e.dst, ']')
	default:
		e.err = fmt.Errorf("%s cannot be written as JSON", ast.ValueName(v))
	}
	e.depth--
}

func (e *encoder) element(i int, t *ast.Term) {
	if i > 0 {
		e.dst = append(e.dst, ',')
	}
	e.push(step{index: i})
	e.value(t.Value)
	e.pop()
}

// object appends v. OPA's order of strings is that of their bytes, as
// encoding/json's is, so names are sorted already unless one is no string.
func (e *encoder) object(v ast.Object) {
	start, hits, first, mixed, pair := len(e.dst), len(e.hits), e.first, e.mixed, e.pair
	e.dst = append(e.dst, '{')
	e.first, e.mixed, e.pair = true, false, false
	v.Until(e.each)
	if e.mixed && e.err == nil {
		e.dst, e.hits = append(e.dst[:start], '{'), e.hits[:hits]
		e.mixedObject(v)
	}
	e.first, e.mixed, e.pair = first, mixed, pair
	e.dst = append(e.dst, '}')
}

// member appends a member of the open object and reports whether to stop.
func (e *encoder) member(k, v *ast.Term) bool {
	name, ok := k.Value.(ast.String)
	if !ok {
		e.mixed = true
		return true
	}
	if !e.first {
		e.dst = append(e.dst, ',')
	}
	e.first = false
	e.dst = append(appendString(e.dst, string(name)), ':')
	e.push(step{name: string(name), index: -1})
	if e.match != nil && e.masks(string(name), v.Value) {
		e.dst = append(e.dst, maskedValue...)
		if e.locate {
			e.hits = append(e.hits, pointer(e.path))
		}
	} else {
		e.value(v.Value)
	}
	e.pop()
	return e.err != nil
}

// masks tells whether a member's value is hidden. Members come in the order of
// their names, key before rawValue and value.
func (e *encoder) masks(name string, v ast.Value) bool {
	switch name {
	case "key":
		text, ok := v.(ast.String)
		e.pair = ok && e.match(string(text))
	case "rawValue", "value":
		if e.pair {
			return true
		}
	}
	return e.match(name)
}

// mixedObject appends the members of v, of which some have names that are no
// strings. Where two names have one text, the one that OPA sorts last counts.
func (e *encoder) mixedObject(v ast.Object) {
	members := map[string]*ast.Term{}
	e.err = v.Iter(func(k, v *ast.Term) error {
		if name, ok := k.Value.(ast.String); ok {
			members[string(name)] = v
			return nil
		}
		name := &encoder{depth: e.depth}
		name.each = name.member
		name.value(k.Value)
		members[string(name.dst)] = v
		return name.err
	})
	e.first = true
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if e.err != nil || e.member(ast.StringTerm(name), members[name]) {
			return
		}
	}
}

func (e *encoder) push(s step) {
	if e.locate {
		e.path = append(e.path, s)
	}
}

func (e *encoder) pop() {
	if e.locate {
		e.path = e.path[:len(e.path)-1]
	}
}

// pointer spells out a JSON Pointer.
func pointer(path []step) string {
	var b []byte
	for _, s := range path {
		b = append(b, '/')
		if s.index >= 0 {
			b = strconv.AppendInt(b, int64(s.index), 10)
			continue
		}
		for i := range len(s.name) {
			switch c := s.name[i]; c {
			case '~':
				b = append(b, "~0"...)
			case '/':
				b = append(b, "~1"...)
			default:
				b = append(b, c)
			}
		}
	}
	return string(b)
}

// appendNumber appends a number's text, if that is a JSON number.
func appendNumber(dst []byte, s string) ([]byte, error) {
	if s == "" {
		return append(dst, '0'), nil
	}
	if !isNumber(s) {
		return dst, fmt.Errorf("invalid number literal %q", s)
	}
	return append(dst, s...), nil
}

// isNumber reports whether s is a number by the grammar of RFC 8259, section 6.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	switch {
	case strings.HasPrefix(s, "0"):
		s = s[1:]
	default:
		rest := skipDigits(s)
		if rest == s {
			return false
		}
		s = rest
	}
	if strings.HasPrefix(s, ".") {
		rest := skipDigits(s[1:])
		if rest == s[1:] {
			return false
		}
		s = rest
	}
	if s != "" && s[0]|0x20 == 'e' {
		if s = s[1:]; s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if s == "" {
			return false
		}
		s = skipDigits(s)
	}
	return s == ""
}

func skipDigits(s string) string {
	for s != "" && s[0] >= '0' && s[0] <= '9' {
		s = s[1:]
	}
	return s
}

// appendString appends s quoted and escaped: what JSON requires, what HTML would
// misread, the two line separators of JavaScript, and bytes that are not UTF-8.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(s[i:]); r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || size > 1) {
				i += size
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch {
		case size == 3:
			dst = append(dst, '\\', 'u', '2', '0', '2', hex[s[i+2]&0xF])
		case c >= utf8.RuneSelf:
			dst = append(dst, `\ufffd`...)
		default:
			dst = appendEscaped(dst, c)
		}
		i += size
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
	case '\b':
		c = 'b'
	case '\f':
		c = 'f'
	case '\n':
		c = 'n'
	case '\r':
		c = 'r'
	case '\t':
		c = 't'
	default:
		return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
	}
	return append(dst, '\\', c)
}
