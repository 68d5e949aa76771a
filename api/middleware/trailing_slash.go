package middleware

import (
	"net/http"
	"strings"
)

// TrailingSlash answers a known path with a slash at its end by a redirect (301,
// without the query, as OPA does) to the path without, and HEAD by 405 without a
// body. It belongs around the handlers of known paths, behind CleanPath.
func TrailingSlash() func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			if r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/") {
				if p := r.URL.EscapedPath(); strings.HasSuffix(p, "/") {
					// One slash in front: two would name another host.
					redirect(w, r, "/"+strings.Trim(p, "/"), "", http.StatusMovedPermanently)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}
