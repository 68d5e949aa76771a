package httpcheck

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/pdp"
)

// CodeToken is the code of a request whose bearer token names a configured
// issuer and is not valid.
const CodeToken = "token_refused"

// Challenge is what a client with such a token is told (RFC 6750, section 3).
const Challenge = `Bearer realm="verdict", error="invalid_token"`

// maxCredentials bounds the credentials of one request that are looked at.
const maxCredentials = 8

// Tokens verifies tokens of outside issuers; issuer.Verifier is one. It returns
// issuer.ErrForeign for a bearer that is not its business.
type Tokens interface {
	Verify(ctx context.Context, bearer string) (*issuer.Token, error)
}

// Identify verifies the bearer token of the request asked about, if it has one
// of a configured issuer, and puts what it says into the check. The fault, if
// any, denies the request.
func Identify(ctx context.Context, tokens Tokens, c *Check) *pdp.Fault {
	if tokens == nil {
		return nil
	}
	header := authorization(c)
	if header == "" {
		return nil
	}
	if !strings.Contains(header, ",") {
		t, err := verify(ctx, tokens, header)
		if err != nil {
			return refused(err)
		}
		c.Token = t
		return nil
	}
	// Several credentials: nobody knows which one the service takes.
	for _, one := range strings.SplitN(header, ",", maxCredentials) {
		if t, err := verify(ctx, tokens, one); t != nil || err != nil {
			return refused(&issuer.RefusedError{Reason: issuer.Malformed})
		}
	}
	return nil
}

// verify gives nothing for a credential that is not a bearer of a configured
// issuer.
func verify(ctx context.Context, tokens Tokens, credential string) (*issuer.Token, error) {
	const scheme = "bearer "
	credential = strings.TrimSpace(credential)
	if len(credential) <= len(scheme) || !strings.EqualFold(credential[:len(scheme)], scheme) {
		return nil, nil
	}
	t, err := tokens.Verify(ctx, strings.TrimLeft(credential[len(scheme):], " "))
	if errors.Is(err, issuer.ErrForeign) {
		return nil, nil
	}
	return t, err
}

func refused(err error) *pdp.Fault {
	message := "the token is not valid"
	if r, ok := errors.AsType[*issuer.RefusedError](err); ok {
		message = r.Error()
	}
	return &pdp.Fault{Code: CodeToken, Message: message, Denies: true}
}

// authorization is the header of that name, in whichever of its two forms Envoy
// tells it; several values are joined.
func authorization(c *Check) string {
	const name = "authorization"
	request := c.Request.GetAttributes().GetRequest().GetHttp()
	if v, ok := request.GetHeaders()[name]; ok {
		return v
	}
	var values []string
	for _, h := range request.GetHeaderMap().GetHeaders() {
		if !strings.EqualFold(h.GetKey(), name) {
			continue
		}
		v := h.GetValue()
		if v == "" {
			v = string(h.GetRawValue())
		}
		values = append(values, v)
	}
	return strings.Join(values, ",")
}

// identity adds the facts of a token: all of its claims, the subject, and how
// and when it was authenticated.
func (b *builder) identity(t *issuer.Token, items [][2]*ast.Term, facts ast.Object) [][2]*ast.Term {
	n := b.names
	if !b.spend(t.Members) || t.Depth+2 > b.depth {
		b.err = errTooLarge
		return items
	}
	facts.Insert(n.jwt, b.term(t.Claims))
	session := ast.NewObject()
	if amr := t.Claim("amr"); texts(amr) {
		session.Insert(n.amr, b.term(amr))
	}
	if !t.Authenticated.IsZero() {
		session.Insert(n.lastVerified, b.textTerm(t.Authenticated.UTC().Format(time.RFC3339)))
	}
	if session.Len() > 0 {
		facts.Insert(n.session, b.term(session))
	}
	if t.Subject == "" {
		return items
	}
	kind := n.user
	if t.Subject == t.Client { // nobody has delegated anything (RFC 9068, section 2.2)
		kind = n.service
	}
	return append(items, ast.Item(n.subject, b.term(ast.NewObject(
		ast.Item(n.kind, kind), ast.Item(n.id, b.textTerm(t.Subject)), ast.Item(n.properties, b.term(b.properties(t))),
	))))
}

// properties are what the standard policies read of a subject, as far as claims
// of these names have it (RFC 9068, section 2.2.3.1).
func (b *builder) properties(t *issuer.Token) ast.Object {
	o := ast.NewObject(ast.Item(b.names.issuer, b.textTerm(t.Issuer)))
	for _, name := range [...]string{"roles", "groups", "entitlements"} {
		if v := t.Claim(name); texts(v) {
			o.Insert(ast.StringTerm(name), b.term(v))
		}
	}
	for _, name := range [...]string{"tenant", "organization"} {
		if v, ok := t.Claim(name).(ast.String); ok {
			o.Insert(ast.StringTerm(name), b.term(v))
		}
	}
	return o
}

// texts tells whether v is a list of strings.
func texts(v ast.Value) bool {
	list, ok := v.(*ast.Array)
	if !ok {
		return false
	}
	for i := range list.Len() {
		if _, ok := list.Elem(i).Value.(ast.String); !ok {
			return false
		}
	}
	return true
}
