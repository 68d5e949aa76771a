package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pull"
	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/background"
	"github.com/verdict-pdp/verdict/internal/secret"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
	"github.com/verdict-pdp/verdict/policies"
	"github.com/verdict-pdp/verdict/storage/segment"
	"github.com/verdict-pdp/verdict/storage/state"
)

// recordTimeout bounds what records of start and reload may take.
const recordTimeout = 5 * time.Second

// app is a verdict server: every part, wired. The order of its life is newApp,
// Listen, Run, Close.
type app struct {
	logger   zerolog.Logger
	now      func() time.Time
	version  versionInfo
	started  time.Time
	dev      bool
	config   *Config // in force; owned by newApp, then by the goroutine that reloads
	runtime  runtimeSettings
	stopping chan struct{} // closed when Run begins to stop
	ran      bool          // Run was called

	instance string // names the process to those who ask OPA's API

	store    *segment.Store
	log      *audit.Log
	engine   *eval.Engine
	bundles  []*eval.Bundle // that answered first
	state    *state.Store
	secrets  *secret.Store
	keys     keyRing
	crypto   *service.Service
	jobs     *service.Jobs
	signing  signing
	certs    certificates
	trust    *bundles.Trust
	work     *background.Runner // of all parts
	pushed   *bundles.Service
	sources  *pull.Puller
	replayer *replay.Replayer
	pdp      *pdp.PDP
	tokens   *tokens.Store
	issuers  *issuer.Verifier
	refusals *api.RefusalLog
	gate     *api.Gate
	opa      *opa.Server
	authzen  *authzen.Server
	native   *native.Server
	server   *api.Server
	checks   checks
	registry *prometheus.Registry
}

