package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
)

// padTo is the length to which shorter values are filled with spaces before
// they are encrypted, so that true, null and a short number look alike.
const padTo = 32

// Document is a JSON document and which of its values are meant.
type Document struct {
	Root *jsondoc.Node
	// Rules of the fields. For opening none means every ciphertext that stands
	// in the document.
	Rules []Rule
	// Context of the document; its Pointer is empty, since each field has its
	// own.
	Context keys.Context
}

// Field is a value of a document that was encrypted or opened.
type Field struct {
	Pointer string
	Class   keys.Class
}

// Result is a document with its fields encrypted or opened. All else of it is
// byte for byte what it was: white space, the order of members, the text of
// numbers.
type Result struct {
	DecisionID string // of an opening
	Document   []byte
	Fields     []Field // in the order of the document, without public ones
}

// field is a value that a rule names.
type field struct {
	Field
	node     *jsondoc.Node
	optional bool
}

// Seal encrypts the values that the rules name, each as its JSON text and bound
// to its own pointer. It does so for all of them or none: a *FieldError tells
// the first that is wrong.
func (s *Service) Seal(ctx context.Context, a *Asker, d *Document) (*Result, error) {
	fields, err := d.find()
	if err != nil {
		return nil, err
	}
	fields = slices.DeleteFunc(fields, func(f field) bool { return f.Class == keys.Public })
	values := make([]keys.Value, len(fields))
	for i, f := range fields {
		if holdsSealed(f.node) {
			return nil, &FieldError{f.Pointer, ErrSealed}
		}
		raw := f.node.Raw()
		if missing := padTo - len(raw); missing > 0 {
			raw = append(raw, strings.Repeat(" ", missing)...) // a copy: Raw has no room
		}
		values[i] = keys.Value{Class: f.Class, Context: d.context(f.Pointer), Data: raw}
	}
	sealed, err := s.Encrypt(ctx, a, values)
	if err != nil {
		return nil, err
	}
	texts := make([][]byte, len(fields))
	for i, e := range sealed {
		if e.Err != nil {
			return nil, &FieldError{fields[i].Pointer, e.Err}
		}
		texts[i] = []byte(`"` + e.Text + `"`)
	}
	return d.replace(fields, texts), nil
}

// Open decides whether the fields may be opened, and puts their values back
// where they stand, all of them or none.
func (s *Service) Open(ctx context.Context, a *Asker, d *Document) (*Result, error) {
	fields, err := d.sealedFields()
	if err != nil {
		return nil, err
	}
	items := make([]keys.Ciphertext, len(fields))
	for i, f := range fields {
		text, ok := f.node.Text()
		if !ok {
			return nil, &FieldError{f.Pointer, keys.ErrMalformed}
		}
		items[i] = keys.Ciphertext{Text: text, Context: d.context(f.Pointer)}
	}
	id, err := s.decide(ctx, a, &question{action: "decrypt", items: items})
	if err != nil {
		return nil, err
	}
	if err := classify(fields, items); err != nil {
		return nil, err
	}
	opened, err := s.open(ctx, a, id, items)
	if err != nil {
		return nil, err
	}
	defer func() {
		for i := range opened {
			clear(opened[i].Data)
		}
	}()
	texts := make([][]byte, len(fields))
	for i, o := range opened {
		if o.Err != nil {
			return nil, &FieldError{fields[i].Pointer, o.Err}
		}
		texts[i] = bytes.TrimRight(o.Data, " ")
		if !json.Valid(texts[i]) {
			return nil, &FieldError{fields[i].Pointer, ErrNotJSON}
		}
	}
	r := d.replace(fields, texts)
	r.DecisionID = id
	return r, nil
}

// classify compares the classes that the caller expects with those of the
// ciphertexts, and fills in those it does not.
func classify(fields []field, items []keys.Ciphertext) error {
	for i := range fields {
		h, err := keys.Inspect(items[i].Text)
		switch {
		case err != nil: // the ring says so too, and records it
		case fields[i].Class == 0:
			fields[i].Class = h.Class
		case fields[i].Class != h.Class:
			return &FieldError{fields[i].Pointer, ErrClass}
		}
	}
	return nil
}

func (d *Document) context(pointer string) keys.Context {
	c := d.Context
	c.Pointer = pointer
	return c
}

// find lists the values that the rules name, in the order of the document.
func (d *Document) find() ([]field, error) {
	var fields []field
	for _, rule := range d.Rules {
		matches, err := rule.Pattern.Find(d.Root, rule.Optional)
		if err != nil {
			return nil, &FieldError{rule.Pattern.String(), err}
		}
		if len(fields)+len(matches) > MaxItems {
			return nil, &FieldError{rule.Pattern.String(), fmt.Errorf("more than %d: %w", MaxItems, ErrTooMany)}
		}
		for _, m := range matches {
			fields = append(fields, field{Field{m.Pointer, rule.Class}, m.Node, rule.Optional})
		}
	}
	slices.SortFunc(fields, func(a, b field) int {
		if order := a.node.Start - b.node.Start; order != 0 {
			return order
		}
		return b.node.End - a.node.End
	})
	for i := 1; i < len(fields); i++ {
		if fields[i].node.Start < fields[i-1].node.End {
			return nil, &FieldError{fields[i].Pointer, fmt.Errorf("%w with %q", ErrOverlap, fields[i-1].Pointer)}
		}
	}
	return fields, nil
}

// sealedFields lists the fields to open.
func (d *Document) sealedFields() ([]field, error) {
	if d.Rules == nil {
		return d.everySealed()
	}
	all, err := d.find()
	if err != nil {
		return nil, err
	}
	fields := all[:0]
	for _, f := range all {
		switch {
		case f.Class == keys.Public:
		case looksSealed(f.node):
			fields = append(fields, f)
		case !f.optional:
			return nil, &FieldError{f.Pointer, keys.ErrMalformed}
		}
	}
	return fields, nil
}

func (d *Document) everySealed() ([]field, error) {
	var fields []field
	d.Root.Walk("", func(pointer string, n *jsondoc.Node) bool {
		if looksSealed(n) {
			fields = append(fields, field{Field{Pointer: pointer}, n, false})
		}
		return true
	})
	if len(fields) > MaxItems {
		return nil, fmt.Errorf("more than %d: %w", MaxItems, ErrTooMany)
	}
	return fields, nil
}

// looksSealed tells whether a value is a string that begins as ciphertexts do.
func looksSealed(n *jsondoc.Node) bool {
	text, ok := n.Text()
	return ok && strings.HasPrefix(text, keys.Prefix)
}

// holdsSealed tells whether a value, or one inside it, looks sealed.
func holdsSealed(n *jsondoc.Node) bool {
	found := false
	n.Walk("", func(_ string, n *jsondoc.Node) bool {
		found = found || looksSealed(n)
		return !found
	})
	return found
}

// replace puts the texts where the fields stand.
func (d *Document) replace(fields []field, texts [][]byte) *Result {
	r := &Result{Fields: make([]Field, len(fields))}
	edits := make([]jsondoc.Edit, len(fields))
	for i, f := range fields {
		r.Fields[i], edits[i] = f.Field, jsondoc.Edit{Node: f.node, With: texts[i]}
	}
	r.Document = d.Root.Replace(edits)
	return r
}
