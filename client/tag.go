package client

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// tagKey is the key of the struct tags that classify fields.
const tagKey = "verdict"

// tag is what a struct tag says: a classification, and optional.
type tag struct {
	class    string
	optional bool
}

func parseTag(text string) (tag, error) {
	class, option, more := strings.Cut(text, ",")
	if !classified(class) {
		return tag{}, fmt.Errorf("%q is no classification; want public, internal, confidential, restricted or top_secret", class)
	}
	if more && option != "optional" {
		return tag{}, fmt.Errorf("there is no option %q; there is optional", option)
	}
	return tag{class, more}, nil
}

// jsonField is a field of a struct as encoding/json sees it.
type jsonField struct {
	reflect.StructField
	name  string
	named bool // by a tag
	omits bool // it may be left out of the JSON
	path  []int
}

// jsonFields lists the fields that encoding/json writes: of those with one name
// the least deep, then one whose tag names it, else none.
func jsonFields(t reflect.Type) []jsonField {
	var all []jsonField
	collectFields(t, nil, nil, &all)
	var fields []jsonField
	for i, f := range all {
		if dominates(f, i, all) {
			fields = append(fields, f)
		}
	}
	return fields
}

func dominates(f jsonField, at int, all []jsonField) bool {
	for i, other := range all {
		if i == at || other.name != f.name || len(other.path) > len(f.path) {
			continue
		}
		if len(other.path) < len(f.path) || other.named || !f.named {
			return false
		}
	}
	return true
}

func collectFields(t reflect.Type, path []int, above []reflect.Type, all *[]jsonField) {
	if slices.Contains(above, t) {
		return
	}
	above = append(slices.Clone(above), t)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Tag.Get("json") == "-" {
			continue
		}
		field := jsonField{StructField: f, name: name, named: name != "", path: append(slices.Clone(path), i)}
		for option := range strings.SplitSeq(options, ",") {
			field.omits = field.omits || option == "omitempty" || option == "omitzero"
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			collectFields(inner, field.path, above, all)
			continue
		case !f.IsExported():
			continue
		case name == "":
			field.name = f.Name
		}
		*all = append(*all, field)
	}
}

// tagChecker looks at the tags of types before anything is sent.
type tagChecker struct{ seen map[reflect.Type]bool }

// check refuses tags that say nothing that can be done, naming the field.
func (c *tagChecker) check(t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || c.seen[t] || t.Implements(reflect.TypeFor[concealed]()) {
		return nil
	}
	c.seen[t] = true
	own := encodesItself(t)
	for i := range t.NumField() {
		f := t.Field(i)
		place := path + "." + f.Name
		if text, ok := f.Tag.Lookup(tagKey); ok {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch _, err := parseTag(text); {
			case err != nil:
				return fmt.Errorf("%s: %w", place, err)
			case own:
				return fmt.Errorf("%s: %v encodes itself, so that its fields are not known", place, t)
			case f.Anonymous && name == "":
				return fmt.Errorf("%s: an embedded field is no value of its own; classify its fields, or name it", place)
			case !f.IsExported() || f.Tag.Get("json") == "-":
				return fmt.Errorf("%s: the field does not stand in JSON", place)
			}
		}
		if err := c.check(f.Type, place); err != nil {
			return err
		}
	}
	return nil
}

func encodesItself(t reflect.Type) bool {
	for _, t := range []reflect.Type{t, reflect.PointerTo(t)} {
		if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return true
		}
	}
	return false
}
