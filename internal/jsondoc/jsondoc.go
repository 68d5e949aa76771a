// Package jsondoc indexes a JSON text (RFC 8259) without changing it, so that
// values can be found by JSON Pointer (RFC 6901) and replaced where they stand:
// the order of members, white space and the text of numbers stay as they are.
//
// It is stricter than encoding/json: a member name may stand in an object once,
// and the text must be UTF-8.
package jsondoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Defaults of Limits.
const (
	DefaultDepth = 64
	DefaultNodes = 10_000
)

// Limits bound a text. A field that is zero stands for its default.
type Limits struct {
	Depth int // nesting of arrays and objects; 64
	Nodes int // members and elements; 10,000
}

// Error is what is wrong with a text. It quotes no value.
type Error struct {
	// Offset in bytes at which it was noticed.
	Offset int
	// Pointer to the object with the member that stands twice; else empty.
	Pointer string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %s", e.Offset, e.Message) }

// Kind is the type of a value.
type Kind uint8

// The kinds.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// String names the kind as JSON does.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[min(k, Object)]
}

// Node is one value. Its text is Text[Start:End] of what was parsed.
type Node struct {
	Kind       Kind
	Start, End int
	// Name of the member that the value is, decoded; an element has none.
	Name     string
	Children []*Node
	text     []byte
}

// Parse indexes a text that holds one value. The text must not change while
// the nodes are used.
func Parse(text []byte, l Limits) (*Node, error) {
	if l.Depth <= 0 {
		l.Depth = DefaultDepth
	}
	if l.Nodes <= 0 {
		l.Nodes = DefaultNodes
	}
	if !utf8.Valid(text) {
		return nil, &Error{Message: "it is not UTF-8"}
	}
	if err := checkDepth(text, l.Depth); err != nil {
		return nil, err
	}
	if err := checkSyntax(text); err != nil {
		return nil, err
	}
	p := parser{text: text, left: l.Nodes}
	root, err := p.value("")
	if err != nil {
		return nil, err
	}
	return root, nil
}

