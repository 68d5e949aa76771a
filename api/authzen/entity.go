package authzen

import "github.com/open-policy-agent/opa/v1/ast"

// names are the members of requests and results, made once.
type names struct {
	subject, action, resource, context *ast.Term
	kind, id, name, properties         *ast.Term

	evaluations, options, semantic *ast.Term
	page, token, limit             *ast.Term

	obligations, acr, amr *ast.Term
	defaults              [4]*ast.Term // what items of a batch have in common
}

func newNames() *names {
	t := ast.StringTerm
	n := &names{
		subject: t("subject"), action: t("action"), resource: t("resource"), context: t("context"),
		kind: t("type"), id: t("id"), name: t("name"), properties: t("properties"),
		evaluations: t("evaluations"), options: t("options"), semantic: t("evaluations_semantic"),
		page: t("page"), token: t("token"), limit: t("limit"),
		obligations: t("obligations"), acr: t("acr_values"), amr: t("amr_values"),
	}
	n.defaults = [4]*ast.Term{n.subject, n.action, n.resource, n.context}
	return n
}

func member(obj ast.Object, name *ast.Term) ast.Value {
	if t := obj.Get(name); t != nil {
		return t.Value
	}
	return nil
}

// check returns what is wrong with an evaluation object (Authorization API 1.0,
// sections 5 and 6.1); the empty string when nothing is.
func (n *names) check(doc ast.Object) string {
	if wrong := n.checkEntity(doc, n.subject, n.id); wrong != "" {
		return wrong
	}
	if wrong := n.checkAction(doc); wrong != "" {
		return wrong
	}
	if wrong := n.checkEntity(doc, n.resource, n.id); wrong != "" {
		return wrong
	}
	return n.checkContext(doc)
}

// checkEntity checks a subject or resource. A nil id is not asked for.
func (n *names) checkEntity(doc ast.Object, name, id *ast.Term) string {
	entity, wrong := objectMember(doc, name)
	if wrong != "" {
		return wrong
	}
	if wrong := stringMember(entity, name, n.kind); wrong != "" {
		return wrong
	}
	if id != nil {
		if wrong := stringMember(entity, name, id); wrong != "" {
			return wrong
		}
	}
	return n.checkProperties(entity, name)
}

func (n *names) checkAction(doc ast.Object) string {
	action, wrong := objectMember(doc, n.action)
	if wrong != "" {
		return wrong
	}
	if wrong := stringMember(action, n.action, n.name); wrong != "" {
		return wrong
	}
	return n.checkProperties(action, n.action)
}

func (n *names) checkContext(doc ast.Object) string {
	if v := member(doc, n.context); v != nil {
		if _, ok := v.(ast.Object); !ok {
			return "context must be an object"
		}
	}
	return ""
}

func (n *names) checkProperties(entity ast.Object, name *ast.Term) string {
	if v := member(entity, n.properties); v != nil {
		if _, ok := v.(ast.Object); !ok {
			return text(name) + ".properties must be an object"
		}
	}
	return ""
}

func objectMember(doc ast.Object, name *ast.Term) (obj ast.Object, wrong string) {
	v := member(doc, name)
	if v == nil {
		return nil, text(name) + " is missing"
	}
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, text(name) + " must be an object"
	}
	return obj, ""
}

func stringMember(entity ast.Object, of, name *ast.Term) (wrong string) {
	v := member(entity, name)
	if v == nil {
		return text(of) + "." + text(name) + " is missing"
	}
	if _, ok := v.(ast.String); !ok {
		return text(of) + "." + text(name) + " must be a string"
	}
	return ""
}

func text(t *ast.Term) string {
	s, _ := t.Value.(ast.String)
	return string(s)
}
