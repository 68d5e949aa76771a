package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout   = 2 * time.Second
	DefaultRetries   = 2
	DefaultUserAgent = "verdict-go"

	defaultMaxAnswer   = 8 << 20
	defaultConnections = 64
)

// Options configure a Client. The zero value asks without a credential, which a
// server in development mode and one with server.open allow.
type Options struct {
	// Token gives this service's bearer token; nil: none is sent.
	Token TokenSource
	// TLS is for https: authorities in RootCAs, a client certificate in
	// Certificates or GetClientCertificate. It is copied. Nil: the system's
	// authorities.
	TLS *tls.Config
	// AllowPlaintext lets a token go to another host without TLS, for a mesh
	// that encrypts by itself.
	AllowPlaintext bool
	// Timeout bounds one call, retries included, beside the context's own
	// deadline; 0: DefaultTimeout. Negative: the context's alone.
	Timeout time.Duration
	// Retries is how often a call is asked again after a connection that broke,
	// after 429, and after 503 with Retry-After; 0: DefaultRetries, negative:
	// never. Retries are at most a tenth of all calls, but for a few at first.
	Retries int
	// MaxAnswer bounds an answer in bytes; 0: 8 MiB.
	MaxAnswer int64
	// Connections is how many idle connections are kept; 0: 64.
	Connections int
	// Cache keeps answers of Authorize for a short time. It is off by default.
	Cache CacheOptions
	// Propagate may set headers of each request to the server, from the caller's
	// context: traceparent for example, as a propagator of OpenTelemetry does.
	// nil: those of WithTrace.
	Propagate func(ctx context.Context, h http.Header)
	// UserAgent names this service in the records; empty: DefaultUserAgent.
	UserAgent string
	// Transport replaces the one that Client makes; TLS and Connections are then
	// its own business.
	Transport http.RoundTripper
}

// Client asks one server. It is safe for use by many goroutines, and one is
// enough for a process.
type Client struct {
	base      string // without a slash at its end
	o         Options
	http      *http.Client
	budget    *budget
	cache     *cache // nil: off
	transport *http.Transport
}

// New returns a client for the server at a URL: https://HOST[:PORT][/BASE],
// http:// on this machine (or with AllowPlaintext), or unix:///PATH of a socket.
// Nothing is connected to yet.
func New(server string, o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, &Error{Op: "configure", Err: err, kind: ErrInvalid}
	}
	target, err := parseTarget(server, &o)
	if err != nil {
		return nil, &Error{Op: "configure", Err: err, kind: ErrInvalid}
	}
	c := &Client{base: target.base, o: o, budget: newBudget(), cache: newCache(o.Cache)}
	c.http = &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if o.Transport == nil {
		c.transport = target.transport(&o)
		c.http.Transport = c.transport
	}
	return c, nil
}

// complete puts defaults where nothing was said, and refuses what cannot be.
func (o *Options) complete() error {
	if o.Transport != nil && o.TLS != nil {
		return errors.New("options: TLS belongs to Transport where there is one")
	}
	if o.MaxAnswer < 0 || o.Connections < 0 {
		return errors.New("options: MaxAnswer and Connections must not be negative")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Retries == 0 {
		o.Retries = DefaultRetries
	}
	if o.MaxAnswer == 0 {
		o.MaxAnswer = defaultMaxAnswer
	}
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	if o.UserAgent == "" {
		o.UserAgent = DefaultUserAgent
	}
	if o.Propagate == nil {
		o.Propagate = propagateTrace
	}
	return o.Cache.validate()
}

// Close closes the connections that are not in use. Calls under way end as they
// would, and later ones connect again.
func (c *Client) Close() {
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

const (
	pathEvaluation  = "/access/v1/evaluation"
	pathEvaluations = "/access/v1/evaluations"

	headerDecisionID = "X-Decision-Id"
)

// Authorize asks one question. Only Decision.Allowed allows: with an error the
// Decision is a denial. A denial is no error here; Enforce makes it one.
func (c *Client) Authorize(ctx context.Context, r Request) (Decision, error) {
	const op = "authorize"
	body, token, err := c.question(ctx, op, r)
	if err != nil {
		return Decision{}, err
	}
	var key cacheKey
	if c.cache != nil {
		key = keyOf(token, body)
		if d, ok := c.cache.get(key); ok {
			return d, nil
		}
	}
	asked := time.Now()
	a, err := c.ask(ctx, &call{op: op, path: pathEvaluation, body: body, token: token})
	if err != nil {
		return Decision{}, err
	}
	d, err := parseDecision(a.body)
	if err != nil {
		return Decision{}, a.notUnderstood(op, err)
	}
	if c.cache != nil {
		c.cache.put(key, d, asked)
	}
	return d, nil
}

// Enforce is Authorize for a service that goes on only when it may: the error is
// nil for a permission, a *DeniedError for a denial, and what Authorize returns
// otherwise. The obligations of a permission are the caller's to carry out.
func (c *Client) Enforce(ctx context.Context, r Request) (Decision, error) {
	d, err := c.Authorize(ctx, r)
	if err != nil {
		return Decision{}, err
	}
	if !d.Allowed {
		return d, &DeniedError{Decision: d}
	}
	return d, nil
}

// RolePath is the decision that HasRole asks for: of the standard policies.
const RolePath = "verdict/authz/role"

// HasRole asks whether the subject has a role, directly or inherited, and nothing
// speaks against the subject or its session: the question is r with the role as
// its resource. To ask for a permission instead is nearly always better, since
// roles change their meaning.
func (c *Client) HasRole(ctx context.Context, r Request, role string) (Decision, error) {
	const op = "ask for a role"
	r.Action = Action{Name: "hold"}
	r.Resource = Entity{Type: "role", ID: role}
	var result json.RawMessage
	id, err := c.query(ctx, op, RolePath, r, &result)
	if err != nil {
		return Decision{}, err
	}
	d, err := parseResult(result, id)
	if err != nil {
		return Decision{}, &Error{Op: op, DecisionID: id, Err: err, kind: ErrAnswer}
	}
	return d, nil
}

// question encodes what is asked and fetches the token.
func (c *Client) question(ctx context.Context, op string, v any) (body []byte, token string, err error) {
	if body, err = json.Marshal(v); err == nil && altered(body) {
		err = errors.New("a text is not UTF-8, and JSON cannot hold it as it is")
	}
	if err != nil {
		return nil, "", &Error{Op: op, Err: err, kind: ErrInvalid}
	}
	if c.o.Token == nil {
		return body, "", nil
	}
	if token, err = c.o.Token(ctx); err == nil && (token == "" || !headerText(token)) {
		err = errors.New("the token is empty, or none that a header can hold")
	}
	if err != nil {
		return nil, "", &Error{Op: op, Err: err, kind: ErrUnavailable}
	}
	return body, token, nil
}

// altered tells whether encoding/json has put U+FFFD in place of bytes that are
// not UTF-8, which it writes as an escape, unlike a U+FFFD that was there: the
// question would be about something else.
func altered(body []byte) bool {
	for {
		before, after, found := bytes.Cut(body, []byte(`\ufffd`))
		if !found {
			return false
		}
		if slashes := len(before) - len(bytes.TrimRight(before, `\`)); slashes%2 == 0 {
			return true
		}
		body = after
	}
}

func headerText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// parseURL is url.Parse whose error does not repeat the text, which may hold a
// password.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrong.Err
	}
	return u, err
}
