package search

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// names are the members that a search reads and writes, made once.
type names struct {
	members [3]*ast.Term // by Kind

	kind, id, name, properties      *ast.Term
	reasons, code, obligations      *ast.Term
	entitiesOfRules, actionsOfRules ast.Ref
}

func newNames() names {
	t := ast.StringTerm
	return names{
		members: [3]*ast.Term{Subjects: t("subject"), Resources: t("resource"), Actions: t("action")},
		kind:    t("type"), id: t("id"), name: t("name"), properties: t("properties"),
		reasons: t("reasons"), code: t("code"), obligations: t("obligations"),
		entitiesOfRules: ast.MustParseRef("data.verdict.entities"),
		actionsOfRules:  ast.MustParseRef("data.verdict.actions"),
	}
}

// candidate is an entity that may be a result.
type candidate struct {
	key        string
	name       *ast.Term // its id, or the name of an action
	properties *ast.Term // nil: none
}

// pool is the candidates of a search behind the place where it begins, in their
// order. Those of entities are made when they are needed.
type pool struct {
	keys     []*ast.Term // of entities
	entities ast.Object
	actions  []candidate
}

func (p *pool) size() int { return len(p.keys) + len(p.actions) }

// part makes the candidates from one place to another.
func (p *pool) part(from, to int) ([]candidate, error) {
	if p.entities == nil {
		return p.actions[from:to], nil
	}
	list := make([]candidate, 0, to-from)
	for _, key := range p.keys[from:to] {
		id, ok := key.Value.(ast.String)
		if !ok {
			return nil, fmt.Errorf("%w: the id %v is no string", ErrData, key)
		}
		c := candidate{key: string(id), name: key}
		switch value := p.entities.Get(key); value.Value.(type) {
		case ast.Null:
		case ast.Object:
			c.properties = value
		default:
			return nil, fmt.Errorf("%w: the properties of %q are no object", ErrData, c.key)
		}
		list = append(list, c)
	}
	return list, nil
}

// pool finds the candidates of a search.
func (r *run) pool(ctx context.Context) (*pool, error) {
	folder, ref := "entities", r.names.entitiesOfRules
	if r.request.Kind == Actions {
		folder, ref = "actions", r.names.actionsOfRules
	}
	value, err := r.declared(ctx, folder, ref)
	if err != nil || value == nil {
		return &pool{}, err
	}
	if r.request.Kind == Actions {
		actions, err := actionsOf(value, r.names)
		if err != nil {
			return nil, fmt.Errorf("data.verdict.actions[%q]: %w", r.request.Type, err)
		}
		if after := r.request.After; after != nil {
			n := sort.Search(len(actions), func(i int) bool { return actions[i].key > *after })
			actions = actions[n:]
		}
		return &pool{actions: actions}, nil
	}
	entities, ok := value.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("data.verdict.entities[%q]: %w: it is no object", r.request.Type, ErrData)
	}
	keys := entities.Keys()
	if after := r.request.After; after != nil {
		last := ast.String(*after)
		n := sort.Search(len(keys), func(i int) bool { return keys[i].Value.Compare(last) > 0 })
		keys = keys[n:]
	}
	return &pool{keys: keys, entities: entities}, nil
}

// declared returns what data.verdict[folder], which ref names, has under the
// type that is looked for; nil when there is nothing. Where rules define it the
// folder is evaluated, with the question as input.
func (r *run) declared(ctx context.Context, folder string, ref ast.Ref) (ast.Value, error) {
	if !r.snapshot.HasRules(ref.Append(ast.StringTerm(r.request.Type))) {
		value, err := r.snapshot.Read(storage.Path{"verdict", folder, r.request.Type})
		if storage.IsNotFound(err) {
			return nil, nil
		}
		return value, err
	}
	res, err := r.snapshot.Eval(ctx, &eval.Query{Path: "verdict/" + folder, Input: r.request.Question, Now: r.now})
	if err != nil {
		return nil, fmt.Errorf("candidates of data.verdict.%s: %w", folder, err)
	}
	if types, ok := res.Value.(ast.Object); ok {
		if t := types.Get(ast.StringTerm(r.request.Type)); t != nil {
			return t.Value, nil
		}
	}
	return nil, nil
}

// actionsOf reads the actions of a resource type: names, objects with a name and
// properties, or one object of properties by name.
func actionsOf(value ast.Value, n names) ([]candidate, error) {
	var list []candidate
	var bad error
	add := func(name, properties *ast.Term) {
		text, ok := name.Value.(ast.String)
		if !ok {
			bad = fmt.Errorf("%w: the name %v is no string", ErrData, name)
			return
		}
		c := candidate{key: string(text), name: name}
		if properties != nil {
			switch properties.Value.(type) {
			case ast.Null:
			case ast.Object:
				c.properties = properties
				c.key += "\x00" + properties.String() // one name may have several
			default:
				bad = fmt.Errorf("%w: the properties of %q are no object", ErrData, c.key)
			}
		}
		list = append(list, c)
	}
	each := func(t *ast.Term) {
		if obj, ok := t.Value.(ast.Object); ok && obj.Get(n.name) != nil {
			add(obj.Get(n.name), obj.Get(n.properties))
			return
		}
		add(t, nil)
	}
	switch v := value.(type) {
	case *ast.Array:
		v.Foreach(each)
	case ast.Set:
		v.Foreach(each)
	case ast.Object:
		v.Foreach(add)
	default:
		bad = fmt.Errorf("%w: it is neither an array nor an object", ErrData)
	}
	slices.SortFunc(list, func(a, b candidate) int { return strings.Compare(a.key, b.key) })
	return slices.CompactFunc(list, func(a, b candidate) bool { return a.key == b.key }), bad
}