// newApp makes the parts and opens the log. Nothing listens yet.
func newApp(c *Config, p *process, logger zerolog.Logger, rs runtimeSettings) (*app, error) {
	a := &app{
		logger: logger, now: p.now, version: readVersion(), started: p.now(), dev: c.Dev, config: c,
		runtime: rs, registry: prometheus.NewRegistry(), stopping: make(chan struct{}),
	}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// open makes the parts, those first that others need.
func (a *app) open() error {
	if err := os.MkdirAll(a.config.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	if err := a.loadPolicies(); err != nil {
		return err
	}
	if err := a.openLog(); err != nil {
		return err
	}
	if err := a.openSecrets(); err != nil {
		return err
	}
	if err := a.openBundles(); err != nil {
		return err
	}
	if err := a.openSources(); err != nil {
		return err
	}
	if err := a.openKeys(); err != nil {
		return err
	}
	if err := a.openCertificates(); err != nil {
		return err
	}
	if err := a.openSigning(); err != nil {
		return err
	}
	a.pdp = pdp.New(a.engine, a.log, pdp.Options{Now: a.now, MaskKeys: mask.NewKeys(a.config.Audit.MaskKeys), Background: a.work.Do})
	if err := a.openEncryption(); err != nil {
		return err
	}
	if err := a.openTokens(); err != nil {
		return err
	}
	if err := a.openIssuers(); err != nil {
		return err
	}
	if err := a.openServer(); err != nil {
		return err
	}
	a.register()
	return nil
}

func (a *app) loadPolicies() (err error) {
	c := a.config
	a.engine, err = eval.New(eval.Options{Timeout: c.Limits.Evaluation, Version: a.version.Version, Commit: a.version.Commit})
	if err != nil {
		return fmt.Errorf("make engine: %w", err)
	}
	files := policyFiles{
		standard: c.StandardPolicies,
		example:  c.Dev && len(c.BundlePaths) == 0,
		paths:    c.BundlePaths,
		limits:   bundles.Limits{Unpacked: int64(c.Limits.BundleUnpacked), Files: c.Limits.BundleFiles},
	}
	if a.bundles, err = files.load(a.engine); err != nil {
		return err
	}
	a.engine.Active().Warm([]string{pdp.StandardPath, policies.CallerPath, policies.KeysPath, c.OPA.DefaultDecision, c.AuthZEN.Path, c.ExtAuthz.Path, c.ForwardAuth.Path})
	a.warnOfPolicies()
	return nil
}

// warnOfPolicies logs what the standard policies find wrong with the data that
// configures them: a policy that nobody can meet, a role that inherits itself.
func (a *app) warnOfPolicies() {
	res, err := a.engine.Active().Eval(context.Background(), &eval.Query{Path: policies.ProblemsPath, Now: a.now()})
	if err != nil {
		a.logger.Warn().Err(err).Msg("the policies' own check of data.verdict failed")
		return
	}
	problems, ok := res.Value.(*ast.Array)
	if !ok {
		return // no standard policies are loaded
	}
	problems.Foreach(func(problem *ast.Term) {
		a.logger.Warn().Stringer("problem", problem).Msg("a policy or its data is faulty")
	})
}

func (a *app) openLog() (err error) {
	c := a.config.Audit
	dir := filepath.Join(a.config.DataDir, "audit")
	if a.store, err = segment.Open(dir, segment.Options{Command: "verdict serve"}); err != nil {
		return err
	}
	digest, err := a.config.digest()
	if err != nil {
		return err
	}
	a.log, err = audit.Open(a.store, audit.Options{
		Durability: audit.Durability(c.Durability), QueueRecords: c.Queue.Records, QueueBytes: int64(c.Queue.Bytes),
		QueueWait: c.QueueWait, PoisonLinger: c.PoisonLinger,
		MinFreeBytes: uint64(c.MinFreeBytes), Free: segment.FreeBytes(dir),
		Version: a.version.Version, ConfigDigest: digest,
		Now: a.now, Logger: a.logger,
	})
	return err
}

func (a *app) openTokens() (err error) {
	a.tokens, err = tokens.Open(a.config.DataDir, tokens.Options{Now: a.now, Changed: a.recordTokens, Logger: a.logger})
	return err
}

// register puts the metrics of every part into one registry.
func (a *app) register() {
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, part := range [][]prometheus.Collector{
		a.log.Collectors(), a.pdp.Collectors(), a.refusals.Collectors(), a.gate.Collectors(), a.server.Collectors(), a.checks.envoy.Collectors(), a.state.Collectors(), a.pushed.Collectors(), a.sources.Collectors(), a.replayer.Collectors(), a.issuers.Collectors(), a.keys.collectors(), a.crypto.Collectors(), a.certs.collectors(),
	} {
		a.registry.MustRegister(part...)
	}
}

// Listen binds the addresses and, in development, writes the admin token: when
// it returns nil, whoever gets an answer from /health finds the token there.
func (a *app) Listen(ctx context.Context) error {
	if a.config.Dev {
		if _, err := a.tokens.EnsureAdmin(ctx); err != nil {
			return fmt.Errorf("write admin token: %w", err)
		}
	}
	if err := a.server.Listen(ctx); err != nil {
		return err
	}
	return a.listenChecks(ctx)
}

// Run serves until ctx ends or a part fails, and returns nil in the first case.
// It stops in this order: the listeners finish what they have begun, refusals
// and token changes are told of, then the log writes what is queued and its
// last record. reload is called for each value of hangups.
func (a *app) Run(ctx context.Context, hangups <-chan os.Signal, reload func() (*Config, error)) error {
	a.ran = true
	if err := background.Prompt(); err != nil {
		a.logger.Debug().Err(err).Msg("the kernel was not asked for short slices of time")
	}
	logCtx, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLog()
	logEnded := make(chan error, 1)
	go func() { logEnded <- a.log.Run(logCtx) }() // ended by stopLog, below
	tellCtx, stopTelling := context.WithCancel(logCtx)
	defer stopTelling()
	var tellers errgroup.Group
	tellers.Go(func() error { return a.tokens.Run(tellCtx) })
	tellers.Go(func() error { return a.refusals.Run(tellCtx) })

	group, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, func() { close(a.stopping) })
	group.Go(func() error { return a.watchLog(ctx, logEnded) })
	group.Go(func() error { return a.recordBundles(ctx) })
	group.Go(func() error { return a.server.Run(ctx) })
	group.Go(func() error { return a.runChecks(ctx) })
	group.Go(func() error { return a.runState(ctx) })
	group.Go(func() error { return a.sources.Run(ctx) })
	group.Go(func() error { return a.issuers.Run(ctx) })
	group.Go(func() error { return a.pushed.Run(ctx) })
	group.Go(func() error { return a.keys.run(ctx, a) })
	group.Go(func() error { return a.reconcileJobs(ctx) })
	group.Go(func() error { return a.boundHeap(ctx) })
	group.Go(func() error { return a.certs.run(ctx) })
	group.Go(func() error {
		refresh := time.NewTicker(a.config.Secrets.Refresh)
		defer refresh.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-refresh.C:
				a.refreshSecrets(ctx)
			case <-hangups:
				a.reload(ctx, reload)
			}
		}
	})
	err := group.Wait()
	stopTelling()
	err = errors.Join(err, tellers.Wait())
	stopLog()
	return errors.Join(err, <-logEnded)
}

