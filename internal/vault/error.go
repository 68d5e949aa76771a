package vault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Kind says what became of a call, and how Vault does.
type Kind string

// The kinds. Those from Sealed to Failed say that Vault cannot be used now.
const (
	Healthy     Kind = "healthy"
	Sealed      Kind = "sealed"       // sealed, or not initialized
	Standby     Kind = "standby"      // not the active node, and it sends callers elsewhere
	Unreachable Kind = "unreachable"  // no connection, or one that broke
	Timeout     Kind = "timeout"      // connected, no answer in time
	RateLimited Kind = "rate_limited" // Vault asks to slow down (429)
	Denied      Kind = "denied"       // not logged in, or the token's policies do not allow it
	Failed      Kind = "failed"       // an answer that makes no sense, or Vault's own error

	NotFound Kind = "not_found" // 404
	Refused  Kind = "refused"   // the request itself is wrong
)

const (
	maxMessages = 3
	maxMessage  = 200
)

// Error is what a call to Vault ended with. It never holds a token, a secret
// id or what was sent.
type Error struct {
	Kind Kind
	// Operation is the call's.
	Operation string
	// Status is the HTTP status; 0 when there was no answer.
	Status int
	// Messages are Vault's own, shortened.
	Messages []string
	// RetryAfter is when it makes sense to ask again; 0: unknown.
	RetryAfter time.Duration
	// Err is the cause where there was no answer, without the URL; may be nil.
	Err error
}

// Error names the operation, the kind and what is known of the cause.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vault: %s: %s", e.Operation, e.Kind)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (%d)", e.Status)
	}
	if len(e.Messages) > 0 {
		b.WriteString(": " + strings.Join(e.Messages, "; "))
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Unavailable tells that Vault cannot be used now, for whatever reason.
func (e *Error) Unavailable() bool { return e.Kind != NotFound && e.Kind != Refused }

// KindOf gives the kind of an error of this package: Healthy for nil, Failed
// for an error of another package.
func KindOf(err error) Kind {
	if err == nil {
		return Healthy
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Failed
}

// failure makes an *Error of what the client library gave. ctx is the call's,
// with its deadline.
func failure(ctx context.Context, operation string, resp *api.Response, err error) *Error {
	e := &Error{Operation: operation}
	if resp != nil && resp.Response != nil {
		e.Status, e.RetryAfter = resp.StatusCode, retryAfter(resp.Header)
	}
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		e.Status = answer.StatusCode
		if !answer.RawError { // another program's page says nothing that is worth its length
			e.Messages = clean(answer.Errors)
		}
	}
	if e.Status != 0 {
		e.Kind = kindOfStatus(e.Status, e.Messages)
		return e
	}
	e.Kind, e.Err = Unreachable, bare(err)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || ctx.Err() != nil {
		e.Kind = Timeout
	}
	return e
}

func kindOfStatus(status int, messages []string) Kind {
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return Denied
	case status == http.StatusNotFound:
		return NotFound
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusPreconditionFailed, status == 472, status == 473, status/100 == 3:
		return Standby // 412: a replica that has not caught up
	case status == http.StatusServiceUnavailable:
		for _, m := range messages {
			if strings.Contains(m, "sealed") {
				return Sealed
			}
		}
		return Unreachable
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		return Unreachable
	case status/100 == 4:
		return Refused
	}
	return Failed
}

// bare leaves the URL out of an error of package net/http.
func bare(err error) error {
	for {
		outer, ok := errors.AsType[*url.Error](err)
		if !ok {
			return err
		}
		err = outer.Err
	}
}

// tokens are what Vault's and OpenBao's tokens look like.
func tokens() *regexp.Regexp {
	return regexp.MustCompile(`\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{8,}`)
}

// clean shortens Vault's messages to what an operator needs. What looks like a
// token goes.
func clean(messages []string) []string {
	var out []string
	for _, m := range messages {
		if len(out) == maxMessages {
			break
		}
		m = tokens().ReplaceAllString(strings.Join(strings.Fields(m), " "), "[redacted]")
		if len(m) > maxMessage {
			m = strings.ToValidUTF8(m[:maxMessage], "") + "..."
		}
		if m != "" {
			out = append(out, m)
		}
	}
	return out
}

// retryAfter reads the header Retry-After in seconds (RFC 9110, section
// 10.2.3), at most a minute.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Minute)
}
