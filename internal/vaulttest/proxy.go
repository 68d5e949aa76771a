package vaulttest

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between a client and a server and does it harm.
type Proxy struct {
	// URL is what a client is given.
	URL string

	requests atomic.Int64

	mu    sync.Mutex
	fault fault
	gone  bool
	conns map[net.Conn]struct{}
}

// fault is what happens to requests; the zero value lets them pass.
type fault struct {
	prefix string // of the paths that it happens to
	delay  time.Duration
	status int
	header http.Header
	body   string
	lose   bool // the answer
}

// NewProxy starts a proxy before a server at a URL, until the test ends.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{URL: "http://" + ln.Addr().String(), conns: map[net.Conn]struct{}{}}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	srv := &http.Server{Handler: p.handler(forward), ConnState: p.track}
	go func() { _ = srv.Serve(ln) }() // ended by Close
	t.Cleanup(func() {
		p.Heal()
		_ = srv.Close()
	})
	return p
}

func (p *Proxy) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		p.mu.Lock()
		f, gone := p.fault, p.gone
		p.mu.Unlock()
		if gone {
			panic(http.ErrAbortHandler)
		}
		if !strings.HasPrefix(r.URL.Path, f.prefix) {
			f = fault{}
		}
		if f.delay > 0 {
			select {
			case <-time.After(f.delay):
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case f.status != 0:
			for name, values := range f.header {
				w.Header()[name] = values
			}
			w.WriteHeader(f.status)
			_, _ = io.WriteString(w, f.body)
		case f.lose:
			next.ServeHTTP(lost{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// lost is an answer that nobody gets.
type lost struct{ header http.Header }

func (l lost) Header() http.Header         { return l.header }
func (l lost) Write(p []byte) (int, error) { return len(p), nil }
func (l lost) WriteHeader(int)             {}

func (p *Proxy) track(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns[c] = struct{}{}
		if p.gone {
			_ = c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(p.conns, c)
	}
}

func (p *Proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.gone = f, false
}

// Heal lets all pass.
func (p *Proxy) Heal() { p.set(fault{}) }

// Cut breaks every connection, and each new one.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Delay holds every request back.
func (p *Proxy) Delay(d time.Duration) { p.set(fault{delay: d}) }

// Answer answers requests whose path begins with prefix itself.
func (p *Proxy) Answer(prefix string, status int, header http.Header, body string) {
	p.set(fault{prefix: prefix, status: status, header: header, body: body})
}

// LoseAnswers passes requests whose path begins with prefix on, and breaks the
// connection instead of answering.
func (p *Proxy) LoseAnswers(prefix string) { p.set(fault{prefix: prefix, lose: true}) }

// Requests is how many came so far.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }
