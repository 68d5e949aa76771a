package jsondoc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxPattern is the length of a pattern in bytes.
const MaxPattern = 1000

// Any is the part of a pattern that stands for every member or element of one
// level.
const Any = "*"

var (
	// ErrPattern is returned for what is no JSON Pointer.
	ErrPattern = errors.New("not a JSON Pointer")
	// ErrMissing is returned when a pattern names a value that is not there.
	ErrMissing = errors.New("no such value")
)

// Pattern is a JSON Pointer in which a part that is "*" stands for every member
// or element of its level. A member whose name is "*" is met by that only.
type Pattern struct {
	text  string
	parts []string
}

// ParsePattern reads a pattern: "" for the whole document, or parts each after
// a slash, with "~1" for a slash in a name and "~0" for a tilde.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	if text == "" {
		return p, nil
	}
	if text[0] != '/' || len(text) > MaxPattern {
		return p, fmt.Errorf("want a slash before each part and at most %d bytes: %w", MaxPattern, ErrPattern)
	}
	for part := range strings.SplitSeq(text[1:], "/") {
		for i := range len(part) {
			if part[i] == '~' && (i+1 == len(part) || part[i+1] != '0' && part[i+1] != '1') {
				return p, fmt.Errorf("want ~0 for a tilde and ~1 for a slash: %w", ErrPattern)
			}
		}
		p.parts = append(p.parts, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return p, nil
}

// String is the text that was read.
func (p Pattern) String() string { return p.text }

// Match is a value that a pattern names.
type Match struct {
	Pointer string
	Node    *Node
}

// Find lists the values that the pattern names, in their order. A part "*" may
// stand for none. Where another part names nothing, or "*" meets a value that
// holds none, the error is ErrMissing; with optional such places are left out.
func (p Pattern) Find(root *Node, optional bool) ([]Match, error) {
	found := []Match{{Node: root}}
	for _, part := range p.parts {
		var next []Match
		for _, m := range found {
			below, ok := m.step(part)
			if !ok && !optional {
				return nil, ErrMissing
			}
			next = append(next, below...)
		}
		found = next
	}
	return found, nil
}

// step goes one level down; ok tells that there is such a level.
func (m Match) step(part string) (below []Match, ok bool) {
	n := m.Node
	if part == Any {
		for i, c := range n.Children {
			below = append(below, Match{m.Pointer + "/" + Escape(n.token(i)), c})
		}
		return below, n.Kind == Object || n.Kind == Array
	}
	var c *Node
	switch n.Kind {
	case Object:
		c = n.Member(part)
	case Array:
		c = n.element(part)
	}
	if c == nil {
		return nil, false
	}
	return []Match{{m.Pointer + "/" + Escape(part), c}}, true
}

// element is the one with an index as RFC 6901 writes it: no leading zeros.
func (n *Node) element(index string) *Node {
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(n.Children) || strconv.Itoa(i) != index {
		return nil
	}
	return n.Children[i]
}
