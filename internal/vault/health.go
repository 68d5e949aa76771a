package vault

import (
	"context"
	"sync"
	"time"
)

const (
	// slowCalls is how many calls in a row may end without an answer before
	// the next are refused at once.
	slowCalls = 3
	// minOpen is how long calls are refused after a failure, at least.
	minOpen = 200 * time.Millisecond
)

// health is what is known of Vault, and the breaker that goes with it: while
// Vault is known not to answer, calls are refused at once but for one now and
// then.
type health struct {
	now     func() time.Time
	longest time.Duration // between two tries
	changed func(state Kind, detail string)

	mu      sync.Mutex
	known   knowledge
	slow    int           // calls in a row that had no answer in time
	wait    time.Duration // of the breaker; 0: it is closed
	until   time.Time     // when the breaker lets one call through
	trial   bool          // that call is under way
	failure *Error        // what refused calls are told
}

// knowledge is what is known of Vault.
type knowledge struct {
	state   Kind
	detail  string
	since   time.Time
	version string
}

func newHealth(now func() time.Time, longest time.Duration, changed func(Kind, string)) *health {
	return &health{
		now: now, longest: longest, changed: changed,
		known: knowledge{state: Unreachable, detail: "not asked yet", since: now()},
	}
}

func (h *health) snapshot() knowledge {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known
}

// admit gives nil when a call may be made, after which report must be called.
func (h *health) admit(operation string) *Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.wait == 0 {
		return nil
	}
	now := h.now()
	if !h.trial && !now.Before(h.until) {
		h.trial = true
		return nil
	}
	e := *h.failure
	e.Operation, e.RetryAfter = operation, max(h.until.Sub(now), 0)
	return &e
}

// abandon takes back a call that admit let through and that says nothing about
// Vault: its caller went away.
func (h *health) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trial = false
}

// report takes what became of a call. login says that it was a login, whose
// denial is Vault's state for us; that of another call is about its path.
func (h *health) report(e *Error, login bool) {
	state, detail := Healthy, ""
	if e != nil && e.Unavailable() && (e.Kind != Denied || login) {
		state, detail = e.Kind, e.Error()
	}
	h.mu.Lock()
	h.trial = false
	if state == Timeout {
		h.slow++
	} else {
		h.slow = 0
	}
	switch {
	case state == Healthy:
		h.wait, h.failure = 0, nil
	case state == RateLimited || state == Failed:
		// It answers: the next call may do better.
	case state == Timeout && h.slow < slowCalls && h.wait == 0:
		// One slow call is no slow Vault.
	default:
		h.wait = min(max(2*h.wait, minOpen), h.longest)
		h.until, h.failure = h.now().Add(h.wait), e
	}
	changed := h.set(state, detail)
	h.mu.Unlock()
	if changed {
		h.changed(state, detail)
	}
}

// set notes the state and tells whether it is another. h.mu is held.
func (h *health) set(state Kind, detail string) bool {
	if h.known.state == state && h.known.detail != "not asked yet" {
		h.known.detail = detail
		return false
	}
	h.known.state, h.known.detail, h.known.since = state, detail, h.now()
	return true
}

func (h *health) setVersion(version string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known.version = version
}

// probe asks for Vault's health until ctx ends, so that its state is known
// though nobody calls, and the breaker closes.
func (c *Client) probe(ctx context.Context) error {
	for {
		c.probeOnce(ctx)
		every := c.o.Probe * 3 / 4
		if c.health.snapshot().state != Healthy {
			every = c.o.Probe / 5
		}
		if !pause(ctx, every) {
			return nil
		}
	}
}

func (c *Client) probeOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	const operation = "health"
	started := c.o.Now()
	answer, err := c.anonymous.Sys().HealthWithContext(ctx)
	var e *Error
	switch {
	case err != nil && context.Cause(ctx) == context.Canceled:
		return // Run ends
	case err != nil:
		e = failure(ctx, operation, nil, err)
	case answer.Sealed || !answer.Initialized:
		e = &Error{Kind: Sealed, Operation: operation}
	case answer.ReplicationDRMode == "secondary": // another standby passes calls on
		e = &Error{Kind: Standby, Operation: operation}
	}
	c.metrics.observe(operation, KindOf(asError(e)), c.o.Now().Sub(started))
	if e == nil {
		c.health.setVersion(answer.Version)
		if c.session.Load() == nil {
			return // what the login meets is the state
		}
		if state := c.health.snapshot(); state.state == Standby || state.state == RateLimited && c.o.Now().Sub(state.since) < c.o.Probe {
			return // what calls meet says more
		}
	}
	c.health.report(e, false)
}

// asError makes an error of e that is nil when e is.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}
