package pdp

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// StandardPath is the decision path of the standard policies, HTTPPath the one
// that answers in the shape of an HTTP check.
const (
	StandardPath = "verdict/authz/decision"
	HTTPPath     = "verdict/authz/http"
)

// standardDenial is the standard policies' answer when their evaluation fails:
// a denial, so that an error in a rule that would deny cannot let anyone
// through. It is nil for other policies, and for a question that was never
// evaluated.
func standardDenial(q *Query, err error) ast.Value {
	if q.Fault != nil || q.Ask != nil {
		return nil
	}
	item := func(key string, value *ast.Term) [2]*ast.Term { return ast.Item(ast.StringTerm(key), value) }
	code, detail := "policy_error", "the policy could not be evaluated"
	if stale, ok := errors.AsType[*eval.StaleError](err); ok {
		code, detail = eval.CodeStale, stale.Error()
	} else if cause := eval.ErrorCode(err); cause != "" {
		detail += ": " + cause
	}
	reason := func(policy string) [2]*ast.Term {
		return item("reasons", ast.ArrayTerm(ast.ObjectTerm(
			item("code", ast.StringTerm(code)),
			item("policy", ast.StringTerm(policy)),
			item("detail", ast.StringTerm(detail)),
		)))
	}
	switch q.Path {
	case StandardPath:
		return ast.NewObject(
			item("allow", ast.BooleanTerm(false)),
			item("decision", ast.StringTerm("indeterminate")),
			reason("verdict.authz"),
			item("obligations", ast.ArrayTerm()),
			item("advice", ast.ArrayTerm()),
			item("policy", ast.NullTerm()),
			item("trust", ast.NullTerm()),
			item("permissions", ast.ArrayTerm()),
		)
	case HTTPPath:
		return ast.NewObject(
			item("allowed", ast.BooleanTerm(false)),
			item("http_status", ast.IntNumberTerm(403)),
			reason("verdict.authz.http"),
		)
	}
	return nil
}
