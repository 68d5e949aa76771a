package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/api/openapi"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/verify"
)

// openServer makes the listeners with their routes and access rules.
func (a *app) openServer() (err error) {
	c := a.config
	a.refusals = api.NewRefusalLog(refusals{a}, api.RefusalOptions{Now: a.now, Logger: a.logger})
	access, err := accessSettings(c)
	if err != nil {
		return err
	}
	a.gate, err = api.NewGate(a.tokens, api.GateOptions{
		Dev: c.Dev, Separate: c.Server.AdminAddr != "", Settings: access,
		Outside:      a.issuers,
		Certificates: a.certs.gate(),
		Policy:       &callerPolicy{engine: a.engine, now: a.now},
		Refusals:     a.refusals, Now: a.now, Logger: a.logger,
	})
	if err != nil {
		return err
	}
	if a.instance, err = a.pdp.NewID(); err != nil {
		return fmt.Errorf("name this process: %w", err)
	}
	a.opa = opa.New(a.pdp, a.log, opa.Options{
		Limits: opaLimits(c), PolicyWrites: c.API.PolicyWrites, DefaultDecision: c.OPA.DefaultDecision,
		// A bare OPA, which this then stands in for, logs no decisions.
		OmitDecisionID: !c.StandardPolicies && len(c.BundlePaths) == 0,
		Build:          opa.Build{Version: a.version.Version, Commit: a.version.Commit},
		Authentication: opa.Authentication(c.OPA.Authentication), Authorization: opa.Authorization(c.OPA.Authorization),
		Instance: a.instance, Status: a.opaStatus(),
		Healthy: a.healthy, BundlesHealthy: a.bundlesHealthy,
		Metrics: promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}),
		Logger:  a.logger,
	})
	if err := a.openChecks(); err != nil {
		return err
	}
	a.openAuthZEN()
	description, err := openapi.Document()
	if err != nil {
		return err
	}
	a.native = native.New(native.Options{
		Log: a.log, Status: a.status, Verify: a.verify, Stopping: a.stopping, Bundles: a.pushed, Replayer: a.replayer,
		Previews: a.pdp, Limits: previewLimits(c), Encryption: a.crypto, Jobs: a.jobs, OpenAPI: description,
		Certificates: a.certs.registry, Keys: a.keysAPI(), KeySet: &a.signing, Now: a.now, Logger: a.logger,
	})
	a.server, err = api.NewServer(a.gate, a.mount(a.gate.Require), api.ServerOptions{
		Addr: c.Server.Addr, AdminAddr: c.Server.AdminAddr, DiagnosticAddr: c.Server.DiagnosticAddr,
		Dev: c.Dev, AllowPlaintext: c.Server.AllowPlaintext, TLS: a.certs.config(), Settings: serverSettings(c),
		MaxHeader: int(c.Server.MaxHeader), ReadHeaderTimeout: c.Server.ReadHeaderTimeout,
		Grace: max(c.Server.DrainTimeout, 1), Refusals: a.refusals, Logger: a.logger,
	})
	return err
}

// mount gives a listener its routes: verdict's own below /api, bundles for those
// that pull, those of gateways, AuthZEN's, and OPA's everywhere else.
func (a *app) mount(require func(api.Route) func(http.Handler) http.Handler) func(api.Listener, chi.Router) {
	pulled := a.bundleServer()
	return func(l api.Listener, r chi.Router) {
		if l == api.Diagnostic {
			a.opa.MountDiagnostic(r, require)
			return
		}
		a.native.Mount(r, require)
		pulled.Mount(r, require)
		a.checks.forward.Mount(r, require)
		a.authzen.Mount(r, require)
		a.opa.Mount(r, require)
	}
}

// healthy tells why the server cannot decide, or nil.
func (a *app) healthy() error {
	if a.server != nil && a.server.Draining() {
		return errors.New("the server is stopping")
	}
	err := a.log.Healthy()
	if errors.Is(err, audit.ErrPoisoned) {
		return errors.New("the audit log cannot be written: a write failed") // the cause is in the status
	}
	if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
		return fmt.Errorf("the audit log cannot be written: %s", unavailable.Reason)
	}
	return err
}

