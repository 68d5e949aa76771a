package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// Defaults of AccessSettings.
const (
	// DefaultMaxInFlight is far above what 256 busy connections need, and low
	// enough that what waits is answered within some 100 ms on two cores.
	DefaultMaxInFlight = 1024
	DefaultRequestBody = 1 << 20
	DefaultDataBody    = 64 << 20
	DefaultCryptoBody  = 16 << 20
	// DefaultBundleBody leaves room above the bound on bundles, so that it is
	// their own gate that refuses and records.
	DefaultBundleBody = 129 << 20
)

// forwardPath is the path behind which ClassForward has that of another request.
const forwardPath = "/authz/forward"

// overloadRetry is what Retry-After says above the bounds: what is in flight is
// answered within a fraction of it.
const overloadRetry = time.Second

// AccessSettings is what a reload may change.
type AccessSettings struct {
	// Open is server.open: the classes that need no credential on addr. Only
	// "decide" is possible.
	Open []string
	// Certificates is authn.certificates.
	Certificates []CertificateRule
	// Issuers is what authn.issuers says of scopes.
	Issuers []IssuerScopes
	// TrustedProxies are the networks whose X-Forwarded-For is believed; empty:
	// none.
	TrustedProxies []netip.Prefix
	// TrustedPeers are the networks that may ask on /authz/forward without a
	// certificate; nil: loopback.
	TrustedPeers []netip.Prefix
	// CheckPeers are the networks that may ask over gRPC without a certificate;
	// nil: loopback.
	CheckPeers []netip.Prefix
	// MaxInFlight bounds the requests being answered; 0: DefaultMaxInFlight.
	MaxInFlight int
	// RequestBody, DataBody, CryptoBody and BundleBody bound bodies, in bytes, of
	// decisions, of data and policies, of encryption, and of bundles; 0: the
	// default of that name.
	RequestBody, DataBody, CryptoBody, BundleBody int64
}

// settings is a checked AccessSettings; it is exchanged whole.
type settings struct {
	openDecide   bool
	certificates []certificateCaller
	issuers      map[string]issuerScopes
	proxies      []netip.Prefix
	peers        []netip.Prefix
	checkPeers   []netip.Prefix
	maxInFlight  int
	bodies       [4]int64 // by limit
}

