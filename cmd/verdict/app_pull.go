package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/verdict-pdp/verdict/bundles/pull"
	"github.com/verdict-pdp/verdict/internal/secret"
)

// openSources makes the puller; nothing is asked before Run.
func (a *app) openSources() (err error) {
	a.sources, err = pull.New(a.pushed, a.log, pull.Options{
		MaxPacked: int64(a.config.Limits.BundlePacked), UserAgent: "verdict/" + a.version.Version,
		Confirm: a.pushed.Confirm, Now: a.now, Logger: a.logger,
	})
	if err != nil {
		return err
	}
	commit, err := a.prepareSources(a.config, a.secrets.Get)
	if err != nil {
		return err
	}
	commit()
	return nil
}

// prepareSources gives what puts the sources of c in place of those in use.
func (a *app) prepareSources(c *Config, find func(key string) *secret.Secret) (commit func(), err error) {
	list := make([]pull.Source, 0, len(c.Bundles.Sources))
	for i, s := range c.Bundles.Sources {
		source := pull.Source{
			Name: s.Name, URL: s.URL,
			MinDelay: s.Polling.MinDelay, MaxDelay: s.Polling.MaxDelay, LongPolling: s.Polling.LongPollingTimeout,
			TokenFile: s.TokenFile, CAFile: s.TLS.CAFile, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
		}
		if s.Token != "" {
			source.Credential = find(at("bundles.sources", i, "token"))
		}
		list = append(list, source)
	}
	if commit, err = a.sources.Prepare(list); err != nil {
		return nil, fmt.Errorf("read bundles.sources%w", err)
	}
	return commit, nil
}

// bundlesHealthy tells what is wrong with the bundles: one is too old, or never
// came from its source.
func (a *app) bundlesHealthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	return errors.Join(a.pushed.Healthy(), a.sources.Healthy(ctx))
}
