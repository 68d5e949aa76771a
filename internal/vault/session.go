package vault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// firstWait and lastWait are between logins that fail.
const (
	firstWait = time.Second
	lastWait  = 5 * time.Second
)

// session is one token. It prints as nothing.
type session struct {
	api     *api.Client
	secret  *api.Secret
	expires atomic.Pointer[time.Time] // nil: never
	ended   chan struct{}             // closed when the token is not to be used any more
	once    sync.Once
}

// String keeps the token out of whatever prints a session.
func (*session) String() string { return "[redacted]" }

// end tells those who look after the session that it is over.
func (s *session) end() { s.once.Do(func() { close(s.ended) }) }

// renewed notes how long the token lives now.
func (s *session) renewed(now time.Time, seconds int) {
	if seconds <= 0 {
		s.expires.Store(nil)
		return
	}
	at := now.Add(time.Duration(seconds) * time.Second)
	s.expires.Store(&at)
}

// left is what the token has left, in seconds; -1 without a session.
func (s *session) left(now time.Time) float64 {
	if s == nil {
		return -1
	}
	expires := s.expires.Load()
	if expires == nil {
		return math.Inf(1)
	}
	return max(expires.Sub(now).Seconds(), 0)
}

// loggedIn gives the session, after a login when there is none. parent is the
// context without the client's own deadline.
func (c *Client) loggedIn(ctx, parent context.Context) (*session, error) {
	if s := c.session.Load(); s != nil {
		return s, nil
	}
	select {
	case c.login <- struct{}{}:
	case <-ctx.Done():
		c.health.abandon()
		if parent.Err() != nil {
			return nil, fmt.Errorf("vault: login: %w", parent.Err())
		}
		return nil, &Error{Kind: Timeout, Operation: "login", Err: errors.New("another login is under way")}
	}
	defer func() { <-c.login }()
	if s := c.session.Load(); s != nil {
		return s, nil
	}
	s, err := c.logIn(ctx)
	if err == nil {
		c.session.Store(s)
		c.health.report(nil, true)
		c.metrics.logins.WithLabelValues("success").Inc()
		c.observe(Event{Kind: LoggedIn, State: Healthy})
		return s, nil
	}
	if parent.Err() != nil {
		c.health.abandon()
		return nil, fmt.Errorf("vault: login: %w", parent.Err())
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Kind: Failed, Operation: "login", Err: err}
	}
	c.health.report(e, true)
	c.metrics.logins.WithLabelValues(string(e.Kind)).Inc()
	c.observe(Event{Kind: LoginFailed, State: e.Kind, Detail: e.Error()})
	return nil, e
}

// logIn gets a token.
func (c *Client) logIn(ctx context.Context) (*session, error) {
	secret, err := c.auth.authenticate(ctx)
	if err != nil {
		return nil, err
	}
	client, err := c.newAPI(secret.Auth.ClientToken)
	if err != nil {
		return nil, err
	}
	s := &session{api: client, secret: secret, ended: make(chan struct{})}
	s.renewed(c.o.Now(), secret.Auth.LeaseDuration)
	return s, nil
}

// stayLoggedIn logs in, renews the token and logs in again whenever it ends,
// until ctx ends.
func (c *Client) stayLoggedIn(ctx context.Context) error {
	wait := firstWait
	for ctx.Err() == nil {
		s, err := c.tryLogin(ctx)
		if err != nil {
			if !pause(ctx, wait) {
				return nil
			}
			wait = min(2*wait, lastWait)
			continue
		}
		started := c.o.Now()
		if c.watch(ctx, s); ctx.Err() != nil {
			return nil
		}
		if c.session.CompareAndSwap(s, nil) {
			s.end()
		}
		if wait = firstWait; c.o.Now().Sub(started) < firstWait {
			// A token that ends at once, as one does that is past renewing.
			if !pause(ctx, 2*wait) {
				return nil
			}
		}
	}
	return nil
}

func (c *Client) tryLogin(ctx context.Context) (*session, error) {
	if s := c.session.Load(); s != nil {
		return s, nil
	}
	bound, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	return c.loggedIn(bound, ctx)
}

// watch returns when the token of s is over or about to be: it was lost, ctx
// ends, it cannot be renewed any more, or two thirds of a life that cannot be
// renewed have passed.
func (c *Client) watch(ctx context.Context, s *session) {
	ttl := time.Duration(s.secret.Auth.LeaseDuration) * time.Second
	switch {
	case ttl <= 0:
		select {
		case <-ctx.Done():
		case <-s.ended:
		}
	case !s.secret.Auth.Renewable:
		c.sleep(ctx, s, ttl*2/3)
	default:
		c.renew(ctx, s)
	}
}

func (c *Client) sleep(ctx context.Context, s *session, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.ended:
	case <-timer.C:
	}
}

// renew renews the token until the library's watcher gives up, for whatever
// reason: it ends without an error when the token has reached its last day.
func (c *Client) renew(ctx context.Context, s *session) {
	watcher, err := s.api.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: s.secret})
	if err != nil { // only without a secret
		c.sleep(ctx, s, firstWait)
		return
	}
	go watcher.Start() // ended by Stop
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-watcher.DoneCh():
			return
		case renewal := <-watcher.RenewCh():
			if renewal.Secret != nil && renewal.Secret.Auth != nil {
				s.renewed(c.o.Now(), renewal.Secret.Auth.LeaseDuration)
			}
		}
	}
}
