package client

import (
	"context"
	"net/http"
)

// traceHeaders are the headers that connect a record in the audit log to the
// request that it is about (W3C Trace Context, and two names in wide use).
func traceHeaders() [4]string {
	return [...]string{"Traceparent", "Tracestate", "X-Request-Id", "X-Correlation-Id"}
}

// maxTrace bounds such a header, in bytes; W3C's bound for tracestate.
const maxTrace = 512

type traceKey struct{}

// WithTrace returns a context whose calls bear the trace headers of h: traceparent,
// tracestate, X-Request-Id, X-Correlation-Id. Others are left out, and so are
// values that are long or not printable. The middleware of a Guard does this with
// the headers of the request that it guards.
func WithTrace(ctx context.Context, h http.Header) context.Context {
	kept := http.Header{}
	for _, name := range traceHeaders() {
		if value := h.Get(name); value != "" && len(value) <= maxTrace && printable(value) == value {
			kept.Set(name, value)
		}
	}
	if len(kept) == 0 {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, kept)
}

// propagateTrace sets the headers of WithTrace.
func propagateTrace(ctx context.Context, h http.Header) {
	kept, _ := ctx.Value(traceKey{}).(http.Header)
	for name, values := range kept {
		h[name] = values
	}
}

type decisionKey struct{}

// WithDecision returns a context that holds a decision for FromContext.
func WithDecision(ctx context.Context, d Decision) context.Context {
	return context.WithValue(ctx, decisionKey{}, d)
}

// FromContext returns the decision by which a middleware has let a request in:
// its obligations and its id are for the handler.
func FromContext(ctx context.Context) (Decision, bool) {
	d, ok := ctx.Value(decisionKey{}).(Decision)
	return d, ok
}
