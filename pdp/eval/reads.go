package eval

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// reads returns the paths below data that the document at ref may be made of:
// its own, and those that a rule it may need refers to, each up to the first
// name that is only known when the rule runs. The empty path is everything.
func (r *Reaches) reads(ref ast.Ref) [][]string {
	if r.opaque {
		return [][]string{{}}
	}
	c := collector{compiler: r.compiler, rules: map[*ast.Rule]bool{}, seen: map[string]bool{}}
	c.ref(ref)
	for len(c.open) > 0 {
		rule := c.open[len(c.open)-1]
		c.open = c.open[:len(c.open)-1]
		c.rule(rule)
	}
	return c.paths
}

// collector follows what a document depends on.
type collector struct {
	compiler *ast.Compiler
	rules    map[*ast.Rule]bool // met
	open     []*ast.Rule        // met and not looked into
	seen     map[string]bool    // paths, joined
	paths    [][]string
}

func (c *collector) meet(rule *ast.Rule) {
	if !c.rules[rule] {
		c.rules[rule] = true
		c.open = append(c.open, rule)
	}
}

// rule notes what a rule refers to, with its else branches.
func (c *collector) rule(rule *ast.Rule) {
	c.walk(rule)
	for r := rule; r != nil; r = r.Else {
		for _, t := range r.Head.Reference[min(1, len(r.Head.Reference)):] {
			c.walk(t)
		}
		if c.compiler.Graph == nil {
			continue
		}
		for dep := range c.compiler.Graph.Dependencies(r) {
			if next, ok := dep.(*ast.Rule); ok {
				c.meet(next)
			}
		}
	}
}

func (c *collector) walk(x any) { walkRefs(x, c.ref, func(any) {}) }

// walkRefs calls ref for each reference in the node x, the bare input and data
// among them, and other for all else. References within references count too.
func walkRefs(x any, ref func(ast.Ref), other func(any)) {
	var vis *ast.GenericVisitor
	vis = ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case ast.Var:
			if x.Equal(ast.InputRootDocument.Value) || x.Equal(ast.DefaultRootDocument.Value) {
				ref(ast.Ref{ast.NewTerm(x)})
			}
		case ast.Ref:
			ref(x)
			if _, ok := x[0].Value.(ast.Var); !ok {
				vis.Walk(x[0])
			}
			for _, t := range x[1:] {
				vis.Walk(t)
			}
			return true
		default:
			other(x)
		}
		return false
	})
	vis.Walk(x)
}

// ref notes a reference, when it is one below data, and the rules that it may
// need.
func (c *collector) ref(ref ast.Ref) {
	if !ref.HasPrefix(ast.DefaultRootRef) {
		return
	}
	path := make([]string, 0, len(ref)-1)
	for _, t := range ref[1:] {
		name, ok := t.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(name))
	}
	if key := strings.Join(path, "\x00"); !c.seen[key] {
		c.seen[key] = true
		c.paths = append(c.paths, path)
	}
	for _, rule := range c.compiler.GetRulesDynamicWithOpts(ref, ast.RulesOptions{IncludeHiddenModules: true}) {
		c.meet(rule)
	}
}
