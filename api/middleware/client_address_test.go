package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/middleware"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name, peer string
		header     http.Header
		want       string // "" nobody knows
		loopback   bool
	}{
		{"no proxy", "203.0.113.7:4000", nil, "203.0.113.7", false},
		{"loopback", "127.0.0.1:4000", nil, "127.0.0.1", true},
		{"loopback, IPv6", "[::1]:4000", nil, "::1", true},
		{"loopback, mapped", "[::ffff:127.0.0.1]:4000", nil, "127.0.0.1", true},
		{"zone of the peer", "[fe80::1%eth0]:4000", nil, "fe80::1", false},
		{"no peer", "@", nil, "", false},
		{"lie of a stranger", "203.0.113.7:4000", xff("127.0.0.1"), "203.0.113.7", false},
		{"unknown proxy on this machine", "127.0.0.1:4000", xff("203.0.113.9"), "127.0.0.1", false},
		{"Forwarded on this machine", "127.0.0.1:4000", http.Header{"Forwarded": {"for=203.0.113.9"}}, "127.0.0.1", false},
		{"X-Real-IP is not believed", "10.0.0.1:4000", http.Header{"X-Real-Ip": {"203.0.113.9"}}, "10.0.0.1", false},
		{"one proxy", "10.0.0.1:4000", xff("203.0.113.9"), "203.0.113.9", false},
		{"lie before a proxy", "10.0.0.1:4000", xff("127.0.0.1, 203.0.113.9"), "203.0.113.9", false},
		{"chain of proxies", "10.0.0.1:4000", xff("1.1.1.1,203.0.113.9 ,10.1.1.1,\tfd00::7"), "203.0.113.9", false},
		{"several lines", "10.0.0.1:4000", xff("1.1.1.1, 203.0.113.9", "10.1.1.1"), "203.0.113.9", false},
		{"all trusted", "10.0.0.1:4000", xff("10.9.9.9, 10.1.1.1"), "10.9.9.9", false},
		{"with a port", "10.0.0.1:4000", xff("203.0.113.9:55"), "203.0.113.9", false},
		{"IPv6 with a port", "10.0.0.1:4000", xff("[2001:db8::1]:55"), "2001:db8::1", false},
		{"mapped hop", "10.0.0.1:4000", xff("203.0.113.9, ::ffff:10.1.1.1"), "203.0.113.9", false},
		{"empty", "10.0.0.1:4000", xff(""), "", false},
		{"empty hop", "10.0.0.1:4000", xff("203.0.113.9,"), "", false},
		{"garbage", "10.0.0.1:4000", xff("unknown"), "", false},
		{"garbage behind a proxy", "10.0.0.1:4000", xff("203.0.113.9, x, 10.1.1.1"), "", false},
		{"garbage before the client", "10.0.0.1:4000", xff("x, 203.0.113.9, 10.1.1.1"), "203.0.113.9", false},
		{"zone", "10.0.0.1:4000", xff("fe80::1%eth0"), "", false},
		{"unspecified", "10.0.0.1:4000", xff("0.0.0.0"), "", false},
		{"network", "10.0.0.1:4000", xff("203.0.113.0/24"), "", false},
		{"too many hops", "10.0.0.1:4000", xff(strings.Repeat("10.1.1.1,", 33) + "10.1.1.1"), "", false},
		{"too long", "10.0.0.1:4000", xff(strings.Repeat(" ", 3000) + "203.0.113.9"), "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got middleware.Client
			h := middleware.ClientAddress(
				func() []netip.Prefix { return trusted },
				func(_ *http.Request, c middleware.Client) { got = c },
			)(http.NotFoundHandler())
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = tc.peer
			for k, v := range tc.header {
				r.Header[k] = v
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if (tc.want == "" && got.Addr.IsValid()) || (tc.want != "" && got.Addr != netip.MustParseAddr(tc.want)) {
				t.Errorf("client %v, want %q", got.Addr, tc.want)
			}
			if got.Loopback() != tc.loopback {
				t.Errorf("loopback %v", got.Loopback())
			}
		})
	}
}

func xff(lines ...string) http.Header { return http.Header{"X-Forwarded-For": lines} }
