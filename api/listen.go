package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// Bounds on what a connection above the bound may cost.
const (
	turnAwayTime  = 500 * time.Millisecond
	turnAwayBytes = 64 << 10
	turnAwayMost  = 32 // at a time; those beyond are closed without a word
	turnAwayTLS   = 4  // a handshake costs a thousand times as much
)

// turnedAway is the whole answer to a connection above the bound.
const turnedAway = "HTTP/1.1 503 Service Unavailable\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 21\r\n" +
	"Retry-After: 1\r\n" +
	"Cache-Control: no-store\r\n" +
	"Connection: close\r\n\r\n" +
	"too many connections\n"

// bind listens on addr once it is clear that it may be listened on.
func bind(ctx context.Context, l Listener, addr string, o *ServerOptions) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("server.%s: %w", l, err)
	}
	if !resolved.IP.IsLoopback() {
		if o.Dev {
			return nil, fmt.Errorf("server.%s: %s is not a loopback address: with --dev nothing else is listened on", l, addr)
		}
		if o.TLS == nil && !o.AllowPlaintext {
			return nil, fmt.Errorf("server.%s: %s is not a loopback address and there is no TLS: "+
				"set server.tls.cert_file and key_file, or server.allow_plaintext", l, addr)
		}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", resolved.String())
	if err != nil {
		return nil, fmt.Errorf("server.%s: %w", l, err)
	}
	return ln, nil
}

// boundListener turns connections away above a bound.
type boundListener struct {
	net.Listener
	name     Listener
	now      *atomic.Int64 // open connections
	most     atomic.Int64
	tls      func() *tls.Config // nil without TLS
	refusals *RefusalLog        // may be nil
	refused  prometheus.Counter
	turning  chan struct{} // a slot for each connection being turned away
	done     sync.WaitGroup
}

// state counts connections; it is http.Server.ConnState, which is told of a new
// connection before the next is accepted.
func (b *boundListener) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		b.now.Add(1)
	case http.StateClosed, http.StateHijacked:
		b.now.Add(-1)
	}
}

// Accept implements net.Listener.
func (b *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.now.Load() < b.most.Load() {
			return conn, nil
		}
		b.refused.Inc()
		select {
		case b.turning <- struct{}{}:
			b.done.Go(func() { // ends within turnAwayTime; Server.Run waits for it
				defer func() { <-b.turning }()
				b.turnAway(conn)
			})
		default:
			_ = conn.Close() // the client's loss
		}
	}
}

// turnAway answers 503, whatever is asked, once something is. The answer is
// followed by the end of the stream and by a bounded reading of what the client
// sent: to close at once would throw the answer away with it.
func (b *boundListener) turnAway(conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(turnAwayTime)); err != nil {
		return
	}
	if b.refusals != nil {
		r := Refusal{
			Status: http.StatusServiceUnavailable, Code: CodeOverloaded, Message: "too many connections",
			Class: classes, Listener: b.name,
		}
		if ap, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			r.Client = middleware.Client{Peer: ap.Addr().Unmap(), Addr: ap.Addr().Unmap()}
		}
		b.refusals.Record(context.Background(), r)
	}
	out := conn
	if b.tls != nil {
		c := b.tls().Clone()
		c.NextProtos = []string{"http/1.1"}
		out = tls.Server(conn, c)
	}
	// An answer that comes before its request is none to a client: it takes the
	// connection for broken.
	if _, err := out.Read(make([]byte, 1<<10)); err != nil {
		return
	}
	if _, err := io.WriteString(out, turnedAway); err != nil {
		return
	}
	if half, ok := out.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, out, turnAwayBytes) // the client may be gone
}

// wait waits for what is being turned away.
func (b *boundListener) wait() { b.done.Wait() }
