// Package extauthz serves envoy.service.auth.v3.Authorization, Envoy's external
// authorization over gRPC, as opa-envoy-plugin does: the same input and the same
// result shapes (api/httpcheck). Beside it the server has grpc.health.v1 and
// reflection.
//
// A check enters in check.go; nothing is decided or recorded here.
package extauthz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Edge is the name of this protocol in records and metrics.
const Edge = "extauthz"

// Defaults of Options, and what a connection may cost.
const (
	DefaultPath              = "envoy/authz/allow"
	DefaultMaxReceiveMessage = 4 << 20
	DefaultGrace             = 10 * time.Second

	maxMetadata      = 32 << 10         // bytes of a call's header
	handshakeTimeout = 5 * time.Second  // TLS and HTTP/2 together
	leastPing        = 10 * time.Second // between a client's keep-alives
	standingEvery    = time.Second      // how often the peer of a stream is looked at again

	// workers are goroutines that are kept for checks: an evaluation goes deep, and
	// growing the stack of a new goroutine for each took a quarter of the time of
	// a check. More checks at once get goroutines of their own.
	workers = 128
	// window is how many bytes of a call, and of a connection, may be under way.
	// A fixed one spares the ping with which grpc-go measures a connection after
	// each message.
	window = 1 << 20
)

// PathExtension is the context extension by which a route of Envoy names the
// decision that its checks ask for.
const PathExtension = "verdict_path"

// Gate admits peers and bounds what is in flight; api.Gate is one. It is called
// from many goroutines.
type Gate interface {
	AdmitPeer(ctx context.Context, p *api.PeerConn, method string) (api.Caller, *api.Error)
	Enter() *api.Error
	Leave()
}

// Options configure a Server. The zero value serves opa-envoy-plugin's defaults.
type Options struct {
	// Path is the decision that a check asks for; empty: DefaultPath.
	Path string
	// PathOverrides are the decisions that a check may name instead, in
	// PathExtension. One that names another is denied.
	PathOverrides []string
	// DryRun decides and records, and lets through whatever was decided.
	DryRun bool
	// MaxReceiveMessage bounds a message in bytes; 0: DefaultMaxReceiveMessage.
	MaxReceiveMessage int
	// Tokens verifies the bearer tokens of requests asked about; nil: they make no
	// facts.
	Tokens httpcheck.Tokens
	// Limits bound depth and members of an input.
	Limits eval.Limits
	// Grace is how long checks may take once the server is stopping; 0:
	// DefaultGrace.
	Grace time.Duration
	// Healthy returns what is wrong with the server; nil means nothing ever is.
	Healthy func() error
	// HandshakeFailed is told of TLS handshakes that failed; nil: nobody is.
	HandshakeFailed func(remote net.Addr, err error)
	Logger          zerolog.Logger
}

// Server answers checks over one decision point.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	pdp       *pdp.PDP
	gate      Gate
	o         Options
	inputs    atomic.Pointer[httpcheck.Inputs]
	overrides map[string]bool
	copies    []pdp.Copy
	unread    []pdp.Copy // of checks with a body that nobody has read
	metrics   *metrics
	stopping  chan struct{} // closed when Run begins to stop
}

// New returns a server.
func New(p *pdp.PDP, gate Gate, o Options) (*Server, error) {
	if o.MaxReceiveMessage < 0 || o.Grace < 0 {
		return nil, errors.New("extauthz: limits must not be negative")
	}
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if o.MaxReceiveMessage == 0 {
		o.MaxReceiveMessage = DefaultMaxReceiveMessage
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	s := &Server{pdp: p, gate: gate, o: o, overrides: map[string]bool{}, copies: httpcheck.Copies(), unread: httpcheck.UnreadCopies(), metrics: newMetrics(), stopping: make(chan struct{})}
	for _, path := range o.PathOverrides {
		s.overrides[path] = true
	}
	s.SetLimits(o.Limits)
	return s, nil
}

// SetLimits replaces Options.Limits, for checks that come after it.
func (s *Server) SetLimits(l eval.Limits) { s.inputs.Store(httpcheck.NewInputs(l)) }

// Collectors are the metrics of checks.
func (s *Server) Collectors() []prometheus.Collector { return s.metrics.collectors() }

// Run serves on ln, with TLS when config is not nil, until ctx ends or ln
// fails. Then it accepts nothing more, ends streams, and finishes what it has
// begun; after Options.Grace what is left is cut off. It returns nil when ctx stopped it.
func (s *Server) Run(ctx context.Context, ln net.Listener, config *tls.Config) error {
	srv := s.server(config)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }() // ended by the two Stop calls below
	select {
	case err := <-ended:
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	close(s.stopping)
	cut := time.AfterFunc(s.o.Grace, func() {
		s.o.Logger.Warn().Dur("grace", s.o.Grace).Msg("checks that did not end in time are cut off")
		srv.Stop()
	})
	defer cut.Stop()
	srv.GracefulStop()
	<-ended
	return nil
}

func (s *Server) server(config *tls.Config) *grpc.Server {
	srv := grpc.NewServer(
		grpc.Creds(newCredentials(config, s.o.HandshakeFailed)),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(s.o.MaxReceiveMessage),
		grpc.MaxHeaderListSize(maxMetadata),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.NumStreamWorkers(workers), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: leastPing, PermitWithoutStream: true}),
	)
	authv3.RegisterAuthorizationServer(srv, s)
	healthpb.RegisterHealthServer(srv, &health{healthy: s.o.Healthy})
	reflection.Register(srv)
	return srv
}

// admit asks the gate who calls.
func (s *Server) admit(ctx context.Context, method string) (api.Caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return api.Caller{}, status.Error(codes.Internal, "internal error")
	}
	info, ok := p.AuthInfo.(*connInfo)
	if !ok {
		return api.Caller{}, status.Error(codes.Internal, "internal error")
	}
	caller, refused := s.gate.AdmitPeer(ctx, info.peer, method)
	if refused != nil {
		s.metrics.count(outcomeRefused)
		return caller, status.Error(codeOf(refused), refused.Message)
	}
	return caller, nil
}

type callerKey struct{}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (res any, err error) {
	defer s.recovered(info.FullMethod, &err)
	caller, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(context.WithValue(ctx, callerKey{}, caller), req)
}

// stream serves a stream until it ends, the peer may not ask any more, or the
// server stops: a stream has no end of its own to wait for.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if _, err := s.admit(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { // ends with the stream's context at the latest, which ends when stream returns
		var err error
		defer func() { ended <- err }()
		defer s.recovered(info.FullMethod, &err)
		err = next(srv, ss)
	}()
	again := time.NewTicker(standingEvery)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-s.stopping:
			return status.Error(codes.Unavailable, "the server stops")
		case <-again.C:
			if _, err := s.admit(ss.Context(), info.FullMethod); err != nil {
				return err
			}
		}
	}
}

// recovered turns a panic into an error, logged once.
func (s *Server) recovered(method string, err *error) {
	if r := recover(); r != nil {
		s.o.Logger.Error().Str("method", method).Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("handler panicked")
		*err = status.Error(codes.Internal, "internal error")
	}
}

// codeOf is the status code for an error of the gate.
func codeOf(e *api.Error) codes.Code {
	switch e.Code {
	case api.CodeUnauthorized, api.CodeCertificate:
		return codes.Unauthenticated
	case api.CodeForbidden:
		return codes.PermissionDenied
	case api.CodeOverloaded:
		return codes.Unavailable
	}
	return codes.Internal
}
