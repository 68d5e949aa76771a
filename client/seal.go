package client

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// ErrUnsealed is returned by Open when a field with a classification was not
// encrypted, or with another one.
var ErrUnsealed = errors.New("the field is not encrypted as its tag says")

// sealedField is a value to encrypt.
type sealedField struct {
	Classification string `json:"classification"`
	Optional       bool   `json:"optional,omitempty"`

	loose bool   // the tag itself says optional
	path  string // in Go, for errors
}

// Seal encodes v as JSON, as encoding/json does, and has the fields encrypted
// whose struct tags give a classification:
//
//	type Customer struct {
//		Name string         `json:"name"`
//		SSN  Secret[string] `json:"ssn" verdict:"top_secret"`
//		Note *Note          `json:"note,omitempty" verdict:"restricted"`
//	}
//
// A tag may stand on a field of any type, whose JSON is encrypted as a whole, so
// that its type does not show, and is restored by Open. Tags hold in nested and
// embedded structs, in elements of slices and arrays, in values of maps and
// behind pointers. With ",optional" Open takes a field that is not encrypted.
// A wrong tag is an error that names the field; nothing is sent then. Either all
// fields are encrypted or there is an error.
func (c *Client) Seal(ctx context.Context, v any, sc SealContext) ([]byte, error) {
	const op = "seal"
	s, err := sealingOf(v)
	if err == nil && sc.Pointer != "" {
		err = errors.New("the context of a document has no Pointer")
	}
	if err == nil {
		s.document, err = splice(s.document, s.secrets)
	}
	if err != nil {
		return nil, &Error{Op: op, Err: err, kind: ErrInvalid}
	}
	if len(s.fields) == 0 {
		return s.document, nil
	}
	a, err := c.post(ctx, op, pathEncrypt, struct {
		Document json.RawMessage        `json:"document"`
		Fields   map[string]sealedField `json:"fields"`
		Context  place                  `json:"context"`
	}{s.document, s.fields, sc.place()})
	if err != nil {
		return nil, err
	}
	got, err := readDocument(a)
	if err != nil {
		return nil, a.notUnderstood(op, err)
	}
	for pointer, f := range s.fields {
		if f.Classification != Public && !f.Optional && got.classes[pointer] != f.Classification {
			return nil, a.notUnderstood(op, fmt.Errorf("%s was not encrypted", f.path))
		}
	}
	return got.Document, nil
}

// Open has the encrypted fields of a document opened and reads it into the value
// that v points to, which is not touched when there is an error. Every field
// with a classification must have been encrypted with that one: ErrUnsealed
// otherwise.
func (c *Client) Open(ctx context.Context, document []byte, v any, sc SealContext) error {
	const op = "open"
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() || sc.Pointer != "" {
		return &Error{Op: op, Err: errors.New("v is a pointer, and the context has none"), kind: ErrInvalid}
	}
	if err := (&tagChecker{seen: map[reflect.Type]bool{}}).check(target.Type(), target.Type().Elem().String()); err != nil {
		return &Error{Op: op, Err: err, kind: ErrInvalid}
	}
	a, err := c.post(ctx, op, pathDecrypt, struct {
		Document json.RawMessage `json:"document"`
		Context  place           `json:"context"`
		Subject  *Entity         `json:"subject,omitempty"`
		Facts    map[string]any  `json:"facts,omitempty"`
	}{document, sc.place(), sc.Subject, sc.Facts})
	if err != nil {
		return err
	}
	got, err := readDocument(a)
	if err != nil {
		return a.notUnderstood(op, err)
	}
	fresh := reflect.New(target.Type().Elem())
	if err := json.Unmarshal(got.Document, fresh.Interface()); err != nil {
		return &Error{Op: op, DecisionID: got.DecisionID, Err: withoutValue(err), kind: ErrAnswer}
	}
	if err := got.check(fresh); err != nil {
		return &Error{Op: op, DecisionID: got.DecisionID, Err: err, kind: ErrAnswer}
	}
	target.Elem().Set(fresh.Elem())
	return nil
}

// sealedDocument is the answer for a document.
type sealedDocument struct {
	DecisionID string `json:"decision_id"`
	Document   json.RawMessage
	Fields     []struct{ Pointer, Classification string }

	classes map[string]string // by pointer
}

func readDocument(a *answer) (*sealedDocument, error) {
	d := &sealedDocument{classes: map[string]string{}}
	if err := json.Unmarshal(a.body, d); err != nil || d.Document == nil {
		return nil, errors.New("it holds no document")
	}
	for _, f := range d.Fields {
		d.classes[f.Pointer] = f.Classification
	}
	return d, nil
}

