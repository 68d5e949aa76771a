package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// Limits of the listeners.
const (
	// DefaultMaxConnections bounds the open connections of each listener.
	DefaultMaxConnections = 4096
	// DefaultGrace is how long requests may take once the server is stopping.
	DefaultGrace = 10 * time.Second
	// DefaultMaxHeader bounds the request line and the header together, in bytes.
	DefaultMaxHeader = 32 << 10
	// DefaultReadHeaderTimeout is how long they may take.
	DefaultReadHeaderTimeout = 5 * time.Second
	// IdleTimeout is how long a connection may wait for its next request.
	IdleTimeout = 120 * time.Second
)

// headerSlack is what net/http adds to MaxHeaderBytes.
const headerSlack = 4 << 10

// ServerSettings is what a reload may change.
type ServerSettings struct {
	// MaxConnections bounds each listener; 0: DefaultMaxConnections.
	MaxConnections int
}

// ServerOptions describe the listeners.
type ServerOptions struct {
	// Addr, AdminAddr and DiagnosticAddr are what to listen on, HOST:PORT, port 0
	// for any; empty: no such listener. One at least is needed.
	Addr, AdminAddr, DiagnosticAddr string
	// Dev refuses every address that is not loopback.
	Dev bool
	// AllowPlaintext allows others than loopback without TLS.
	AllowPlaintext bool
	// TLS gives the configuration for a connection that begins now; it must not
	// block. nil: the listeners speak plaintext.
	TLS      func() *tls.Config
	Settings ServerSettings
	// MaxHeader, ReadHeaderTimeout and Grace: 0 is the default of that name.
	MaxHeader                int
	ReadHeaderTimeout, Grace time.Duration
	// Refusals gets connections that were turned away; nil: recorded nowhere.
	Refusals *RefusalLog
	Logger   zerolog.Logger
}

// Server is the HTTP listeners. The order of its life is NewServer, Listen, Run.
type Server struct {
	gate       *Gate
	mount      func(Listener, chi.Router)
	o          ServerOptions
	draining   atomic.Bool
	refused    *prometheus.CounterVec
	handshakes *prometheus.CounterVec
	now        [listeners]atomic.Int64   // open connections
	bound      [listeners]*boundListener // by Listen; nil: none
}

// NewServer makes a server whose routes mount puts on the router of each
// listener.
func NewServer(g *Gate, mount func(l Listener, r chi.Router), o ServerOptions) (*Server, error) {
	if o.Addr == "" && o.AdminAddr == "" && o.DiagnosticAddr == "" {
		return nil, errors.New("server.addr: no address to listen on")
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.MaxHeader <= 0 {
		o.MaxHeader = DefaultMaxHeader
	}
	if o.ReadHeaderTimeout <= 0 {
		o.ReadHeaderTimeout = DefaultReadHeaderTimeout
	}
	s := &Server{
		gate: g, mount: mount, o: o,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_connections_refused_total", Help: "Connections turned away above the bound.",
		}, []string{"listener"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_tls_handshake_failures_total", Help: "TLS handshakes that failed.",
		}, []string{"listener", "reason"}),
	}
	commit, err := s.Prepare(o.Settings)
	if err != nil {
		return nil, err
	}
	commit()
	return s, nil
}

// Collectors are the metrics of the listeners.
func (s *Server) Collectors() []prometheus.Collector {
	all := []prometheus.Collector{s.refused, s.handshakes}
	for l := range s.now {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "http_connections_open", Help: "Open connections.",
			ConstLabels: prometheus.Labels{"listener": Listener(l).String()},
		}, func() float64 { return float64(s.now[l].Load()) }))
	}
	return all
}

// Prepare checks new settings; commit puts them in force: for connections that
// come after it, those that are open stay as they are.
func (s *Server) Prepare(n ServerSettings) (commit func(), err error) {
	if n.MaxConnections < 0 {
		return nil, errors.New("server.max_connections must not be negative")
	}
	if n.MaxConnections == 0 {
		n.MaxConnections = DefaultMaxConnections
	}
	return func() {
		for _, b := range s.bound {
			if b != nil {
				b.most.Store(int64(n.MaxConnections))
			}
		}
	}, nil
}

// Listen binds the addresses, all or none. It must have returned before Run,
// Addr or a reload is called.
func (s *Server) Listen(ctx context.Context) error {
	for l, addr := range [...]string{Main: s.o.Addr, Management: s.o.AdminAddr, Diagnostic: s.o.DiagnosticAddr} {
		if addr == "" {
			continue
		}
		ln, err := bind(ctx, Listener(l), addr, &s.o)
		if err != nil {
			return errors.Join(err, s.unbind())
		}
		s.adopt(Listener(l), ln)
	}
	return nil
}

