package api

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// PeerConn is a connection that others than Server serve: a gRPC one. It may
// be used by several goroutines.
type PeerConn struct {
	addr netip.Addr
	tls  *tls.ConnectionState // nil without TLS
	conn connection
}

// NewPeerConn describes a connection after its handshake; state is nil on a
// plaintext one.
func NewPeerConn(remote net.Addr, state *tls.ConnectionState) *PeerConn {
	p := &PeerConn{tls: state}
	if ap, err := netip.ParseAddrPort(remote.String()); err == nil {
		p.addr = ap.Addr().Unmap().WithZone("")
	}
	return p
}

// AdmitPeer decides whether the peer may call a method of ClassForward, and
// says as whom: a listed certificate, an address in the trusted networks of
// gRPC, or with --dev anybody. A refusal is recorded.
func (g *Gate) AdmitPeer(ctx context.Context, p *PeerConn, method string) (Caller, *Error) {
	s := g.live.Load()
	client := middleware.Client{Peer: p.addr, Addr: p.addr}
	req := &Request{Listener: GRPC, Class: ClassForward, Client: client, conn: &p.conn}
	r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: method}, TLS: p.tls}
	refused := g.connectionRefused(r)
	if refused == nil {
		refused = g.admitsConn(r, req, s)
	}
	if refused == nil && g.o.Policy != nil {
		_, refused = g.policyAllows(r.WithContext(ctx), req, s, "")
	}
	if refused == nil {
		return req.Caller, nil
	}
	if g.o.Refusals != nil {
		g.o.Refusals.Record(ctx, refusalOf(r, req, refused))
	}
	return Caller{}, refused
}

// admitsConn applies the row of ClassForward to a gRPC connection.
func (g *Gate) admitsConn(r *http.Request, req *Request, s *settings) *Error {
	if r.TLS != nil {
		if caller, err := g.certified(r, req, s); err == nil && caller.listed {
			req.Caller = caller
			return nil
		}
	}
	if g.o.Dev {
		req.Caller = Caller{Kind: Open}
		return nil
	}
	req.Caller = Caller{Kind: Peer}
	if containsAddr(s.checkPeers, req.Client.Peer) {
		return nil
	}
	return &Error{Status: http.StatusForbidden, Code: CodeForbidden, Message: "this peer may not ask"}
}

// Enter counts a request of a protocol that does not go through Require into
// those being answered, unless there are too many: then it gives the error to
// answer. One that was let in must Leave.
func (g *Gate) Enter() *Error {
	if g.inFlight.Enter() {
		return nil
	}
	return &Error{
		Status: http.StatusServiceUnavailable, Code: CodeOverloaded,
		Message: "too many requests are being answered", RetryAfter: overloadRetry,
	}
}

// Leave counts a request out that Enter let in.
func (g *Gate) Leave() { g.inFlight.Leave() }

// TLSConfig is the configuration for a listener that others serve; nil without
// TLS.
func (s *Server) TLSConfig() *tls.Config {
	if s.o.TLS == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.o.TLS(), nil },
	}
}

// Bind listens on an address that others serve, under the rules of Server: dev
// is loopback only, plaintext elsewhere must be allowed. The listener closes
// connections above the bound of each listener.
func (s *Server) Bind(ctx context.Context, l Listener, addr string) (net.Listener, error) {
	ln, err := bind(ctx, l, addr, &s.o)
	if err != nil {
		return nil, err
	}
	most := s.o.Settings.MaxConnections
	if most == 0 {
		most = DefaultMaxConnections
	}
	return &foreignListener{Listener: ln, most: int64(most), refused: s.refused.WithLabelValues(l.String()).Inc}, nil
}

// foreignListener closes connections above a bound.
type foreignListener struct {
	net.Listener
	most    int64
	open    atomic.Int64
	refused func()
}

// Accept implements net.Listener.
func (f *foreignListener) Accept() (net.Conn, error) {
	for {
		conn, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if f.open.Add(1) <= f.most {
			return &foreignConn{Conn: conn, left: sync.OnceFunc(func() { f.open.Add(-1) })}, nil
		}
		f.open.Add(-1)
		f.refused()
		_ = conn.Close() // the client's loss
	}
}

type foreignConn struct {
	net.Conn
	left func()
}

// Close implements net.Conn.
func (c *foreignConn) Close() error {
	defer c.left()
	return c.Conn.Close()
}