// verify verifies the log beside its writer.
func (a *app) verify(ctx context.Context, progress func(any)) (any, error) {
	report, err := verify.Run(ctx, a.store.Source(), verify.Options{
		Live: true, Now: a.now,
		Progress: func(read, total uint64) { progress(map[string]uint64{"read": read, "total": total}) },
	})
	if err != nil {
		return nil, err
	}
	return &report, nil
}

// refusals writes what the gate refused into the audit log.
type refusals struct{ a *app }

// Record implements api.Refusals.
func (s refusals) Record(ctx context.Context, r api.Refusal) error {
	severity := audit.SeverityMedium
	if r.Status == http.StatusServiceUnavailable {
		severity = audit.SeverityHigh
	}
	record := &audit.Record{
		Type: audit.TypeSecurity, Event: audit.EventAccessRefused, Severity: severity, Outcome: audit.OutcomeFailure,
		Path: r.Path, Action: r.Method, ClientIP: r.Client.IP(), UserAgent: r.UserAgent, RequestedBy: r.Caller.Name,
		CorrelationID: r.ID, TraceID: r.TraceID, Message: r.Message,
	}
	return s.a.record(ctx, record, map[string]any{
		"status": r.Status, "code": r.Code, "class": r.Class.String(), "listener": r.Listener.String(),
		"caller_kind": r.Caller.Kind.String(), "suppressed": r.Suppressed,
	})
}

// accessSettings is what of the configuration decides who may call what.
func accessSettings(c *Config) (api.AccessSettings, error) {
	s := api.AccessSettings{
		Open: c.Server.Open, MaxInFlight: c.Server.MaxInFlight,
		RequestBody: int64(c.Limits.RequestBody), DataBody: int64(c.Limits.DataBody), CryptoBody: int64(c.Limits.CryptoBody),
		BundleBody: 2*int64(c.Limits.BundlePacked) + 1<<20, // above it they are refused unread
	}
	for _, cert := range c.Authn.Certificates {
		s.Certificates = append(s.Certificates, api.CertificateRule{
			SAN: cert.SAN, Subject: cert.Subject, Name: cert.Name, Scopes: cert.Scopes,
		})
	}
	s.Issuers = issuerScopes(c)
	var err error
	if s.TrustedProxies, err = parsePrefixes(c.Server.TrustedProxies); err != nil {
		return s, fmt.Errorf("server.trusted_proxies: %w", err)
	}
	if s.TrustedPeers, err = parsePrefixes(c.ForwardAuth.TrustedProxies); err != nil {
		return s, fmt.Errorf("forwardauth.trusted_proxies: %w", err)
	}
	if s.CheckPeers, err = parsePrefixes(c.ExtAuthz.TrustedPeers); err != nil {
		return s, fmt.Errorf("extauthz.trusted_peers: %w", err)
	}
	return s, nil
}

// parsePrefixes reads a list of networks. It is never nil: none means nobody.
func parsePrefixes(list []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(list))
	for _, text := range list {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}

// parsePrefix reads a network, or an address as the network of itself.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network", text)
	}
	return prefix.Masked(), nil
}

func serverSettings(c *Config) api.ServerSettings {
	return api.ServerSettings{MaxConnections: c.Server.MaxConnections}
}

func opaLimits(c *Config) opa.Limits {
	return opa.Limits{
		RequestBody: int64(c.Limits.RequestBody), DataBody: int64(c.Limits.DataBody),
		Depth: c.Limits.Depth, Members: c.Limits.Members, Answer: int(c.Limits.Answer),
	}
}

func previewLimits(c *Config) native.Limits {
	return native.Limits{Depth: c.Limits.Depth, Members: c.Limits.Members, Answer: int(c.Limits.Answer), Crypto: int(c.Limits.CryptoBody)}
}
