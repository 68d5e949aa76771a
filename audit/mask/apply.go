package mask

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Apply applies the rules, in order, to an event: an object whose members input,
// result and nd_builtin_cache are what rules may name. It returns a new event and
// leaves the old one as it is, and the paths of what was removed and replaced.
//
// It does what OPA 1.22 does, on values instead of decoded JSON: a rule whose
// path does not exist has no effect, an upsert makes the objects that are missing
// on its way but extends no array, sets are arrays in their order. A part of a
// path matches a key as it stands there, percent-encoded as in OPA, and also
// decoded as a URL or as a JSON pointer, so that every key can be named.
func Apply(rules []Rule, event ast.Value) (masked ast.Value, erased, replaced []string, err error) {
	doc, ok := event.(ast.Object)
	if !ok {
		return nil, nil, nil, fmt.Errorf("mask %s: want an object", ast.ValueName(event))
	}
	for _, r := range rules {
		if member(doc, r.parts[0]) == nil {
			continue
		}
		next, ok := r.change(doc, r.parts)
		if !ok {
			continue
		}
		doc = next.(ast.Object)
		if r.upsert {
			replaced = append(replaced, r.Path())
		} else {
			erased = append(erased, r.Path())
		}
	}
	return doc, erased, replaced, nil
}

// change returns v with the value at the path changed, or false.
func (r Rule) change(v ast.Value, path []string) (ast.Value, bool) {
	switch v := v.(type) {
	case ast.Object:
		return r.changeObject(v, path)
	case *ast.Array:
		items := make([]*ast.Term, 0, v.Len())
		v.Foreach(func(t *ast.Term) { items = append(items, t) })
		return r.changeItems(items, path)
	case ast.Set:
		return r.changeItems(slices.Clone(v.Slice()), path)
	}
	return nil, false
}

func (r Rule) changeObject(o ast.Object, path []string) (ast.Value, bool) {
	key, old := find(o, path[0])
	var value *ast.Term // nil: removed
	switch {
	case len(path) == 1 && r.upsert:
		value = ast.NewTerm(r.value)
	case len(path) == 1:
		if old == nil {
			return nil, false
		}
	default:
		child := ast.Value(ast.NewObject())
		if old != nil {
			child = old.Value
		} else if !r.upsert {
			return nil, false
		}
		changed, ok := r.change(child, path[1:])
		if !ok {
			return nil, false
		}
		value = ast.NewTerm(changed)
	}
	items := make([][2]*ast.Term, 0, o.Len()+1)
	o.Foreach(func(k, v *ast.Term) {
		if old == nil || !k.Equal(key) {
			items = append(items, [2]*ast.Term{k, v})
		}
	})
	if value != nil {
		items = append(items, [2]*ast.Term{key, value})
	}
	return ast.NewObject(items...), true
}

func (r Rule) changeItems(items []*ast.Term, path []string) (ast.Value, bool) {
	i, err := strconv.Atoi(path[0])
	if err != nil || i < 0 || i >= len(items) {
		return nil, false
	}
	switch {
	case len(path) > 1:
		changed, ok := r.change(items[i].Value, path[1:])
		if !ok {
			return nil, false
		}
		items[i] = ast.NewTerm(changed)
	case r.upsert:
		items[i] = ast.NewTerm(r.value)
	default:
		items = slices.Delete(items, i, i+1)
	}
	return ast.NewArray(items...), true
}

// find returns the key that a part of a path means and its value, or the key to
// make and nil.
func find(o ast.Object, part string) (key, value *ast.Term) {
	pointer := strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
	names := [...]string{url.PathEscape(part), part, pointer, part}
	if decoded, err := url.PathUnescape(part); err == nil {
		names[3] = decoded
	}
	for _, name := range names {
		key := ast.StringTerm(name)
		if v := o.Get(key); v != nil {
			return key, v
		}
	}
	// A key that is no string stands in JSON as its text.
	o.Foreach(func(k, v *ast.Term) {
		if _, isString := k.Value.(ast.String); !isString && value == nil && k.Value.String() == part {
			key, value = k, v
		}
	})
	if value != nil {
		return key, value
	}
	return ast.StringTerm(pointer), nil
}
