package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// FuzzForwardedFor checks that what a client writes in front of what the proxies
// add changes nothing.
func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"203.0.113.9", "1.1.1.1, 10.0.0.1", "x", "", "[::1]:5,10.0.0.1", "fe80::1%eth0"} {
		f.Add(seed, "127.0.0.1")
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	find := func(lines ...string) (got netip.Addr) {
		h := middleware.ClientAddress(
			func() []netip.Prefix { return trusted },
			func(_ *http.Request, c middleware.Client) { got = c.Addr },
		)(http.NotFoundHandler())
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Header["X-Forwarded-For"] = "10.0.0.1:1", lines
		h.ServeHTTP(httptest.NewRecorder(), r)
		return got
	}
	f.Fuzz(func(t *testing.T, real, lie string) {
		got := find(real)
		if !got.IsValid() || trusted[0].Contains(got) {
			return
		}
		for _, again := range []netip.Addr{find(lie + "," + real), find(lie, real)} {
			if again != got {
				t.Errorf("%q gives %v, with %q in front %v", real, got, lie, again)
			}
		}
	})
}

// FuzzCleanPath checks that a redirect stays on this host and that the one
// spelling of a path means what the path did.
func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"/", "/a%2Fb", "/d%61ta/%2e%2e/x", "//evil/", `/\evil//`, "/a//b", "/%00", "/a/./b/", "/%C3%A4%2f"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return
		}
		path := u.Path
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = u
		w := httptest.NewRecorder()
		called := 0
		h := middleware.CleanPath()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			called++
			if r.URL.Path != path {
				t.Errorf("%q: path %q became %q", target, path, r.URL.Path)
			}
			if raw := r.URL.RawPath; raw != "" {
				if plain, err := url.PathUnescape(raw); err != nil || plain != path || r.URL.EscapedPath() != raw {
					t.Errorf("%q: RawPath %q is not path %q (%v)", target, raw, path, err)
				}
			}
		}))
		h.ServeHTTP(w, r)
		if to := w.Header().Get("Location"); called == 0 && (len(to) == 0 || to[0] != '/' || len(to) > 1 && (to[1] == '/' || to[1] == '\\')) {
			t.Errorf("%q is sent to %q", target, to)
		}
	})
}
