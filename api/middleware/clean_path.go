package middleware

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// CleanPath answers a path with an empty segment or one of dots by a redirect
// (307, as OPA does) to the path without, and gives every other path one
// spelling: URL.RawPath is empty, or holds only those escapes that mean
// something else unescaped, %2F in a segment above all. So a router that goes
// by RawPath finds /v1/d%61ta where /v1/data is, and keeps a%2Fb one segment.
// Paths below one of verbatim stay as they came: what follows there is the path
// of another request, which must be judged as it was made.
func CleanPath(verbatim ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := r.URL.RawPath
			if p == "" {
				p = r.URL.Path
			}
			if r.Method == http.MethodConnect || p == "" || p[0] != '/' || below(p, verbatim) {
				next.ServeHTTP(w, r)
				return
			}
			if strings.Contains(p, "//") || strings.Contains(p, "/.") {
				if clean := cleaned(r.URL.EscapedPath()); clean != r.URL.EscapedPath() {
					redirect(w, r, clean, r.URL.RawQuery, http.StatusTemporaryRedirect)
					return
				}
			}
			if r.URL.RawPath != "" {
				r = respelled(r)
			}
			next.ServeHTTP(w, r)
		})
	}
}

func below(p string, folders []string) bool {
	for _, f := range folders {
		if rest, ok := strings.CutPrefix(p, f); ok && rest != "" && rest[0] == '/' {
			return true
		}
	}
	return false
}

// cleaned removes empty segments and dots, and keeps a slash at the end.
func cleaned(p string) string {
	clean := path.Clean(p)
	if clean != "/" && strings.HasSuffix(p, "/") {
		clean += "/"
	}
	return clean
}

// respelled is the request with the one spelling of its path. The request that
// came in stays as it is.
func respelled(r *http.Request) *http.Request {
	segments := strings.Split(r.URL.RawPath, "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return r // RawPath is set by url.Parse only when it is valid
		}
		switch plain {
		case ".":
			segments[i] = "%2E"
		case "..":
			segments[i] = "%2E%2E"
		default:
			// As URL.EscapedPath has it, so that both agree, but for the slash.
			u := url.URL{Path: plain}
			segments[i] = strings.ReplaceAll(u.EscapedPath(), "/", "%2F")
		}
	}
	raw := strings.Join(segments, "/")
	u := *r.URL
	if u.RawPath = raw; (&url.URL{Path: u.Path}).EscapedPath() == raw {
		u.RawPath = ""
	}
	if u.RawPath == r.URL.RawPath {
		return r
	}
	again := *r
	again.URL = &u
	return &again
}

// redirect answers with a Location on this host: escaped is an escaped path
// that begins with exactly one slash.
func redirect(w http.ResponseWriter, r *http.Request, escaped, query string, status int) {
	if query != "" {
		escaped += "?" + query
	}
	http.Redirect(w, r, escaped, status)
}
