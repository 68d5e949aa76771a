package issuer

import (
	"strings"
	"time"
	"unicode"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxSubject is what OpenID Connect Core 1.0, section 2 lets sub have, in bytes.
const maxSubject = 255

// Token is what a verified token says. It is shared and must not be changed.
type Token struct {
	// Issuer is its iss, Subject its sub, which is unique for the issuer only and
	// may be empty. Client is client_id, else azp.
	Issuer, Subject, Client string
	// Expires is its exp, Authenticated its auth_time; zero when it has none.
	Expires, Authenticated time.Time
	// Claims are all of its claims, Members and Depth what they count.
	Claims         ast.Object
	Members, Depth int
}

// tokenOf reads the claims that everybody needs.
func tokenOf(c *claimSet) (*Token, bool) {
	t := &Token{Claims: c.object, Members: c.members, Depth: c.depth}
	var azp string
	for name, to := range map[string]*string{"iss": &t.Issuer, "sub": &t.Subject, "client_id": &t.Client, "azp": &azp} {
		var err error
		if *to, err = c.text(name); err != nil || name != "iss" && !identifier(*to) {
			return nil, false
		}
		if *to == "" && c.claim(name) != nil {
			return nil, false
		}
	}
	if t.Client == "" {
		t.Client = azp
	}
	expires, err := c.date("exp")
	if err != nil || expires == nil {
		return nil, false
	}
	t.Expires = expires.Time
	if at, err := c.date("auth_time"); err == nil && at != nil {
		t.Authenticated = at.Time
	}
	return t, true
}

// identifier tells whether s can stand in headers and records as it is.
func identifier(s string) bool {
	return len(s) <= maxSubject && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == unicode.ReplacementChar
	})
}

// Claim is the value of a claim, nil when there is none. A name that begins
// with a slash and is no claim is a JSON Pointer (RFC 6901) into the claims.
func (t *Token) Claim(name string) ast.Value {
	if v := member(t.Claims, name); v != nil || !strings.HasPrefix(name, "/") {
		return v
	}
	var at ast.Value = t.Claims
	for part := range strings.SplitSeq(name[1:], "/") {
		o, ok := at.(ast.Object)
		if !ok {
			return nil
		}
		at = member(o, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return at
}

// Values are the strings of a claim: of a list its strings, of a string the
// words that spaces part, as in scope (RFC 8693, section 4.2).
func (t *Token) Values(name string) []string {
	switch v := t.Claim(name).(type) {
	case ast.String:
		return strings.Fields(string(v))
	case *ast.Array:
		list := make([]string, 0, v.Len())
		for i := range v.Len() {
			if s, ok := v.Elem(i).Value.(ast.String); ok {
				list = append(list, string(s))
			}
		}
		return list
	}
	return nil
}