// check compares what was encrypted with what the tags of the value say.
func (d *sealedDocument) check(v reflect.Value) error {
	s := &sealing{fields: map[string]sealedField{}, secrets: map[string]json.RawMessage{}}
	if err := s.walk(v, spot{path: v.Type().Elem().String()}); err != nil {
		return err
	}
	present := map[string]json.RawMessage{}
	for pointer := range s.fields {
		present[pointer] = nil
	}
	if _, err := (&splicer{text: d.Document, seen: present}).run(); err != nil {
		return err
	}
	for pointer, f := range s.fields {
		there := present[pointer] != nil
		switch class := d.classes[pointer]; {
		case f.Classification == Public || class == f.Classification:
		case class == "" && (f.loose || !there && f.Optional):
		default:
			return fmt.Errorf("%s: %w", f.path, ErrUnsealed)
		}
	}
	return nil
}

// sealing is a value on its way to be encrypted.
type sealing struct {
	document []byte
	fields   map[string]sealedField     // by pointer
	secrets  map[string]json.RawMessage // what stands redacted in the document
	checker  tagChecker
}

func sealingOf(v any) (*sealing, error) {
	value := reflect.ValueOf(v)
	if !value.IsValid() {
		return nil, errors.New("there is no value")
	}
	s := &sealing{fields: map[string]sealedField{}, secrets: map[string]json.RawMessage{}}
	s.checker.seen = map[reflect.Type]bool{}
	if err := s.checker.check(value.Type(), value.Type().String()); err != nil {
		return nil, err
	}
	var err error
	if s.document, err = json.Marshal(v); err != nil { // it finds cycles too
		return nil, err
	}
	return s, s.walk(value, spot{path: value.Type().String()})
}

// spot is where a value stands.
type spot struct {
	pointer, path string
	covered       bool // inside of a value that is encrypted
}

func (at spot) below(token, path string) spot {
	at.pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
	at.path += path
	return at
}

// walk finds the fields with tags, and secrets.
func (s *sealing) walk(v reflect.Value, at spot) error {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		if v.Kind() == reflect.Interface && s.checker.seen != nil {
			if err := s.checker.check(v.Elem().Type(), at.path); err != nil {
				return err
			}
		}
		v = v.Elem()
	}
	if secret, ok := hidden(v); ok {
		if !at.covered {
			return fmt.Errorf("%s: a Secret has no JSON of its own; give it a classification", at.path)
		}
		raw, err := secret.encoded()
		s.secrets[at.pointer] = raw
		return err
	}
	if encodesItself(v.Type()) {
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return s.walkStruct(v, at)
	case reflect.Map:
		return s.walkMap(v, at)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			token := strconv.Itoa(i)
			if err := s.walk(v.Index(i), at.below(token, "["+token+"]")); err != nil {
				return err
			}
		}
	}
	return nil
}

func hidden(v reflect.Value) (concealed, bool) {
	if !v.CanInterface() {
		return nil, false
	}
	secret, ok := v.Interface().(concealed)
	return secret, ok
}

func (s *sealing) walkStruct(v reflect.Value, at spot) error {
	for _, f := range jsonFields(v.Type()) {
		value, err := v.FieldByIndexErr(f.path)
		if err != nil {
			continue // an embedded pointer is nil: the field is not in the JSON
		}
		below := at.below(f.name, "."+f.Name)
		if text, ok := f.Tag.Lookup(tagKey); ok {
			t, err := parseTag(text)
			if err != nil {
				return fmt.Errorf("%s: %w", below.path, err)
			}
			if at.covered {
				return fmt.Errorf("%s: it lies inside a value that is encrypted as a whole", below.path)
			}
			s.fields[below.pointer] = sealedField{t.class, t.optional || f.omits, t.optional, below.path}
			below.covered = t.class != Public
		}
		if err := s.walk(value, below); err != nil {
			return err
		}
	}
	return nil
}

func (s *sealing) walkMap(v reflect.Value, at spot) error {
	for it := v.MapRange(); it.Next(); {
		name, err := mapKey(it.Key())
		if err != nil {
			return fmt.Errorf("%s: %w", at.path, err)
		}
		if err := s.walk(it.Value(), at.below(name, "[]")); err != nil {
			return err
		}
	}
	return nil
}

// mapKey is the member's name that encoding/json gives a key.
func mapKey(k reflect.Value) (string, error) {
	if k.Kind() == reflect.String {
		return k.String(), nil
	}
	if text, ok := k.Interface().(encoding.TextMarshaler); ok {
		b, err := text.MarshalText()
		return string(b), err
	}
	switch {
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10), nil
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10), nil
	}
	return "", fmt.Errorf("a key of type %v has no name", k.Type())
}
