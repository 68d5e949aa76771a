package middleware

import (
	"net/http"
	"net/netip"
	"strings"
)

// Bounds on X-Forwarded-For: a longer one is garbage.
const (
	maxForwardedBytes = 2 << 10
	maxForwardedHops  = 32
)

// Client is where a request came from.
type Client struct {
	// Peer is the other end of the connection; invalid when it has none.
	Peer netip.Addr
	// Addr is the client's address: the peer's, or what a trusted proxy says.
	// It is invalid when a trusted proxy handed on something that is no list of
	// addresses: then nobody knows, and nothing may be concluded from it.
	Addr netip.Addr
	// Forwarded tells that the request names a client other than the peer,
	// whether that is believed or not.
	Forwarded bool
}

// Loopback reports whether the request was made on this machine.
func (c Client) Loopback() bool {
	return c.Peer.IsLoopback() && c.Addr.IsLoopback() && !c.Forwarded
}

// IP is Addr as text; empty when nobody knows it.
func (c Client) IP() string {
	if !c.Addr.IsValid() {
		return ""
	}
	return c.Addr.String()
}

// ClientAddress finds out where a request came from. X-Forwarded-For is
// believed only when the peer is in a trusted network, and then read from the
// right: each trusted address hands over to the one before it, and the first
// that is not trusted is the client. Everything to the left of it could have
// been written by anybody. Other headers (X-Real-IP, Forwarded, True-Client-IP)
// are never believed, since proxies pass them on as they come.
func ClientAddress(trusted func() []netip.Prefix, found func(*http.Request, Client)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			found(r, ClientOf(r, trusted()))
			next.ServeHTTP(w, r)
		})
	}
}

// ClientOf is where one request came from, with these networks trusted.
func ClientOf(r *http.Request, trusted []netip.Prefix) Client {
	var c Client
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Peer = ap.Addr().Unmap().WithZone("")
	}
	c.Addr = c.Peer
	lines := r.Header["X-Forwarded-For"]
	c.Forwarded = len(lines) > 0 || len(r.Header["Forwarded"]) > 0 || len(r.Header["X-Real-Ip"]) > 0
	if len(lines) == 0 || !contains(trusted, c.Peer) {
		return c
	}
	c.Addr = forwardedFor(lines, trusted)
	return c
}

// forwardedFor is the right-most address that is not trusted, or the left-most
// when all are; invalid on anything that is no address.
func forwardedFor(lines []string, trusted []netip.Prefix) netip.Addr {
	var addr netip.Addr
	size, hops := 0, 0
	for i := len(lines) - 1; i >= 0; i-- {
		if size += len(lines[i]); size > maxForwardedBytes {
			return netip.Addr{}
		}
		for rest, more := lines[i], true; more; {
			hop := rest
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, hop = rest[:cut], rest[cut+1:]
			} else {
				more = false
			}
			if hops++; hops > maxForwardedHops {
				return netip.Addr{}
			}
			if addr = parseHop(strings.Trim(hop, " \t")); !addr.IsValid() || !contains(trusted, addr) {
				return addr
			}
		}
	}
	return addr
}

// parseHop reads an address, with a port when the proxy adds one.
func parseHop(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = ap.Addr()
	}
	if addr.Zone() != "" || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr.Unmap()
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
