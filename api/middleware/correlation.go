package middleware

import "net/http"

// maxCorrelation bounds a correlation id, in bytes.
const maxCorrelation = 128

// Correlation is what ties a request to others, as its client named it. Both
// are empty when the client named none, or one that is not well-formed.
type Correlation struct {
	// ID is X-Correlation-Id, or X-Request-Id when there is none: up to 128
	// letters, digits and any of . _ : / + = - @
	ID string
	// TraceID is the trace id of traceparent (W3C Trace Context, section 3.2).
	TraceID string
}

// CorrelationID reads the ids of a request and sends the correlation id back
// under the name it came by. Nothing is made up: a decision has an id of its
// own.
func CorrelationID(found func(*http.Request, Correlation)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var c Correlation
			name := "X-Correlation-Id"
			values := r.Header[name]
			if len(values) == 0 {
				name = "X-Request-Id"
				values = r.Header[name]
			}
			if len(values) == 1 && validCorrelation(values[0]) {
				c.ID = values[0]
				w.Header()[name] = values[:1:1]
			}
			if parent := r.Header["Traceparent"]; len(parent) == 1 {
				c.TraceID = traceID(parent[0])
			}
			if c != (Correlation{}) {
				found(r, c)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// CorrelationOf reads the ids from the values of X-Correlation-Id, X-Request-Id
// and traceparent, each empty when there is none.
func CorrelationOf(correlation, request, parent string) Correlation {
	if correlation == "" {
		correlation = request
	}
	c := Correlation{TraceID: traceID(parent)}
	if validCorrelation(correlation) {
		c.ID = correlation
	}
	return c
}

func validCorrelation(s string) bool {
	if s == "" || len(s) > maxCorrelation {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '.', c == '_', c == ':', c == '/', c == '+', c == '=', c == '-', c == '@':
		default:
			return false
		}
	}
	return true
}

// traceID cuts the trace id out of version "-" trace-id "-" parent-id "-" flags,
// 2, 32, 16 and 2 lower-case hex digits; a later version may have more.
func traceID(s string) string {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' ||
		s[:2] == "ff" || (len(s) > length && (s[:2] == "00" || s[length] != '-')) {
		return ""
	}
	id := s[3:35]
	zero := true
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ""
		}
		zero = zero && c == '0'
	}
	if zero {
		return ""
	}
	return id
}
