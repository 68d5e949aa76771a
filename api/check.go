package api

import (
	"net/http"
	"net/netip"
	"strings"
)

// The challenges of RFC 6750, section 3.
const (
	challengeNone    = `Bearer realm="verdict"`
	challengeInvalid = `Bearer realm="verdict", error="invalid_token"`
	challengeScope   = `Bearer realm="verdict", error="insufficient_scope"`
)

// check fills in req.Caller and decides whether the request gets in. challenge
// is for WWW-Authenticate when it does not.
func (g *Gate) check(r *http.Request, req *Request, rule *rule, bundle string) (challenge string, refused *Error) {
	if !rule.servedOn(req.Listener, g.o.Separate) {
		return "", errNotServed()
	}
	if refused = g.connectionRefused(r); refused != nil {
		return challengeNone, refused
	}
	s := g.live.Load()
	if challenge, refused = g.admits(r, req, rule, s, bundle); refused != nil {
		return challenge, refused
	}
	if g.o.Policy == nil || rule.vital {
		return "", nil
	}
	return g.policyAllows(r, req, s, bundle)
}

// admits applies the access table.
func (g *Gate) admits(r *http.Request, req *Request, rule *rule, s *settings, bundle string) (challenge string, refused *Error) {
	switch g.accessOn(req, rule, s) {
	case open:
		// A caller that can be told is told, also where nobody needs to be; a
		// credential that is not ours is not our business here. Probes and
		// scrapers cost no look-up.
		if !rule.vital && rule.scopes != 0 {
			if caller, err := g.identify(r, req, s); err == nil {
				req.Caller = caller
				return "", nil
			}
		}
		req.Caller = Caller{Kind: Open}
		return "", nil
	case peers:
		return "", g.admitsPeer(r, req, s)
	}
	caller, err := g.identify(r, req, s)
	if err != nil {
		challenge = challengeInvalid
		if err == errNoCredential {
			challenge = challengeNone
		}
		return challenge, &Error{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Message: err.Error()}
	}
	req.Caller = caller
	if !rule.grants(caller.Scopes, bundle) {
		scope := rule.needs(bundle)
		return challengeScope + `, scope="` + quotable(scope) + `"`, &Error{
			Status: http.StatusForbidden, Code: CodeForbidden, Message: "the caller needs the scope " + scope,
		}
	}
	return "", nil
}

// accessOn is the cell of the access table that holds for the request: open,
// peers or scoped.
func (g *Gate) accessOn(req *Request, rule *rule, s *settings) access {
	a := rule.live
	if g.o.Dev {
		a = rule.dev
	}
	switch a {
	case settable:
		if s.openDecide && req.Listener == Main {
			return open
		}
		return scoped
	case local:
		if req.Listener == Diagnostic || req.Client.Loopback() {
			return open
		}
		return scoped
	}
	return a
}

// admitsPeer lets in who asks on behalf of somebody else: the Authorization
// header is that of the request asked about, and says nothing about the peer.
func (g *Gate) admitsPeer(r *http.Request, req *Request, s *settings) *Error {
	if r.TLS != nil {
		if caller, err := g.certified(r, req, s); err == nil && caller.listed {
			req.Caller = caller
			return nil
		}
	}
	req.Caller = Caller{Kind: Peer}
	if containsAddr(s.peers, req.Client.Peer) {
		return nil
	}
	return &Error{Status: http.StatusForbidden, Code: CodeForbidden, Message: "this peer may not ask"}
}

// policyAllows asks the caller policy about a request that the table lets in,
// or knows what it said.
func (g *Gate) policyAllows(r *http.Request, req *Request, s *settings, bundle string) (challenge string, refused *Error) {
	key := keptKey{
		kind: req.Caller.Kind, class: req.Class, token: req.Caller.token,
		name: req.Caller.Name, rule: req.Caller.rule, settings: s,
	}
	if key.kind == Outside {
		key.scopes = strings.Join(req.Caller.Scopes.Names(), " ")
	}
	answer, known := g.kept.find(g.o.Policy.Generation(), key)
	if !known {
		var err error
		if answer, err = g.o.Policy.MayCall(r.Context(), questionOf(r, req, bundle)); err != nil {
			g.o.Logger.Error().Err(err).Str("class", req.Class.String()).Str("caller", req.Caller.Name).
				Msg("the caller policy failed, the request is refused")
			return "", &Error{Status: http.StatusInternalServerError, Code: CodeInternal, Message: "the caller policy failed"}
		}
		if answer.Cacheable {
			g.kept.keep(key, answer)
		}
	}
	switch {
	case answer.Allowed:
		return "", nil
	case req.Caller.Kind == Open:
		// A credential may help where being nobody is not enough.
		return challengeNone, &Error{Status: http.StatusUnauthorized, Code: CodeUnauthorized, Message: reasonOf(answer)}
	}
	return "", &Error{Status: http.StatusForbidden, Code: CodeForbidden, Message: reasonOf(answer)}
}

func questionOf(r *http.Request, req *Request, bundle string) *CallerQuestion {
	return &CallerQuestion{
		Caller: req.Caller, Class: req.Class, Listener: req.Listener, ClientIP: req.Client.IP(),
		Method: r.Method, Path: r.URL.EscapedPath(), Bundle: bundle,
	}
}

func reasonOf(a CallerAnswer) string {
	if a.Reason != "" {
		return a.Reason
	}
	return "the caller policy does not allow it"
}

// quotable is s where it can stand between quotes in a header field.
func quotable(s string) string {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return ""
		}
	}
	return s
}

func containsAddr(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