func (a AccessSettings) check() (*settings, error) {
	for _, name := range a.Open {
		if name != "decide" {
			return nil, fmt.Errorf("server.open: %q cannot be opened, only decide can", name)
		}
	}
	if a.MaxInFlight < 0 || a.RequestBody < 0 || a.DataBody < 0 || a.CryptoBody < 0 || a.BundleBody < 0 {
		return nil, errors.New("server.max_in_flight and limits must not be negative")
	}
	certificates, err := parseCertificateRules(a.Certificates)
	if err != nil {
		return nil, err
	}
	issuers, err := parseIssuerScopes(a.Issuers)
	if err != nil {
		return nil, err
	}
	s := &settings{
		openDecide: len(a.Open) > 0, certificates: certificates, issuers: issuers, maxInFlight: a.MaxInFlight,
		proxies: slices.Clone(a.TrustedProxies), peers: slices.Clone(a.TrustedPeers), checkPeers: slices.Clone(a.CheckPeers),
		bodies: [4]int64{requestBody: a.RequestBody, dataBody: a.DataBody, cryptoBody: a.CryptoBody, bundleBody: a.BundleBody},
	}
	if s.maxInFlight == 0 {
		s.maxInFlight = DefaultMaxInFlight
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	if a.TrustedPeers == nil {
		s.peers = loopback
	}
	if a.CheckPeers == nil {
		s.checkPeers = loopback
	}
	for i, byDefault := range [...]int64{requestBody: DefaultRequestBody, dataBody: DefaultDataBody, cryptoBody: DefaultCryptoBody, bundleBody: DefaultBundleBody} {
		if s.bodies[i] == 0 {
			s.bodies[i] = byDefault
		}
	}
	return s, nil
}

// GateOptions are the optional parts of a Gate.
type GateOptions struct {
	// Dev takes the first column of the access table.
	Dev bool
	// Separate tells that there is an admin_addr: the classes that manage are
	// then served there only.
	Separate bool
	// Settings is what Prepare can change.
	Settings AccessSettings
	// Outside verifies tokens of outside issuers; nil: there are none.
	Outside OutsideTokens
	// Certificates tells of client certificates that are not good any more; nil:
	// what the handshake verified holds until the certificate ends.
	Certificates ClientCertificates
	// Policy may refuse more; nil: nobody does.
	Policy CallerPolicy
	// Refusals gets what is refused; nil: it is recorded nowhere.
	Refusals *RefusalLog
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger gets panics and errors of the caller policy.
	Logger zerolog.Logger
}

// Gate lets callers in, or does not.
type Gate struct {
	tokens   TokenSource
	o        GateOptions
	table    [classes]rule
	metrics  *middleware.Metrics
	inFlight *middleware.InFlight
	routes   sync.Pool // of *chi.Context
	live     atomic.Pointer[settings]
	kept     keptAnswers
}

// NewGate makes a gate that knows the tokens of source.
func NewGate(source TokenSource, o GateOptions) (*Gate, error) {
	s, err := o.Settings.check()
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &Gate{
		tokens: source, o: o, table: accessTable(),
		metrics: middleware.NewMetrics(), inFlight: middleware.NewInFlight(s.maxInFlight),
	}
	g.routes.New = func() any { return chi.NewRouteContext() }
	g.live.Store(s)
	return g, nil
}

// Prepare checks new settings; commit puts them in force, for requests that
// come after it.
func (g *Gate) Prepare(a AccessSettings) (commit func(), err error) {
	s, err := a.check()
	if err != nil {
		return nil, err
	}
	return func() {
		g.live.Store(s)
		g.inFlight.SetMost(s.maxInFlight)
	}, nil
}

// Collectors are the metrics of all routes behind the gate.
func (g *Gate) Collectors() []prometheus.Collector {
	return append(g.metrics.Collectors(), g.inFlight.Collectors()...)
}

// BodyLimit is the bound on a body of the class, in bytes. What a compressed
// body holds must keep to it as well.
func (g *Gate) BodyLimit(c Class) int64 { return g.live.Load().bodies[g.table[c].body] }

// Stack puts around the routes of a listener what each request goes through:
// its Request, header fields, addresses, ids, and one spelling of its path. A
// panic that gets here is answered in RFC 9457.
func (g *Gate) Stack(l Listener, routes http.Handler) http.Handler {
	h := middleware.CleanPath(forwardPath)(routes)
	h = middleware.CorrelationID(func(r *http.Request, c middleware.Correlation) {
		FromContext(r.Context()).Correlation = c
	})(h)
	h = middleware.ClientAddress(
		func() []netip.Prefix { return g.live.Load().proxies },
		func(r *http.Request, c middleware.Client) { FromContext(r.Context()).Client = c },
	)(h)
	h = middleware.SecurityHeaders()(h)
	h = middleware.Recover(g.panicked, func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, AsError(nil))
	})(h)
	mux, _ := routes.(chi.Routes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		x := &exchange{
			Context: ctx, writer: middleware.Writer{ResponseWriter: w, Start: time.Now()},
			request: Request{Listener: l, Class: classes},
		}
		if r.TLS != nil {
			x.request.conn, _ = ctx.Value(connectionKey{}).(*connection)
		}
		if mux != nil {
			x.route, _ = g.routes.Get().(*chi.Context)
			x.route.Routes = mux
		}
		h.ServeHTTP(&x.writer, r.WithContext(x))
		if mux != nil { // not after a panic: somebody may still hold it
			x.route.Reset()
			g.routes.Put(x.route)
		}
	})
}

type connectionKey struct{}

