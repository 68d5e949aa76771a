package eval

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// capturing is a stage of the query compiler that binds the value of each
// expression to a variable, as OPA's API has it: `1 == 2` alone is then a row
// whose expression is false, while in a query of several expressions, or one
// that iterates, what is false ends the row.
type capturing struct {
	types *ast.TypeEnv
	made  int
}

func (c *capturing) stage(_ ast.QueryCompiler, body ast.Body) (ast.Body, error) {
	filter := len(body) > 1 || iterates(body)
	for _, expr := range body[:len(body):len(body)] {
		if expr.Negated || expr.IsAssignment() || expr.IsEquality() {
			continue
		}
		value := c.capture(expr)
		if value == nil || !filter {
			continue
		}
		check := expr.Copy()
		check.Terms, check.With, check.Generated = value, nil, true
		body.Append(check)
	}
	return body, nil
}

// capture binds the value of an expression to a new variable and returns it;
// nil when the expression has no value.
func (c *capturing) capture(expr *ast.Expr) *ast.Term {
	switch terms := expr.Terms.(type) {
	case *ast.Term:
		v := c.variable()
		expr.Terms = ast.Equality.Expr(terms, v).Terms
		return v
	case []*ast.Term:
		result := c.types.GetByValue(terms[0].Value)
		if types.Void(result) || types.Arity(result) != len(terms)-1 {
			return nil
		}
		v := c.variable()
		expr.Terms = append(terms, v)
		return v
	}
	return nil
}

func (c *capturing) variable() *ast.Term {
	c.made++
	return ast.VarTerm(ast.WildcardPrefix + "term" + strconv.Itoa(c.made))
}

// iterates tells whether a query may have several rows: a reference in it goes
// through all keys, or a built-in gives several answers. What comprehensions go
// through is their own.
func iterates(body ast.Body) (yes bool) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Term:
			return yes || ast.IsComprehension(x.Value)
		case ast.Ref:
			if b := ast.BuiltinMap[x.String()]; b != nil && b.Relation {
				yes = true
			}
			for _, t := range x[min(1, len(x)):] {
				if _, ok := t.Value.(ast.Var); ok {
					yes = true
				}
			}
		}
		return yes
	}).Walk(body)
	return yes
}
