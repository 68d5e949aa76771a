package eval

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// MaxPath is the longest decision path, in bytes as it is written. The record of
// a decision holds paths up to this length whole, and to prepare one takes time
// in proportion to its segments.
const MaxPath = 2 << 10

// ErrPath is wrapped by the error of a query whose path cannot be made a
// reference below data.
var ErrPath = errors.New("invalid path")

// ParsePath turns a decision path such as "authz/allow" into the reference
// data.authz.allow. Segments are percent-decoded, empty ones are skipped and
// decimal ones become numbers, as OPA's Data API does. One longer than MaxPath is
// refused.
func ParsePath(path string) (ast.Ref, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrPath, MaxPath)
	}
	ref := make(ast.Ref, 1, 2+strings.Count(path, "/"))
	ref[0] = ast.DefaultRootDocument
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" {
			continue
		}
		if s, err := url.PathUnescape(segment); err == nil {
			segment = s
		}
		if strings.Contains(segment, `"`) {
			return nil, fmt.Errorf("%w: invalid ref term '%s'", ErrPath, segment)
		}
		if i, ok := util.Atoi64(segment); ok {
			ref = append(ref, ast.InternedTerm(i))
		} else {
			ref = append(ref, ast.InternedTerm(segment))
		}
	}
	return ref, nil
}

// pathQuery returns the query that asks for the document at ref and binds it to
// resultVar. It goes through Rego's text and parser, as in OPA, so that the same
// paths are refused and errors and traces name the same places.
func pathQuery(ref ast.Ref) (ast.Body, error) {
	body, err := ast.ParseBody(ref.String())
	if err != nil {
		return nil, fmt.Errorf("%w: failed to parse query", ErrPath)
	}
	var term *ast.Term
	if len(body) == 1 {
		term, _ = body[0].Terms.(*ast.Term)
	}
	if term == nil || !ast.TermValueIs[ast.Ref](term) {
		return nil, fmt.Errorf("%w: complex query", ErrPath)
	}
	body[0].Terms = ast.Equality.Expr(term, ast.NewTerm(resultVar)).Terms
	return body, nil
}
