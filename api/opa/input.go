package opa

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// inputLimits bound a decision's document. What wraps the input in the body is
// not counted.
func (s *Server) inputLimits(wrapping int) eval.Limits {
	l := s.limits.Load()
	return eval.Limits{Depth: l.Depth + wrapping, Members: l.Members + wrapping}
}

// postInput reads the body of a decision of /v1/data and takes the input out of
// it. Nil stands for no input, which is also what null means here.
func (s *Server) postInput(ex *exchange, r *http.Request) (ast.Value, error) {
	doc, err := s.decisionDocument(ex, r, 1)
	if err != nil || doc == nil {
		return nil, err
	}
	if _, ok := doc.(ast.Object); !ok && s.admittedBody(r) != nil {
		return nil, nil // where its policy has seen the body, OPA takes anything
	}
	input, err := s.memberInput(doc)
	if err != nil {
		return nil, malformed(err)
	}
	return input, nil
}

// memberInput returns the member named input. Names are compared without case
// where there is no exact one, as encoding/json does.
func (s *Server) memberInput(doc ast.Value) (ast.Value, error) {
	obj, ok := doc.(ast.Object)
	if !ok {
		if _, null := doc.(ast.Null); null {
			return nil, nil
		}
		return nil, fmt.Errorf("json: cannot unmarshal %s into Go value of type types.alias", jsonKind(doc))
	}
	member := obj.Get(s.inputKey)
	if member == nil && obj.Len() > 0 {
		member = foldedMember(obj, "input")
	}
	if member == nil {
		return nil, nil
	}
	if _, null := member.Value.(ast.Null); null {
		return nil, nil
	}
	return member.Value, nil
}

func foldedMember(obj ast.Object, name string) *ast.Term {
	var found *ast.Term
	obj.Foreach(func(k, v *ast.Term) {
		if key, ok := k.Value.(ast.String); ok && strings.EqualFold(string(key), name) {
			found = v
		}
	})
	return found
}

// wholeInput reads the body of a decision of /v0/data, which is the input. An
// empty body is null.
func (s *Server) wholeInput(ex *exchange, r *http.Request) (ast.Value, error) {
	doc, err := s.decisionDocument(ex, r, 0)
	if err == nil && doc == nil {
		doc = ast.NullValue
	}
	return doc, err
}

// decisionDocument reads the body of a decision and parses it; nil when it is
// empty.
func (s *Server) decisionDocument(ex *exchange, r *http.Request, wrapping int) (ast.Value, error) {
	if b := s.admittedBody(r); b != nil {
		return b.value, nil
	}
	body, err := s.readDecisionBody(r, ex.in[:0])
	if err != nil {
		return nil, err
	}
	ex.in = body
	if strings.Contains(headerValue(r.Header, "Content-Type"), "yaml") && len(body) > 0 {
		if body, err = yamlToJSON(body, s.limits.Load().RequestBody); err != nil {
			return nil, malformed(err)
		}
	}
	doc, _, perr := eval.ParseInput(body, s.inputLimits(wrapping))
	if perr != nil {
		if isEmpty(perr) {
			return nil, nil
		}
		return nil, malformed(perr)
	}
	return doc, nil
}

// queryInput parses the input parameter of GET /v1/data.
func (s *Server) queryInput(text string) (ast.Value, error) {
	doc, n, err := eval.ParseInput([]byte(text), s.inputLimits(0))
	if err == nil && strings.TrimLeft(text[n:], " \t\r\n") != "" {
		var ignored any
		err = util.UnmarshalJSON([]byte(text), &ignored) // for its message
	}
	if err != nil {
		return nil, fmt.Errorf("parameter contains malformed input document: %w", err)
	}
	return doc, nil
}

func malformed(err error) error {
	return fmt.Errorf("body contains malformed input document: %w", err)
}

func isEmpty(err error) bool {
	e, ok := err.(*eval.InputError) //nolint:errorlint // ParseInput returns nothing else
	return ok && e.Kind == eval.InputEmpty
}

// jsonKind names a value as encoding/json does in its errors.
func jsonKind(v ast.Value) string {
	switch v.(type) {
	case *ast.Array:
		return "array"
	case ast.String:
		return "string"
	case ast.Boolean:
		return "bool"
	case ast.Number:
		return "number"
	case ast.Object:
		return "object"
	}
	return "null"
}