// adopt takes a bound listener.
func (s *Server) adopt(l Listener, ln net.Listener) {
	b := &boundListener{
		Listener: ln, name: l, now: &s.now[l], tls: s.o.TLS, refusals: s.o.Refusals,
		refused: s.refused.WithLabelValues(l.String()), turning: make(chan struct{}, turnAwayMost),
	}
	if s.o.TLS != nil {
		b.turning = make(chan struct{}, turnAwayTLS)
	}
	b.most.Store(int64(s.o.Settings.MaxConnections))
	if s.o.Settings.MaxConnections == 0 {
		b.most.Store(DefaultMaxConnections)
	}
	s.bound[l] = b
}

func (s *Server) unbind() error {
	var errs []error
	for l, b := range s.bound {
		if b != nil {
			errs = append(errs, b.Close())
			s.bound[l] = nil
		}
	}
	return errors.Join(errs...)
}

// Addr is the address that the listener is bound to; nil when there is none.
func (s *Server) Addr(l Listener) net.Addr {
	if l >= listeners || s.bound[l] == nil {
		return nil
	}
	return s.bound[l].Addr()
}

// Draining reports whether the server is stopping: health is not good any more,
// and streams should end.
func (s *Server) Draining() bool { return s.draining.Load() }

// Run serves until ctx ends or a listener fails. Then it stops in this order:
// Draining is true; addr and admin_addr accept nothing more and finish what they
// have begun; after Options.Grace what is left is cancelled and cut off;
// diagnostic_addr, which answers until here, closes last. Run returns nil when
// it was stopped by ctx, also when something was cut off, which is logged.
func (s *Server) Run(ctx context.Context) error {
	group, stop := errgroup.WithContext(ctx)
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var servers [listeners]*http.Server
	if s.bound == [listeners]*boundListener{} {
		return errors.New("run the server: it does not listen")
	}
	for l, b := range s.bound {
		if b == nil {
			continue
		}
		srv := s.server(requests, Listener(l), b)
		servers[l] = srv
		group.Go(func() error { // ended by stopAll
			var err error
			if s.o.TLS != nil {
				err = srv.ServeTLS(b, "", "")
			} else {
				err = srv.Serve(b)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", b.name, err)
		})
	}
	group.Go(func() error { // ends with ctx, or with the first listener that fails
		<-stop.Done()
		s.stopAll(servers, cancel)
		return nil
	})
	return group.Wait()
}

func (s *Server) stopAll(servers [listeners]*http.Server, cancel context.CancelFunc) {
	s.draining.Store(true)
	ctx, done := context.WithTimeout(context.Background(), s.o.Grace)
	defer done()
	var group errgroup.Group
	for _, l := range []Listener{Main, Management} {
		if servers[l] != nil {
			group.Go(func() error { return servers[l].Shutdown(ctx) }) // waited for below
		}
	}
	if err := group.Wait(); err != nil {
		s.o.Logger.Warn().Err(err).Dur("grace", s.o.Grace).Msg("requests that did not end in time are cut off")
	}
	cancel()
	for _, srv := range servers {
		if srv != nil {
			_ = srv.Close() // its listener is closed already, or never was open
		}
	}
	for _, b := range s.bound {
		if b != nil {
			b.wait()
		}
	}
}

// server is the http.Server of one listener.
func (s *Server) server(requests context.Context, l Listener, b *boundListener) *http.Server {
	router := chi.NewRouter()
	router.NotFound(s.gate.metrics.Handler("catchall")(http.HandlerFunc(http.NotFound)).ServeHTTP)
	s.mount(l, router)
	srv := &http.Server{
		Handler:           s.gate.Stack(l, router),
		ReadHeaderTimeout: s.o.ReadHeaderTimeout,
		ReadTimeout:       max(middleware.BodyGrace, s.o.ReadHeaderTimeout),
		WriteTimeout:      middleware.WriteStall,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    max(s.o.MaxHeader-headerSlack, 1), // 0 would be a megabyte
		ConnState: func(conn net.Conn, state http.ConnState) {
			b.state(conn, state)
			if state == http.StateClosed {
				s.failedHandshake(l, conn)
			}
		},
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    log.New(debugLog{s.o.Logger}, "", 0),
	}
	if s.o.TLS != nil {
		srv.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, &connection{})
		}
		srv.TLSConfig = &tls.Config{
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"h2", "http/1.1"},
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.o.TLS(), nil },
		}
	}
	return srv
}

// debugLog takes what net/http logs: failed handshakes and broken connections,
// which any client can cause.
type debugLog struct{ logger zerolog.Logger }

func (d debugLog) Write(b []byte) (int, error) {
	d.logger.Debug().Str("from", "net/http").Msg(string(b))
	return len(b), nil
}
