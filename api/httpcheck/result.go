package httpcheck

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Pair is a header field or a query parameter. A name that has several values
// stands in several pairs.
type Pair struct{ Name, Value string }

// Result is what a policy answered to a check. Members that have no meaning for
// it are not looked at: a body of what is allowed, a header to remove from what
// is denied.
type Result struct {
	Allowed bool
	// Plain tells that the answer was a boolean and all else is empty.
	Plain bool
	// Headers go to the upstream when it is allowed, to the client otherwise.
	Headers []Pair
	// ResponseHeaders go to the client, RemoveHeaders, SetQuery and RemoveQuery
	// change the request; all of them when it is allowed.
	ResponseHeaders            []Pair
	RemoveHeaders, RemoveQuery []string
	SetQuery                   []Pair
	// Body and Status are those of a denial; Status 0: none was given.
	Body   string
	Status int
	// Metadata is dynamic_metadata; nil when there is none.
	Metadata ast.Object
}

// ParseResult reads a boolean or an object in opa-envoy-plugin's shape. Sets
// count as arrays, as they do in JSON.
func ParseResult(v ast.Value) (*Result, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		if b, ok := v.(ast.Boolean); ok {
			return &Result{Allowed: bool(b), Plain: true}, nil
		}
		return nil, fmt.Errorf("the result is %s, want a boolean or an object", kindOf(v))
	}
	allowed, ok := member(obj, "allowed").(ast.Boolean)
	if !ok {
		return nil, fmt.Errorf("allowed is %s, want a boolean", kindOf(member(obj, "allowed")))
	}
	r := &Result{Allowed: bool(allowed)}
	p := parser{obj: obj}
	r.Headers = p.headers("headers")
	if metadata := member(obj, "dynamic_metadata"); metadata != nil {
		if r.Metadata, ok = metadata.(ast.Object); !ok {
			p.fail("dynamic_metadata is %s, want an object", kindOf(metadata))
		}
	}
	if r.Allowed {
		r.RemoveHeaders = p.strings("request_headers_to_remove")
		r.ResponseHeaders = p.headers("response_headers_to_add")
		r.RemoveQuery = p.strings("query_parameters_to_remove")
		r.SetQuery = p.parameters("query_parameters_to_set")
	} else {
		r.Body = p.text("body")
		r.Status = p.status("http_status")
	}
	if p.err != nil {
		return nil, p.err
	}
	return r, nil
}

// parser reads members of a result; err is the first thing that is wrong.
type parser struct {
	obj ast.Object
	err error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *parser) text(name string) string {
	v := member(p.obj, name)
	if v == nil {
		return ""
	}
	s, ok := v.(ast.String)
	if !ok {
		p.fail("%s is %s, want a string", name, kindOf(v))
	}
	return string(s)
}

func (p *parser) strings(name string) []string {
	v := member(p.obj, name)
	if v == nil {
		return nil
	}
	var list []string
	if !each(v, func(item ast.Value) {
		s, ok := item.(ast.String)
		if !ok {
			p.fail("%s holds %s, want strings", name, kindOf(item))
		}
		list = append(list, string(s))
	}) {
		p.fail("%s is %s, want an array of strings", name, kindOf(v))
	}
	return list
}

// status is a number that HTTP has a name for.
func (p *parser) status(name string) int {
	v := member(p.obj, name)
	if v == nil {
		return 0
	}
	number, ok := v.(ast.Number)
	if !ok {
		p.fail("%s is %s, want a number", name, kindOf(v))
		return 0
	}
	status, err := strconv.Atoi(string(number))
	if err != nil || http.StatusText(status) == "" {
		p.fail("%s is %s, which is no HTTP status", name, number)
	}
	return status
}

// headers reads an object, or a list of objects, of strings and lists of them.
func (p *parser) headers(name string) []Pair {
	v := member(p.obj, name)
	if v == nil {
		return nil
	}
	if obj, ok := v.(ast.Object); ok {
		return p.pairs(name, obj, nil)
	}
	var list []Pair
	if !each(v, func(item ast.Value) {
		obj, ok := item.(ast.Object)
		if !ok {
			p.fail("%s holds %s, want objects", name, kindOf(item))
			return
		}
		list = p.pairs(name, obj, list)
	}) {
		p.fail("%s is %s, want an object or an array of objects", name, kindOf(v))
	}
	return list
}

func (p *parser) parameters(name string) []Pair {
	v := member(p.obj, name)
	if v == nil {
		return nil
	}
	obj, ok := v.(ast.Object)
	if !ok {
		p.fail("%s is %s, want an object", name, kindOf(v))
		return nil
	}
	return p.pairs(name, obj, nil)
}

// pairs appends the members of an object to list.
func (p *parser) pairs(name string, obj ast.Object, list []Pair) []Pair {
	obj.Foreach(func(k, v *ast.Term) {
		key := keyText(k.Value)
		if s, ok := v.Value.(ast.String); ok {
			list = append(list, Pair{Name: key, Value: string(s)})
			return
		}
		if !each(v.Value, func(item ast.Value) {
			s, ok := item.(ast.String)
			if !ok {
				p.fail("%s: %s holds %s, want strings", name, key, kindOf(item))
			}
			list = append(list, Pair{Name: key, Value: string(s)})
		}) {
			p.fail("%s: %s is %s, want a string or an array of strings", name, key, kindOf(v.Value))
		}
	})
	return list
}

// each calls f for the elements of an array or a set, and tells whether v is
// one.
func each(v ast.Value, f func(ast.Value)) bool {
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { f(t.Value) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { f(t.Value) })
	default:
		return false
	}
	return true
}

// keyText is a key of an object as JSON has it.
func keyText(v ast.Value) string {
	if s, ok := v.(ast.String); ok {
		return string(s)
	}
	encoded, err := eval.AppendJSON(nil, v)
	if err != nil {
		return v.String()
	}
	return string(encoded)
}

func member(obj ast.Object, name string) ast.Value {
	if t := obj.Get(ast.InternedTerm(name)); t != nil {
		return t.Value
	}
	return nil
}

func kindOf(v ast.Value) string {
	switch v.(type) {
	case nil:
		return "absent"
	case ast.Null:
		return "null"
	case ast.Boolean:
		return "a boolean"
	case ast.Number:
		return "a number"
	case ast.String:
		return "a string"
	case ast.Object:
		return "an object"
	default:
		return "an array"
	}
}
