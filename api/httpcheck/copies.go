package httpcheck

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp"
)

// request is where the input has the request.
const request = "/input/attributes/request/http/"

// Copies are the places of an input that hold its query or its body as text:
// where a parameter or a field is not recorded, they are not either.
func Copies() []pdp.Copy {
	return []pdp.Copy{
		{Of: "/input/parsed_query", At: []string{
			request + "path", request + "query", request + "headerMap",
			request + "headers/:path", request + "headers/x-envoy-original-path",
			request + "headers/x-original-uri", request + "headers/x-forwarded-uri",
		}},
		{Of: "/input/parsed_body", At: []string{request + "body", request + "rawBody"}},
	}
}

// UnreadCopies are Copies for an input whose body nobody has read: it is not
// recorded, since there is no telling what of it is a secret.
func UnreadCopies() []pdp.Copy {
	return append(Copies(), pdp.Copy{At: []string{request + "body", request + "rawBody"}})
}

// Unread tells whether the check has a body that the input has as text only: one
// of a type that nobody reads, cut off, or malformed.
func (in *Inputs) Unread(c *Check, input ast.Object) bool {
	http := c.Request.GetAttributes().GetRequest().GetHttp()
	if input == nil || http.GetBody() == "" && len(http.GetRawBody()) == 0 {
		return false
	}
	parsed := input.Get(in.names.parsedBody)
	if parsed == nil {
		return true
	}
	_, null := parsed.Value.(ast.Null)
	return null
}
