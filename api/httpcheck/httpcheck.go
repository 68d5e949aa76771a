// Package httpcheck is what ext_authz and forward auth share: the input that a
// policy gets about an HTTP request, and what it may answer. Both are those of
// opa-envoy-plugin, so that its policies run unchanged; beside them the input
// has subject, action, resource and context, which the standard policies read.
//
// The request comes as Envoy's message in both cases. Its input is built straight
// from the message: every set field under its name in proto JSON.
package httpcheck

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// CodeRequest is the code of a request that is no input: a malformed path,
// query or body. It is opa-envoy-plugin's.
const CodeRequest = "request_parse_error"

// errTooLarge is returned for a request with more members, or nested deeper,
// than Limits allow.
var errTooLarge = errors.New("the request has too many members or is nested too deeply")

// Check is one HTTP request that somebody asks about.
type Check struct {
	Request *authv3.CheckRequest
	// Client is the client's address as far as it is believed; invalid when
	// nobody knows it.
	Client netip.Addr
	// Token is what the bearer token of the request says, once Identify has found
	// it to be true; nil when nothing is known.
	Token *issuer.Token
}

// Inputs makes inputs. It may be used by several goroutines.
type Inputs struct {
	limits eval.Limits
	names  *names
}

// NewInputs makes inputs within limits; fields that are 0 are eval's defaults.
func NewInputs(limits eval.Limits) *Inputs {
	if limits.Depth <= 0 {
		limits.Depth = eval.DefaultDepth
	}
	if limits.Members <= 0 {
		limits.Members = eval.DefaultMembers
	}
	return &Inputs{limits: limits, names: newNames()}
}

// Input is the input for a check. With an error it holds what could be read, as
// far as the bounds allow, and is nil otherwise: it is for the record.
func (in *Inputs) Input(c *Check) (ast.Object, error) {
	b := builder{names: in.names, left: in.limits.Members, depth: in.limits.Depth}
	attributes := b.attributes(c.Request.GetAttributes())
	if b.err != nil {
		return nil, b.err
	}
	request := c.Request.GetAttributes().GetRequest().GetHttp()
	path, rawQuery, _ := strings.Cut(request.GetPath(), "?")
	input := ast.NewObject(b.standard(c, path)...)
	if b.err != nil {
		return nil, b.err
	}
	insert := func(key *ast.Term, v ast.Value) { input.Insert(key, b.term(v)) }
	if attributes != nil {
		insert(in.names.attributes, attributes)
	}
	input.Insert(in.names.version, in.names.v3)
	if principal := c.Request.GetAttributes().GetSource().GetPrincipal(); principal != "" {
		insert(in.names.sourcePrincipal, ast.String(principal))
	}
	parsedPath, err := b.path(path)
	if err != nil {
		return input, err
	}
	insert(in.names.parsedPath, parsedPath)
	parsedQuery, err := b.query(rawQuery)
	if err != nil {
		return input, err
	}
	insert(in.names.parsedQuery, parsedQuery)
	body, truncated, err := b.body(request)
	if err != nil {
		return input, err
	}
	insert(in.names.parsedBody, body)
	insert(in.names.truncatedBody, ast.Boolean(truncated))
	return input, nil
}

// standard is what the standard policies read: who asks for what, and what is
// known around it. A fact that nobody knows is left out.
func (b *builder) standard(c *Check, path string) [][2]*ast.Term {
	n := b.names
	items := make([][2]*ast.Term, 0, 16)
	attributes := c.Request.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	if method := http.GetMethod(); method != "" {
		items = append(items, ast.Item(n.action, b.term(ast.NewObject(ast.Item(n.name, b.textTerm(method))))))
	}
	resource := ast.NewObject(ast.Item(n.kind, n.http))
	if path != "" {
		resource.Insert(n.id, b.textTerm(path))
	}
	items = append(items, ast.Item(n.resource, b.term(resource)))

	network, context := ast.NewObject(), ast.NewObject()
	if c.Client.IsValid() {
		network.Insert(n.ip, b.textTerm(c.Client.String()))
	}
	if principal := attributes.GetSource().GetPrincipal(); principal != "" {
		id := b.textTerm(principal)
		if c.Token == nil || c.Token.Subject == "" {
			items = append(items, ast.Item(n.subject, ast.ObjectTerm(ast.Item(n.kind, n.service), ast.Item(n.id, id))))
		}
		context.Insert(n.certificate, ast.ObjectTerm(ast.Item(n.principal, id)))
		if strings.HasPrefix(principal, "spiffe://") {
			network.Insert(n.spiffeID, id)
		}
	}
	if network.Len() > 0 {
		context.Insert(n.network, b.term(network))
	}
	if c.Token != nil {
		items = b.identity(c.Token, items, context)
	}
	return append(items, ast.Item(n.context, b.term(context)))
}

// Subject is who a policy was asked about, empty when nobody is known.
func Subject(c *Check) string {
	if c.Token != nil && c.Token.Subject != "" {
		return c.Token.Subject
	}
	return c.Request.GetAttributes().GetSource().GetPrincipal()
}

// Header is the value of a header of the request asked about, whose name is in
// lower case.
func Header(c *Check, name string) string {
	return c.Request.GetAttributes().GetRequest().GetHttp().GetHeaders()[name]
}

func parseError(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
