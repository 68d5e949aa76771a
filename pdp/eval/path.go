package eval

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// ErrPath is wrapped by the error of a query whose path cannot be made a
// reference below data.
var ErrPath = errors.New("invalid path")

// ParsePath turns a decision path such as "authz/allow" into the reference
// data.authz.allow. Segments are percent-decoded, empty ones are skipped and
// decimal ones become numbers, as OPA's Data API does.
func ParsePath(path string) (ast.Ref, error) {
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
		if !isWritable(segment) {
			return nil, fmt.Errorf("%w: failed to parse query", ErrPath)
		}
		if i, ok := util.Atoi64(segment); ok {
			ref = append(ref, ast.InternedTerm(i))
		} else {
			ref = append(ref, ast.InternedTerm(segment))
		}
	}
	return ref, nil
}

// isWritable tells whether a segment can be written as a Rego string. OPA makes
// the text of a query from a path and parses it, which fails for control
// characters that JSON has no short escape for, for characters beyond the basic
// plane that do not print, and for what is not UTF-8.
func isWritable(segment string) bool {
	for i, r := range segment {
		switch {
		case r < ' ':
			if !strings.ContainsRune("\b\f\n\r\t", r) {
				return false
			}
		case r == 0x7f, r > 0xffff && !strconv.IsPrint(r):
			return false
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(segment[i:]); size == 1 {
				return false
			}
		}
	}
	return true
}
