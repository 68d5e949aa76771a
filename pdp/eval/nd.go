package eval

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
)

// ndObject turns the evaluator's cache of non-deterministic results into one
// value: {built-in: {arguments as JSON text: result}}.
func ndObject(nd builtins.NDBCache) ast.Object {
	if len(nd) == 0 {
		return nil
	}
	obj := ast.NewObject()
	for name, calls := range nd {
		obj.Insert(ast.StringTerm(name), ast.NewTerm(calls))
	}
	return obj
}

// ndCache is the evaluator's cache with recorded results in it. What is added
// to it does not reach the record.
func ndCache(recorded ast.Object) builtins.NDBCache {
	nd := builtins.NDBCache{}
	if recorded == nil {
		return nd
	}
	recorded.Foreach(func(name, calls *ast.Term) {
		byArguments, ok := calls.Value.(ast.Object)
		if text, isText := name.Value.(ast.String); ok && isText {
			own := ast.NewObject()
			byArguments.Foreach(func(arguments, result *ast.Term) { own.Insert(arguments, result) })
			nd[string(text)] = own
		}
	})
	return nd
}

// ParseND reads the results of non-deterministic built-ins as a record has them:
// {built-in: {arguments as JSON text: result}}, the shape of OPA's decision log.
// Sets among the arguments are arrays there, so that such a call is not found
// again by them.
func ParseND(b []byte, lim Limits) (ast.Object, error) {
	v, _, err := ParseInput(b, lim)
	if err != nil {
		return nil, fmt.Errorf("parse non-deterministic results: %w", err)
	}
	recorded, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("parse non-deterministic results: %s in place of an object", ast.ValueName(v))
	}
	parsed := ast.NewObject()
	err = recorded.Iter(func(name, calls *ast.Term) error {
		byText, ok := calls.Value.(ast.Object)
		if !ok {
			return fmt.Errorf("parse non-deterministic results: calls of %v are no object", name)
		}
		byArguments := ast.NewObject()
		err := byText.Iter(func(text, result *ast.Term) error {
			arguments, _, err := ParseInput([]byte(text.Value.(ast.String)), lim)
			if err != nil {
				return fmt.Errorf("parse non-deterministic results: arguments of %v: %w", name, err)
			}
			byArguments.Insert(ast.NewTerm(arguments), result)
			return nil
		})
		parsed.Insert(name, ast.NewTerm(byArguments))
		return err
	})
	if err != nil {
		return nil, err
	}
	return parsed, nil
}
