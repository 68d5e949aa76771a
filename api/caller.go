package api

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/api/tokens"
)

// Kind is how a caller was known.
type Kind uint8

// The kinds of callers.
const (
	Anonymous   Kind = iota // not known, and let in nowhere but where all are
	Open                    // not known, on a route that is open by configuration
	Token                   // by a bearer token
	Certificate             // by a client certificate
	Peer                    // by its address, on /authz/forward and over gRPC
	Outside                 // by a token of an issuer of authn.issuers
)

// String names the kind.
func (k Kind) String() string {
	return [...]string{"anonymous", "open", "token", "certificate", "peer", "issuer", ""}[min(k, Outside+1)]
}

// Caller is who asks: the policy enforcement point, not the subject that the
// question is about.
type Caller struct {
	// Name is the token's name, or the one that authn.certificates gives; the
	// subject of a certificate that it does not list; ISSUER#SUBJECT for a token
	// of an outside issuer; empty when not known.
	Name string
	// ID is the id of a token, which is public.
	ID     string
	Kind   Kind
	Scopes tokens.Scopes

	token  *tokens.Token
	rule   *certificateCaller // of authn.certificates that fits the certificate
	listed bool               // there is one
}

// CreatedBy gives the ids of the tokens that the caller's token was created
// with, the nearest first; empty: it was created on the host, or the caller has
// none.
func (c *Caller) CreatedBy() []string {
	if c.token == nil {
		return nil
	}
	return c.token.CreatedBy
}

// TokenSource finds tokens by their secret; tokens.Store is one. It returns
// tokens.ErrUnknown or tokens.ErrExpired, must be safe for concurrent use and
// must not block.
type TokenSource interface {
	Lookup(secret string) (*tokens.Token, error)
}

// CertificateRule maps client certificates to a caller: an entry of
// authn.certificates.
type CertificateRule struct {
	// SAN is a DNS name, URI, mail address or IP address of the certificate;
	// Subject is its subject as RFC 2253 writes it. Exactly one is set, and must
	// be equal to what the certificate has: there are no wildcards.
	SAN, Subject string
	Name         string
	Scopes       []string
}

// certificateCaller is a checked CertificateRule.
type certificateCaller struct {
	san, subject string
	caller       Caller
}

func parseCertificateRules(rules []CertificateRule) ([]certificateCaller, error) {
	out := make([]certificateCaller, 0, len(rules))
	for i, r := range rules {
		if (r.SAN == "") == (r.Subject == "") {
			return nil, fmt.Errorf("authn.certificates[%d]: exactly one of san and subject is needed", i)
		}
		if r.Name == "" {
			return nil, fmt.Errorf("authn.certificates[%d]: name is missing", i)
		}
		scopes, err := tokens.ParseScopes(r.Scopes)
		if err != nil {
			return nil, fmt.Errorf("authn.certificates[%d].scopes: %w", i, err)
		}
		out = append(out, certificateCaller{
			san: r.SAN, subject: r.Subject,
			caller: Caller{Name: r.Name, Kind: Certificate, Scopes: scopes, listed: true},
		})
	}
	return out, nil
}

// callerOf is whom the first rule that fits names. A certificate that no rule
// fits is a caller without a scope.
func callerOf(leaf *x509.Certificate, rules []certificateCaller) Caller {
	subject := leaf.Subject.String()
	for i := range rules {
		if r := &rules[i]; (r.san != "" && hasSAN(leaf, r.san)) || (r.subject != "" && r.subject == subject) {
			c := r.caller
			c.rule = r
			return c
		}
	}
	return Caller{Name: subject, Kind: Certificate}
}

func hasSAN(leaf *x509.Certificate, want string) bool {
	for _, name := range leaf.DNSNames {
		if strings.EqualFold(name, want) {
			return true
		}
	}
	for _, uri := range leaf.URIs {
		if uri.String() == want {
			return true
		}
	}
	for _, mail := range leaf.EmailAddresses {
		if mail == want {
			return true
		}
	}
	for _, ip := range leaf.IPAddresses {
		if ip.String() == want {
			return true
		}
	}
	return false
}

// connection is what is kept of a TLS connection between its requests.
type connection struct {
	known atomic.Pointer[knownCertificate]
}

// knownCertificate is whom a certificate stands for under some settings.
type knownCertificate struct {
	settings *settings
	caller   Caller
}

// Reasons why there is no caller.
var (
	errNoCredential   = errors.New("a token or a client certificate is required")
	errBadCredential  = errors.New("the Authorization header must be one bearer token")
	errUnknownToken   = errors.New("the token is not valid")
	errExpiredToken   = errors.New("the token has expired")
	errOldCertificate = errors.New("the client certificate is not valid now")
)

// identify finds the caller by what the request presents. A bearer token goes
// before a certificate, and a bad one is an error also beside a good
// certificate: whoever sends one means it.
func (g *Gate) identify(r *http.Request, req *Request, s *settings) (Caller, error) {
	if header := r.Header["Authorization"]; len(header) > 0 {
		secret, ok := bearer(header)
		if !ok {
			return Caller{}, errBadCredential
		}
		t, err := g.tokens.Lookup(secret)
		switch {
		case errors.Is(err, tokens.ErrExpired):
			return Caller{}, errExpiredToken
		case err != nil:
			return g.outside(r.Context(), secret, s)
		}
		return Caller{Name: t.Name, ID: t.ID, Kind: Token, Scopes: t.Scopes, token: t}, nil
	}
	return g.certified(r, req, s)
}

// certified finds the caller by the client certificate, which the handshake
// has verified.
func (g *Gate) certified(r *http.Request, req *Request, s *settings) (Caller, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return Caller{}, errNoCredential
	}
	leaf := r.TLS.PeerCertificates[0]
	if now := g.o.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return Caller{}, errOldCertificate // it may have ended since the handshake
	}
	if req.conn == nil {
		return callerOf(leaf, s.certificates), nil
	}
	known := req.conn.known.Load()
	if known == nil || known.settings != s {
		known = &knownCertificate{settings: s, caller: callerOf(leaf, s.certificates)}
		req.conn.known.Store(known)
	}
	return known.caller, nil
}

// bearer is the token of RFC 6750, section 2.1.
func bearer(header []string) (token string, ok bool) {
	const scheme = "bearer "
	if len(header) != 1 || len(header[0]) <= len(scheme) || !strings.EqualFold(header[0][:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(header[0][len(scheme):], " "), true
}