// checkDepth comes first: what follows recurses.
func checkDepth(text []byte, most int) error {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > most {
				return &Error{Offset: i, Message: fmt.Sprintf("it nests more than %d levels", most)}
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return nil
}

func checkSyntax(text []byte) error {
	if json.Valid(text) {
		return nil
	}
	var ignored json.RawMessage
	err := json.Unmarshal(text, &ignored)
	if wrong, ok := err.(*json.SyntaxError); ok {
		// Its message quotes at most one character.
		return &Error{Offset: int(wrong.Offset), Message: "it is not JSON"}
	}
	return &Error{Message: "it is not JSON"}
}

// parser walks a text that is known to be valid.
type parser struct {
	text []byte
	at   int
	left int // members and elements that may still come
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n', ',', ':':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) value(name string) (*Node, error) {
	p.space()
	n := &Node{Start: p.at, Name: name, text: p.text}
	var err error
	switch p.text[p.at] {
	case '{':
		n.Kind, err = Object, p.object(n)
	case '[':
		n.Kind, err = Array, p.array(n)
	case '"':
		n.Kind = String
		p.quoted()
	default:
		n.Kind = p.scalar()
	}
	n.End = p.at
	return n, err
}

// quoted passes a string.
func (p *parser) quoted() {
	for p.at++; p.text[p.at] != '"'; p.at++ {
		if p.text[p.at] == '\\' {
			p.at++
		}
	}
	p.at++
}

func (p *parser) scalar() Kind {
	kind := Number
	switch p.text[p.at] {
	case 'n':
		kind = Null
	case 't', 'f':
		kind = Bool
	}
	for p.at < len(p.text) && !bytes.ContainsRune([]byte(" \t\r\n,:]}"), rune(p.text[p.at])) {
		p.at++
	}
	return kind
}

func (p *parser) array(n *Node) error {
	p.at++
	for p.space(); p.text[p.at] != ']'; p.space() {
		if err := p.child(n, ""); err != nil {
			return within(err, strconv.Itoa(len(n.Children)-1))
		}
	}
	p.at++
	return nil
}

func (p *parser) object(n *Node) error {
	p.at++
	names := map[string]bool{}
	for p.space(); p.text[p.at] != '}'; p.space() {
		start := p.at
		p.quoted()
		name, err := unquote(p.text[start:p.at])
		if err != nil {
			return &Error{Offset: start, Message: "a member's name holds half of a surrogate pair"}
		}
		if names[name] {
			return &Error{Offset: start, Message: "a member's name stands twice in one object"}
		}
		names[name] = true
		if err := p.child(n, name); err != nil {
			return within(err, name)
		}
	}
	p.at++
	return nil
}

func (p *parser) child(n *Node, name string) error {
	if p.left--; p.left < 0 {
		n.Children = append(n.Children, nil) // nobody gets to see it
		return &Error{Offset: p.at, Message: "it has too many members and elements"}
	}
	c, err := p.value(name)
	n.Children = append(n.Children, c) // also when it is wrong: its place is told
	return err
}

// within adds a level to the place of an error.
func within(err error, token string) error {
	if e, ok := err.(*Error); ok {
		e.Pointer = "/" + Escape(token) + e.Pointer
	}
	return err
}

func unquote(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	if !paired(raw) {
		return "", errSurrogate
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

// errSurrogate: encoding/json would change such a string.
var errSurrogate = errors.New("half of a surrogate pair")

// paired tells whether each escaped half of a surrogate pair has the other
// (RFC 8259, section 7).
func paired(raw []byte) bool {
	high := false // the escape just before was a first half
	for i := 0; i < len(raw); i++ {
		var unit uint64
		if raw[i] == '\\' {
			if i++; raw[i] == 'u' {
				unit, _ = strconv.ParseUint(string(raw[i+1:i+5]), 16, 16) // valid, as the text is
				i += 4
			}
		}
		if low := unit >= 0xDC00 && unit < 0xE000; low != high {
			return false
		}
		high = unit >= 0xD800 && unit < 0xDC00
	}
	return true
}

// Raw is the value's text as it stands.
func (n *Node) Raw() []byte { return n.text[n.Start:n.End:n.End] }

// Text decodes a string; ok is false for another kind, and for a string with
// half of a surrogate pair, which is no text.
func (n *Node) Text() (s string, ok bool) {
	if n.Kind != String {
		return "", false
	}
	s, err := unquote(n.Raw())
	return s, err == nil
}

// Member is the value of a member, or nil.
func (n *Node) Member(name string) *Node {
	if n.Kind != Object {
		return nil
	}
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Walk calls fn for the value and all below it, with their pointers, until fn
// returns false for one, whose children it then leaves out.
func (n *Node) Walk(pointer string, fn func(pointer string, n *Node) bool) {
	if !fn(pointer, n) {
		return
	}
	for i, c := range n.Children {
		c.Walk(pointer+"/"+Escape(n.token(i)), fn)
	}
}

func (n *Node) token(i int) string {
	if n.Kind == Object {
		return n.Children[i].Name
	}
	return strconv.Itoa(i)
}

// Edit replaces one value by a text.
type Edit struct {
	Node *Node
	With []byte
}

// Replace gives the text of the value n with edits of values in it, none of
// which lies in another.
func (n *Node) Replace(edits []Edit) []byte {
	slices.SortFunc(edits, func(a, b Edit) int { return a.Node.Start - b.Node.Start })
	size := n.End - n.Start
	for _, e := range edits {
		size += len(e.With) - (e.Node.End - e.Node.Start)
	}
	out, at := make([]byte, 0, max(size, 0)), n.Start
	for _, e := range edits {
		out = append(out, n.text[at:e.Node.Start]...)
		out = append(out, e.With...)
		at = e.Node.End
	}
	return append(out, n.text[at:n.End]...)
}

// Escape writes a name as a part of a pointer (RFC 6901, section 3).
func Escape(name string) string {
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
