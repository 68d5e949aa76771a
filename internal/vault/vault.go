// Package vault is a client of HashiCorp Vault or OpenBao that stays logged in.
// Every call has a bound; a Vault that is sealed, slow, gone or refuses costs
// its callers little, and is asked again within seconds.
package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Defaults and bounds.
const (
	// DefaultTimeout is the time of all calls that one request makes.
	DefaultTimeout = 2 * time.Second
	// DefaultProbe is how often Vault's health is asked for.
	DefaultProbe = 5 * time.Second

	retriesPerSecond = 10
	retryBurst       = 20
	reloginEvery     = 5 * time.Second
	reloginBurst     = 3
)

// Options of a Client. Nothing else is taken into account: no VAULT_* variable
// of the environment, no ~/.vault-token.
type Options struct {
	// Address is Vault's URL: https, or http on loopback. Required.
	Address string
	// Namespace is Vault's namespace; empty: the root.
	Namespace string
	// CAFile has the authorities of Vault's certificate, PEM. Empty: the
	// system's.
	CAFile string
	// Timeout bounds one Do with all its retries and a login. Zero:
	// DefaultTimeout. Whoever makes several calls for one request gives them a
	// context whose deadline is that far away.
	Timeout time.Duration
	// Auth is how to log in.
	Auth Auth
	// Probe is how often Run asks for Vault's health, at most; a Vault that
	// does not do well is asked five times as often. Zero: DefaultProbe.
	Probe time.Duration
	// Observe, when set, is told of changes. It must not block.
	Observe func(Event)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger gets what Run sees.
	Logger zerolog.Logger
}

// Event is something that happened to the client and that an operator wants to
// know.
type Event struct {
	Kind EventKind
	// State is how Vault does now.
	State Kind
	// Detail is one line without secrets.
	Detail string
}

// EventKind is what happened.
type EventKind string

// The events.
const (
	StateChanged EventKind = "state_changed"
	LoggedIn     EventKind = "logged_in"
	LoginFailed  EventKind = "login_failed"
	TokenLost    EventKind = "token_lost" // before its time: revoked, or Vault has forgotten it
)

// Client calls Vault. Its methods may be called by several goroutines at once.
type Client struct {
	o         Options
	transport *http.Transport
	anonymous *api.Client // without a token: health and logins
	auth      *authenticator
	health    *health
	metrics   *metrics
	retries   *rate.Limiter
	relogins  *rate.Limiter
	login     chan struct{} // holds one item while somebody logs in
	session   atomic.Pointer[session]
}

// New makes a client. It calls nobody: Vault may be sealed or away.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Probe <= 0 {
		o.Probe = DefaultProbe
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := checkAddress(o.Address); err != nil {
		return nil, err
	}
	c := &Client{
		o: o, metrics: newMetrics(), login: make(chan struct{}, 1),
		retries:  rate.NewLimiter(retriesPerSecond, retryBurst),
		relogins: rate.NewLimiter(rate.Every(reloginEvery), reloginBurst),
	}
	c.health = newHealth(o.Now, o.Probe, c.stateChanged)
	var err error
	if c.transport, err = newTransport(&c.o); err != nil {
		return nil, err
	}
	if c.anonymous, err = c.newAPI(""); err != nil {
		return nil, err
	}
	if c.auth, err = newAuthenticator(c, o.Auth); err != nil {
		return nil, err
	}
	return c, nil
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("the address of Vault is not a URL") // the error would repeat it
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Errorf("the address %q of Vault is not an http or https URL", u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the address %q of Vault has a user, a query or a fragment", u.Redacted())
	}
	return nil
}

// Status is how Vault and the client's login do.
type Status struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace,omitempty"`
	Method    Method `json:"auth_method"`
	// State is a Kind up to Failed.
	State  Kind      `json:"state"`
	Detail string    `json:"detail,omitempty"`
	Since  time.Time `json:"since"`
	// LoggedIn says that there is a token, and TokenExpires when it ends
	// unless renewed; nil: never, or not known.
	LoggedIn     bool       `json:"logged_in"`
	TokenExpires *time.Time `json:"token_expires,omitempty"`
	// Version is Vault's, as its health tells.
	Version string `json:"version,omitempty"`
}

// Status tells what was seen last; it asks nobody.
func (c *Client) Status() Status {
	h := c.health.snapshot()
	s := Status{
		Address: c.o.Address, Namespace: c.o.Namespace, Method: c.o.Auth.Method,
		State: h.state, Detail: h.detail, Since: h.since.UTC(), Version: h.version,
	}
	if session := c.session.Load(); session != nil {
		s.LoggedIn = true
		if expires := session.expires.Load(); expires != nil {
			at := expires.UTC()
			s.TokenExpires = &at
		}
	}
	return s
}

// Collectors are the client's metrics.
func (c *Client) Collectors() []prometheus.Collector { return c.metrics.collectors(c) }

// Run keeps the client logged in and asks for Vault's health until ctx ends. A
// client that nobody runs logs in when it is called, and again when its token
// is refused.
func (c *Client) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx) // ends with Run
	group.Go(func() error { return c.probe(ctx) })
	group.Go(func() error { return c.stayLoggedIn(ctx) })
	err := group.Wait()
	c.transport.CloseIdleConnections()
	return err
}

// stateChanged tells of a change, outside of any lock.
func (c *Client) stateChanged(state Kind, detail string) {
	event := c.o.Logger.Warn()
	if state == Healthy {
		event = c.o.Logger.Info()
	}
	event.Str("state", string(state)).Str("detail", detail).Msg("the state of Vault has changed")
	c.observe(Event{Kind: StateChanged, State: state, Detail: detail})
}

func (c *Client) observe(e Event) {
	if c.o.Observe != nil {
		c.o.Observe(e)
	}
}

// pause waits for about d, half of it at least, so that many clients do not
// come at once. It tells whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