// Route describes what is behind Require.
type Route struct {
	Class Class
	// Handler is the label of the metrics: v1/data, health and so on.
	Handler string
	// Error writes refusals; nil: WriteProblem.
	Error ErrorWriter
	// Bundle finds the NAME that the request is about, for ClassBundleRead and
	// ClassBundleWrite; nil: all bundles.
	Bundle func(*http.Request) string
	// ReadsBody says that the handler answers, and records, a body that is too
	// large, which it finds out by reading it.
	ReadsBody bool
	// Admission decides in place of the access table. The route then stands in
	// front of others, which are Admitted, and Class says nothing.
	Admission Admission
	// Admitted says that an Admission in front has let the request in, and that it
	// is bounded there.
	Admitted bool
}

// Require is everything between the router and a handler, in this order:
// metrics, recovery from panics, the bound on requests in flight, the caller
// and what it may, the bound on the body. It panics for a Route that names no
// class or no handler, when it is mounted.
func (g *Gate) Require(rt Route) func(http.Handler) http.Handler {
	if rt.Class >= classes || rt.Handler == "" {
		panic(fmt.Sprintf("api: route without a class or a handler name: %+v", rt))
	}
	if rt.Error == nil {
		rt.Error = WriteProblem
	}
	switch {
	case rt.Admission != nil:
		return g.requireAdmission(rt)
	case rt.Admitted:
		return func(next http.Handler) http.Handler { return g.outermost(&rt, next) }
	}
	rule := &g.table[rt.Class]
	return func(next http.Handler) http.Handler {
		tooLarge := func(w http.ResponseWriter, r *http.Request, err *middleware.BodyTooLargeError) {
			rt.Error(w, r, AsError(err))
		}
		if rt.ReadsBody {
			tooLarge = nil
		}
		h := middleware.BodyLimit(func() int64 { return g.BodyLimit(rt.Class) }, tooLarge)(next)
		return g.outermost(&rt, g.limited(&rt, rule, g.admit(&rt, rule, h)))
	}
}

// limited bounds the requests in flight, but for those that must always pass.
func (g *Gate) limited(rt *Route, rule *rule, next http.Handler) http.Handler {
	if rule.vital {
		return next
	}
	return g.inFlight.Limit(func(w http.ResponseWriter, r *http.Request) {
		g.refuse(w, r, rt, "", &Error{
			Status: http.StatusServiceUnavailable, Code: CodeOverloaded,
			Message: "too many requests are being answered", RetryAfter: overloadRetry,
		})
	})(next)
}

// outermost measures, and survives panics.
func (g *Gate) outermost(rt *Route, next http.Handler) http.Handler {
	h := middleware.Recover(g.panicked, func(w http.ResponseWriter, r *http.Request) { rt.Error(w, r, AsError(nil)) })(next)
	return g.metrics.Handler(rt.Handler)(h)
}

// admit asks who calls and what it may.
func (g *Gate) admit(rt *Route, rule *rule, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := FromContext(r.Context())
		if req == nil { // mounted outside of Stack: nothing is known, nobody gets in
			rt.Error(w, r, AsError(nil))
			return
		}
		req.Class = rt.Class
		var bundle string
		if rt.Bundle != nil {
			bundle = rt.Bundle(r)
		}
		challenge, err := g.check(r, req, rule, bundle)
		if err != nil {
			g.refuse(w, r, rt, challenge, err)
			return
		}
		req.gate, req.rule, req.bundle = g, rule, bundle
		next.ServeHTTP(w, r)
	})
}

// refuse records a refusal and answers with it.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, rt *Route, challenge string, e *Error) {
	if req := FromContext(r.Context()); req != nil && g.o.Refusals != nil {
		req.Class = rt.Class
		g.o.Refusals.Record(r.Context(), refusalOf(r, req, e))
	}
	if e.Code == CodeCertificate {
		w.Header().Set("Connection", "close") // nothing more will be answered on it
	}
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	setRetryAfter(w.Header(), e.RetryAfter)
	rt.Error(w, r, e)
}

// panicked logs a panic, once, and counts it.
func (g *Gate) panicked(r *http.Request, value any, stack []byte) {
	g.metrics.CountPanic()
	g.o.Logger.Error().Str("method", r.Method).Str("path", r.URL.EscapedPath()).
		Str("panic", fmt.Sprint(value)).Bytes("stack", stack).Msg("handler panicked")
}
