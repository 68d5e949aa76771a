package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/extauthz"
	"github.com/verdict-pdp/verdict/api/forwardauth"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// checks is what gateways ask: Envoy over gRPC, others over HTTP.
type checks struct {
	envoy    *extauthz.Server
	forward  *forwardauth.Server
	listener net.Listener // of gRPC, by listenChecks; nil: it is not served
	taken    bool         // because somebody else has the default address
}

// openChecks makes the servers of checks.
func (a *app) openChecks() (err error) {
	c := a.config
	limits := checkLimits(c)
	a.checks.envoy, err = extauthz.New(a.pdp, a.gate, extauthz.Options{
		Path: c.ExtAuthz.Path, PathOverrides: c.ExtAuthz.PathOverrides, DryRun: c.ExtAuthz.DryRun,
		MaxReceiveMessage: int(c.ExtAuthz.MaxReceiveMessageSize), Limits: limits, Tokens: a.issuers,
		Grace: c.Server.DrainTimeout, Healthy: a.healthy, Logger: a.logger,
		HandshakeFailed: func(remote net.Addr, err error) { a.server.HandshakeFailed(api.GRPC, remote, err) },
	})
	if err != nil {
		return err
	}
	proxies, err := parsePrefixes(c.ForwardAuth.TrustedProxies)
	if err != nil {
		return fmt.Errorf("forwardauth.trusted_proxies: %w", err)
	}
	path := c.ForwardAuth.Path
	if path == "" {
		path = c.ExtAuthz.Path
	}
	a.checks.forward = forwardauth.New(a.pdp, forwardauth.Options{Path: path, TrustedProxies: proxies, Limits: limits, Tokens: a.issuers, Logger: a.logger})
	return nil
}

// listenChecks binds server.grpc_addr. The default address may be taken by
// another verdict or an OPA on this machine: nobody asked for it, so the server
// serves without gRPC and says so.
func (a *app) listenChecks(ctx context.Context) (err error) {
	addr := a.config.Server.GRPCAddr
	if addr == "" {
		return nil
	}
	a.checks.listener, err = a.server.Bind(ctx, api.GRPC, addr)
	if errors.Is(err, syscall.EADDRINUSE) && !a.config.IsSet("server.grpc_addr") {
		a.checks.taken = true
		a.logger.Error().Err(err).Msg("gRPC is not served: give server.grpc_addr an address of its own, or leave it empty")
		return nil
	}
	return err
}

// runChecks serves gRPC until ctx ends.
func (a *app) runChecks(ctx context.Context) error {
	if a.checks.listener == nil {
		return nil
	}
	return a.checks.envoy.Run(ctx, a.checks.listener, a.server.TLSConfig())
}

// status is the facility's state.
func (c *checks) status() string {
	switch {
	case c.listener != nil:
		return "on"
	case c.taken:
		return "degraded"
	}
	return "off"
}

func (c *checks) setLimits(next *Config) {
	c.envoy.SetLimits(checkLimits(next))
	c.forward.SetLimits(checkLimits(next))
}

func checkLimits(c *Config) eval.Limits {
	return eval.Limits{Depth: c.Limits.Depth, Members: c.Limits.Members}
}
