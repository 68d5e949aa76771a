package replay

import (
	"encoding/json"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds of what a flip is grouped by.
const (
	maxValues    = 8   // roles of a subject, or reasons, that count
	maxValueSize = 128 // bytes of one
)

// subjectRoles are the roles in the input, where it has the shape of AuthZEN's
// evaluation request or comes close to it.
func (x *decision) subjectRoles() []string {
	subject := member(x.input, "subject")
	for _, at := range []ast.Value{member(member(subject, "properties"), "roles"), member(subject, "roles"), member(subject, "role")} {
		switch v := at.(type) {
		case ast.String:
			return values([]string{string(v)})
		case *ast.Array:
			var roles []string
			v.Until(func(t *ast.Term) bool {
				if role, ok := t.Value.(ast.String); ok {
					roles = append(roles, string(role))
				}
				return len(roles) == maxValues
			})
			return values(roles)
		}
	}
	return nil
}

func (x *decision) resourceType() string {
	kind, _ := member(member(x.input, "resource"), "type").(ast.String)
	return bounded(string(kind))
}

func member(v ast.Value, name string) ast.Value {
	obj, ok := v.(ast.Object)
	if !ok {
		return nil
	}
	if t := obj.Get(ast.StringTerm(name)); t != nil {
		return t.Value
	}
	return nil
}

// reasonCodes are the codes of the reasons in a result: {reasons: [{code}]}, or
// plain texts.
func reasonCodes(result json.RawMessage) []string {
	if len(result) == 0 || result[0] != '{' {
		return nil
	}
	var members struct {
		Reasons []json.RawMessage `json:"reasons"`
	}
	if json.Unmarshal(result, &members) != nil {
		return nil
	}
	var codes []string
	for _, raw := range members.Reasons[:min(len(members.Reasons), maxValues)] {
		var object struct {
			Code string `json:"code"`
		}
		var text string
		if json.Unmarshal(raw, &object) == nil && object.Code != "" {
			codes = append(codes, object.Code)
		} else if json.Unmarshal(raw, &text) == nil && text != "" {
			codes = append(codes, text)
		}
	}
	return values(codes)
}

// values are bounded, each once.
func values(list []string) []string {
	for i := range list {
		list[i] = bounded(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func bounded(text string) string {
	if len(text) <= maxValueSize {
		return text
	}
	cut := maxValueSize
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "..."
}