// watchLog ends the server when the log ends by itself, which it does some time
// after a failed write.
func (a *app) watchLog(ctx context.Context, ended chan error) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		ended <- nil // for Run, which waits for the log at its end
		if err == nil {
			err = errors.New("the audit log ended")
		}
		return err
	}
}

// Close releases what newApp opened. Run has returned, or was never called: then
// the log still gets its last record, so that the start is not taken for a
// crash.
func (a *app) Close() error {
	var state, log error
	if a.state != nil {
		state = a.state.Close()
	}
	switch {
	case a.log != nil && !a.ran:
		ended, end := context.WithCancel(context.Background())
		end()
		log = errors.Join(a.log.Run(ended), a.log.Close())
	case a.log != nil:
		log = a.log.Close()
	case a.store != nil:
		log = a.store.Close()
	}
	return errors.Join(a.keys.close(), state, log)
}

// record appends a record that concerns the server itself.
func (a *app) record(ctx context.Context, r *audit.Record, details any) error {
	if details != nil {
		encoded, err := json.Marshal(details)
		if err != nil {
			return fmt.Errorf("encode %s: %w", r.Event, err)
		}
		r.Details = encoded
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	_, err := a.log.Append(ctx, r)
	return err
}

// recordBundles records what was loaded at start, so that the log tells by
// which policies it was decided. While the log cannot be written no decision is
// given; what is missing is recorded when it can be again.
func (a *app) recordBundles(ctx context.Context) error {
	for {
		err := a.tryRecordBundles(ctx)
		if err == nil {
			return nil
		}
		a.logger.Error().Err(err).Msg("the loaded policies could not be recorded yet")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(recordTimeout):
		}
	}
}

func (a *app) tryRecordBundles(ctx context.Context) error {
	for _, b := range a.bundles {
		err := a.record(ctx, &audit.Record{
			Type: audit.TypeBundle, Event: audit.EventBundleActivated, Severity: audit.SeverityMedium,
			Outcome: audit.OutcomeSuccess, Resource: "bundle:" + b.Name, RequestedBy: "serve",
		}, map[string]any{"name": b.Name, "revision": b.Revision, "roots": b.Roots, "modules": len(b.Modules)})
		if err != nil {
			return err
		}
	}
	return nil
}

// recordTokens records a change of the token file, whoever made it.
func (a *app) recordTokens(ctx context.Context, added, revoked []string) error {
	for event, names := range map[string][]string{audit.EventTokenCreated: added, audit.EventTokenRevoked: revoked} {
		for _, name := range names {
			err := a.record(ctx, &audit.Record{
				Type: audit.TypeAdministrative, Event: event, Severity: audit.SeverityHigh,
				Outcome: audit.OutcomeSuccess, Resource: "token:" + name, RequestedBy: "token file",
			}, nil)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
