package mask

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrRule is returned by ParseRules when the policy's answer is no set of rules.
var ErrRule = errors.New("invalid mask rule")

// The members of a decision that rules may name.
const (
	partInput  = "input"
	partResult = "result"
	partND     = "nd_builtin_cache"
)

// Rule removes or replaces one value of a decision.
type Rule struct {
	upsert bool
	parts  []string  // of the path, as they stand in it
	value  ast.Value // what an upsert puts there
}

// Path returns the rule's path as OPA writes it into erased and masked.
func (r Rule) Path() string {
	var b strings.Builder
	for _, p := range r.parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}

// ParseRules reads the value of data.system.log.mask: a set or an array of paths,
// which are removed, and of objects {"op": "remove" | "upsert", "path", "value"}.
// As in OPA one bad rule makes the whole answer invalid.
func ParseRules(v ast.Value) ([]Rule, error) {
	var terms []*ast.Term
	switch v := v.(type) {
	case ast.Set:
		terms = v.Slice()
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { terms = append(terms, t) })
	default:
		return nil, fmt.Errorf("%s instead of a set: %w", ast.ValueName(v), ErrRule)
	}
	rules := make([]Rule, 0, len(terms))
	for _, t := range terms {
		r, err := parseRule(t.Value)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(v ast.Value) (Rule, error) {
	switch v := v.(type) {
	case ast.String:
		parts, err := parsePath(string(v))
		return Rule{parts: parts}, err
	case ast.Object:
		var r Rule
		switch op := member(v, "op"); op {
		case ast.String("remove"):
		case ast.String("upsert"):
			r.upsert = true
		default:
			return Rule{}, fmt.Errorf("op %v: %w", op, ErrRule)
		}
		path, ok := member(v, "path").(ast.String)
		if !ok {
			return Rule{}, fmt.Errorf("path %v: %w", member(v, "path"), ErrRule)
		}
		var err error
		if r.parts, err = parsePath(string(path)); err != nil {
			return Rule{}, err
		}
		if r.value = member(v, "value"); r.value == nil {
			r.value = ast.Null{}
		}
		return r, nil
	}
	return Rule{}, fmt.Errorf("%s instead of a path or an object: %w", ast.ValueName(v), ErrRule)
}

// member returns the value of a key, or nil.
func member(o ast.Object, key string) ast.Value {
	if t := o.Get(ast.StringTerm(key)); t != nil {
		return t.Value
	}
	return nil
}

func parsePath(path string) ([]string, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, fmt.Errorf("path %q does not start with a slash: %w", path, ErrRule)
	}
	parts := strings.Split(rest, "/")
	switch parts[0] {
	case partInput, partResult, partND:
	default:
		return nil, fmt.Errorf("path %q is not in input, result or nd_builtin_cache: %w", path, ErrRule)
	}
	for _, p := range parts {
		if _, err := url.PathUnescape(p); err != nil {
			return nil, fmt.Errorf("path %q: %w: %w", path, ErrRule, err)
		}
	}
	return parts, nil
}
