// Package forwardauth answers gateways that ask over HTTP whether a request may
// pass: nginx's auth_request, Caddy's forward_auth, Traefik's ForwardAuth and
// Envoy's HTTP ext_authz. The input of the policy and its result are those of
// ext_authz (api/httpcheck).
//
// What a gateway asks about is found in original.go, the answer is written in
// answer.go; nothing is decided or recorded here.
package forwardauth

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Edge is the name of this protocol in records and metrics.
const Edge = "forwardauth"

// Path is where gateways ask. What follows it, from the next slash on, is the
// path asked about where no header tells.
const Path = "/authz/forward"

// DefaultPath is the decision that is asked for, as in ext_authz.
const DefaultPath = "envoy/authz/allow"

// Require makes the guard of a kind of routes; api.Gate.Require is one.
type Require func(api.Route) func(http.Handler) http.Handler

// Options configure a Server.
type Options struct {
	// Path is the decision that a check asks for; empty: DefaultPath.
	Path string
	// TrustedProxies are the networks of gateways that are believed about the
	// request they ask for; nil: loopback. One that was let in by its certificate
	// is believed from everywhere.
	TrustedProxies []netip.Prefix
	// Tokens verifies the bearer tokens of requests asked about; nil: they make no
	// facts.
	Tokens httpcheck.Tokens
	// Limits bound depth and members of an input.
	Limits eval.Limits
	Logger zerolog.Logger
}

// Server answers gateways over one decision point.
type Server struct {
	pdp     *pdp.PDP
	o       Options
	inputs  atomic.Pointer[httpcheck.Inputs]
	copies  []pdp.Copy
	guessed atomic.Bool // a method was, and the log has been told
}

// New returns a server.
func New(p *pdp.PDP, o Options) *Server {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if o.TrustedProxies == nil {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	s := &Server{pdp: p, o: o, copies: httpcheck.Copies()}
	s.SetLimits(o.Limits)
	return s
}

// SetLimits replaces Options.Limits, for checks that come after it.
func (s *Server) SetLimits(l eval.Limits) { s.inputs.Store(httpcheck.NewInputs(l)) }

// Mount puts the routes on a router.
func (s *Server) Mount(r chi.Router, require Require) {
	guard := require(api.Route{Class: api.ClassForward, Handler: "authz/forward", Error: writeRefusal, ReadsBody: true})
	handler := guard(http.HandlerFunc(s.forward))
	r.Handle(Path, handler)
	r.Handle(Path+"/*", handler)
}

// forward answers one check.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	from := s.gateway(r)
	o, fault := originalOf(r, from)
	if fault == nil && o.own {
		fault = s.readBody(r, o)
	}
	if o.guessed && !s.guessed.Swap(true) {
		s.o.Logger.Warn().Str("method", r.Method).Msg("a gateway sends the URI of the original request without its method: " +
			"its own method is taken for it, so that a POST may be judged as a GET; have it send X-Original-Method")
	}
	check := &httpcheck.Check{Request: o.message(r, from), Client: from.client.Addr}
	if denied := httpcheck.Identify(r.Context(), s.o.Tokens, check); denied != nil && fault == nil {
		fault = denied
	}
	input, err := s.inputs.Load().Input(check)
	if err != nil && fault == nil {
		fault = &pdp.Fault{Code: httpcheck.CodeRequest, Message: err.Error()}
	}
	q := s.query(r, from, fault)
	if input != nil {
		q.Input = input
	}
	d, err := s.pdp.Decide(r.Context(), q)
	if d != nil {
		defer d.Release()
	}
	s.answer(w, r, &exchange{check: check, decision: d, fault: fault, err: err})
}

func (s *Server) query(r *http.Request, from gateway, fault *pdp.Fault) *pdp.Query {
	q := &pdp.Query{Edge: Edge, Path: s.o.Path, Copies: s.copies, ClientIP: from.client.IP(), UserAgent: r.UserAgent(), Fault: fault}
	if x := api.FromContext(r.Context()); x != nil {
		q.Caller, q.CorrelationID, q.TraceID = x.Caller.Name, x.ID, x.TraceID
	}
	return q
}

// readBody reads the body of a request that is itself asked about, which
// Envoy sends along. It is bounded by the gate.
func (s *Server) readBody(r *http.Request, o *original) *pdp.Fault {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return &pdp.Fault{Code: httpcheck.CodeRequest, Message: "body: " + api.AsError(err).Message}
	}
	o.body = body
	return nil
}

// gateway is who asks.
type gateway struct {
	trusted bool // it is believed about the request it asks for
	client  middleware.Client
}

// gateway finds out whether the peer is believed, and who its client is.
func (s *Server) gateway(r *http.Request) gateway {
	x := api.FromContext(r.Context())
	if x == nil {
		return gateway{client: middleware.ClientOf(r, nil)}
	}
	trusted := s.o.TrustedProxies
	if x.Caller.Kind == api.Certificate && x.Client.Peer.IsValid() {
		trusted = append(slices.Clip(trusted), netip.PrefixFrom(x.Client.Peer, x.Client.Peer.BitLen()))
	}
	if !slices.ContainsFunc(trusted, func(n netip.Prefix) bool { return n.Contains(x.Client.Peer) }) {
		return gateway{client: middleware.Client{Peer: x.Client.Peer, Addr: x.Client.Peer}}
	}
	return gateway{trusted: true, client: middleware.ClientOf(r, trusted)}
}

// credential tells whether the request asked about had something that says who
// its sender is.
func credential(c *httpcheck.Check) bool {
	return strings.TrimSpace(httpcheck.Header(c, "authorization")) != "" || httpcheck.Header(c, "x-api-key") != "" || httpcheck.Subject(c) != ""
}
