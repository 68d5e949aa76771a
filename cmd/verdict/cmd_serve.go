package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/api"
)

func newServeCmd(p *process) *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve decisions, and record every one of them",
		Long: `Serve decisions over HTTP and gRPC. Every decision is in the audit log before it
is answered. SIGHUP reloads the configuration: tokens, limits, open endpoints and
certificates change without a restart. SIGINT and SIGTERM finish what is in
progress and stop; a second signal ends the process at once.`,
		Example: `  verdict serve --dev
  verdict serve --config /etc/verdict/verdict.yaml
  verdict serve --bundle ./policy --set server.open=decide`,
		Annotations: map[string]string{exitCodesKey: `0  stopped by a signal; everything is recorded
1  a part failed: a listener, or the audit log
2  the configuration is wrong, or a policy, the audit log or an address could not be opened`},
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), p, &flags) },
	}
	addConfigFlags(cmd, &flags)
	return cmd
}

func serve(ctx context.Context, p *process, flags *configFlags) error {
	c, warnings, err := loadConfig(flags, p.environ)
	if err != nil {
		return withExit(exitUsage, err)
	}
	logger := newLogger(p.stderr, c.Log)
	for _, w := range warnings {
		logger.Warn().Str("key", w.Key).Str("from", w.From).Msg(w.Text)
	}
	hangups := make(chan os.Signal, 1) // before anything is opened: an early one must not kill
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)

	// A file that reaches a size limit is a failed write, which the log handles.
	signal.Ignore(syscall.SIGXFSZ)

	a, err := newApp(c, p, logger, tuneRuntime(p.environ))
	if err != nil {
		return withExit(exitUsage, err)
	}
	if err := a.Listen(ctx); err != nil {
		return withExit(exitUsage, errors.Join(err, a.Close()))
	}
	a.greet(p.stdout)
	err = a.Run(ctx, hangups, func() (*Config, error) {
		next, _, err := loadConfig(flags, p.environ)
		return next, err
	})
	if closeErr := a.Close(); err == nil {
		err = closeErr
	}
	return err
}

func newLogger(w io.Writer, c LogConfig) zerolog.Logger {
	if c.Format == "console" {
		w = zerolog.ConsoleWriter{Out: w}
	}
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel // validation has refused every other text
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// greet says where the server listens and, in development, what to try.
func (a *app) greet(w io.Writer) {
	addr := a.server.Addr(api.Main)
	if addr == nil {
		return
	}
	scheme := "http"
	if a.config.Server.TLS.on() {
		scheme = "https"
	}
	base := scheme + "://" + addr.String()
	line := a.logger.Info().Str("addr", addr.String()).Str("data_dir", a.config.DataDir)
	if ln := a.checks.listener; ln != nil {
		line.Stringer("grpc_addr", ln.Addr())
	}
	line.Msg("serving")
	if !a.config.Dev {
		return
	}
	fmt.Fprintf(w, `verdict %s serves on %s
  admin token   %s
  audit log     %s

`, a.version.Version, base, filepath.Join(a.config.DataDir, "admin.token"), filepath.Join(a.config.DataDir, "audit"))
	if a.config.StandardPolicies && len(a.config.BundlePaths) == 0 {
		greetExample(w, base)
	}
}
