package pdp

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// StandardPath is the decision path of the standard policies.
const StandardPath = "verdict/authz/decision"

// denyPolicyError is the standard policies' answer when their evaluation
// fails: a denial, so that an error in a rule that would deny cannot let anyone
// through.
func denyPolicyError(err error) ast.Value {
	detail := "the policy could not be evaluated"
	if code := eval.ErrorCode(err); code != "" {
		detail += ": " + code
	}
	item := func(key string, value *ast.Term) [2]*ast.Term { return ast.Item(ast.StringTerm(key), value) }
	reason := ast.ObjectTerm(
		item("code", ast.StringTerm("policy_error")),
		item("policy", ast.StringTerm("verdict.authz")),
		item("detail", ast.StringTerm(detail)),
	)
	return ast.NewObject(
		item("allow", ast.BooleanTerm(false)),
		item("decision", ast.StringTerm("indeterminate")),
		item("reasons", ast.ArrayTerm(reason)),
		item("obligations", ast.ArrayTerm()),
		item("advice", ast.ArrayTerm()),
		item("policy", ast.NullTerm()),
		item("trust", ast.NullTerm()),
		item("permissions", ast.ArrayTerm()),
	)
}
