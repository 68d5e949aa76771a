package pdp

import (
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
)

// names are the members that records are described by, made once: each decision
// looks for all of them.
type names struct {
	allow, allowed, decision, reasons, trust, risk *ast.Term // of results

	// Of inputs, in the shape of AuthZEN's evaluation request.

	subject, action, resource, context    *ast.Term
	kind, id, name, properties            *ast.Term
	tenant, organization, session, device *ast.Term
	location, country                     *ast.Term

	input, result, nd *ast.Term // of a masking policy's input
}

// newNames makes the names. Those whose values are hidden are left out where
// the record would tell a value: a nil name is no member's.
func newNames(hidden mask.Keys) *names {
	t := ast.StringTerm
	told := func(name string) *ast.Term {
		if hidden.Match(name) {
			return nil
		}
		return t(name)
	}
	return &names{
		allow: t("allow"), allowed: t("allowed"), decision: t("decision"), reasons: told("reasons"), trust: told("trust"), risk: told("risk"),
		subject: told("subject"), action: told("action"), resource: told("resource"), context: told("context"),
		kind: told("type"), id: told("id"), name: told("name"), properties: told("properties"),
		tenant: told("tenant"), organization: told("organization"), session: told("session"), device: told("device"),
		location: told("location"), country: told("country"),
		input: t("input"), result: t("result"), nd: t("nd_builtin_cache"),
	}
}

// allows tells whether a result grants what was asked: true itself, or an
// object whose allow, allowed or decision is true.
func (n *names) allows(value ast.Value) bool {
	switch v := value.(type) {
	case ast.Boolean:
		return bool(v)
	case ast.Object:
		b, ok := n.verdict(v)
		return ok && b
	}
	return false
}

// decides tells whether a result is a verdict at all.
func (n *names) decides(value ast.Value) bool {
	switch v := value.(type) {
	case ast.Boolean:
		return true
	case ast.Object:
		_, ok := n.verdict(v)
		return ok
	}
	return false
}

func (n *names) verdict(obj ast.Object) (allow, ok bool) {
	for _, name := range [...]*ast.Term{n.allow, n.allowed, n.decision} {
		if b, ok := member(obj, name).(ast.Boolean); ok {
			return bool(b), true
		}
	}
	return false, false
}

// describe copies from the input who wants to do what on what, where the input
// has the shape of AuthZEN's evaluation request or comes close to it.
func (n *names) describe(r *audit.Record, input ast.Value) {
	obj, ok := input.(ast.Object)
	if !ok {
		return
	}
	r.Subject = n.entity(member(obj, n.subject))
	r.Resource = n.entity(member(obj, n.resource))
	switch action := member(obj, n.action).(type) {
	case ast.String:
		r.Action = string(action)
	case ast.Object:
		r.Action = text(member(action, n.name))
	}
	if subject, ok := member(obj, n.subject).(ast.Object); ok {
		if properties, ok := member(subject, n.properties).(ast.Object); ok {
			r.Tenant = text(member(properties, n.tenant))
			r.Organization = text(member(properties, n.organization))
		}
	}
	if context, ok := member(obj, n.context).(ast.Object); ok {
		r.Session = n.identifier(member(context, n.session))
		r.Device = n.identifier(member(context, n.device))
		if location, ok := member(context, n.location).(ast.Object); ok {
			r.Location = text(member(location, n.country))
		}
	}
}

// entity writes a subject or resource as type:id, or as what of both there is.
func (n *names) entity(v ast.Value) string {
	switch v := v.(type) {
	case ast.String:
		return string(v)
	case ast.Object:
		kind, id := text(member(v, n.kind)), text(member(v, n.id))
		if kind == "" || id == "" {
			return kind + id
		}
		return kind + ":" + id
	}
	return ""
}

func (n *names) identifier(v ast.Value) string {
	if obj, ok := v.(ast.Object); ok {
		return text(member(obj, n.id))
	}
	return text(v)
}

func text(v ast.Value) string {
	s, _ := v.(ast.String)
	return string(s)
}

func member(obj ast.Object, name *ast.Term) ast.Value {
	if name == nil {
		return nil
	}
	if t := obj.Get(name); t != nil {
		return t.Value
	}
	return nil
}
