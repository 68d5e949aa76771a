// Package api is what every protocol stands on: the listeners, who is calling,
// what a caller may, and what is written down when it may not.
//
// A request enters at a listener of Server, goes through Gate.Stack, which gives
// it a Request, and reaches a route behind Gate.Require, which answers a caller
// that may not pass. Protocols (api/opa, api/native) mount such routes and
// translate; they find the caller by FromContext.
package api

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/internal/problem"
)

// Codes of the errors of this package.
const (
	CodeUnauthorized = "unauthorized"   // 401: no credential, or a bad one
	CodeForbidden    = "forbidden"      // 403: the caller may not
	CodeNotFound     = "not_found"      // 404: not on this listener
	CodeTimeout      = "body_timeout"   // 408: the body came too slowly
	CodeTooLarge     = "body_too_large" // 413
	CodeInternal     = "internal_error" // 500
	CodeOverloaded   = "overloaded"     // 503: too many requests or connections
)

// Error is an answer other than success, before a protocol gives it its shape.
type Error struct {
	Status  int
	Code    string
	Message string
	// RetryAfter is when to try again; 0: unsaid.
	RetryAfter time.Duration
	// Cause is for the protocol alone, which may answer with it in place of
	// Message. It is neither recorded nor logged: it may hold what a policy made of
	// a credential.
	Cause error

	challenge string // for WWW-Authenticate, of what Standing refused
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// ErrorWriter writes an error in the shape of one protocol: status, body, and
// the header fields of its own. WWW-Authenticate and Retry-After are set.
type ErrorWriter func(http.ResponseWriter, *http.Request, *Error)

// WriteProblem is the ErrorWriter of verdict's own API: RFC 9457.
func WriteProblem(w http.ResponseWriter, _ *http.Request, e *Error) {
	if e.challenge != "" {
		w.Header().Set("WWW-Authenticate", e.challenge)
	}
	problem.Problem{Status: e.Status, Detail: e.Message, Members: map[string]any{"code": e.Code}}.Write(w)
}

// AsError is the *Error in err, or one for a body that was too large or too
// slow; anything else is a bare internal error, whose cause the caller logs.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*middleware.BodyTooLargeError](err); ok {
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge, Message: e.Error()}
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge, Message: (&middleware.BodyTooLargeError{Limit: e.Limit}).Error()}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Error{Status: http.StatusRequestTimeout, Code: CodeTimeout, Message: "the request body came too slowly"}
	}
	return &Error{Status: http.StatusInternalServerError, Code: CodeInternal, Message: "internal error"}
}

// setRetryAfter says when to try again, in whole seconds, at least one.
func setRetryAfter(h http.Header, d time.Duration) {
	if d > 0 {
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// Request is what is known of a request beside what net/http knows. It belongs
// to the goroutine that serves the request.
type Request struct {
	Listener Listener
	Class    Class // of the route, once Require has seen it
	Caller   Caller
	Client   middleware.Client
	middleware.Correlation

	conn *connection // nil on a plaintext connection

	// by what it was let in, for Standing; nil: not by the access table
	gate   *Gate
	rule   *rule
	bundle string
}

// FromContext is the request that ctx belongs to, nil outside of Gate.Stack.
func FromContext(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

type requestKey struct{}

// exchange is one allocation for all that a request needs: its context, the
// answer under way, and the Request.
type exchange struct {
	context.Context
	writer  middleware.Writer
	request Request
	route   *chi.Context // lent by Gate.routes while the request is served
}

// Value implements context.Context. chi finds its routing context here and so
// makes none.
func (x *exchange) Value(key any) any {
	switch key {
	case requestKey{}:
		return &x.request
	case chi.RouteCtxKey:
		return x.route
	}
	return x.Context.Value(key)
}
