package middleware

import "net/http"

// SecurityHeaders puts on every answer that it must not be kept by caches and
// that its media type is what it says. A handler may replace either.
func SecurityHeaders() func(http.Handler) http.Handler {
	// The slices are shared: they are full, so that adding to one copies it.
	noSniff, noStore := []string{"nosniff"}, []string{"no-store"}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h["X-Content-Type-Options"] = noSniff
			h["Cache-Control"] = noStore
			next.ServeHTTP(w, r)
		})
	}
}
