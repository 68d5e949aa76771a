package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/secret"
	"github.com/verdict-pdp/verdict/internal/vault"
)

// secretsTimeout bounds reading all secrets once.
const secretsTimeout = 10 * time.Second

// vaultSecrets reads secrets from Vault.
type vaultSecrets struct{ client *vault.Client }

// Read implements secret.KV.
func (v vaultSecrets) Read(ctx context.Context, mount, path string) (map[string]any, error) {
	fields, err := v.client.ReadKV(ctx, mount, path)
	e, ok := errors.AsType[*vault.Error](err)
	switch {
	case err == nil:
		return fields, nil
	case ok && e.Kind == vault.NotFound:
		return nil, fmt.Errorf("vault has no secret %s/%s", mount, path)
	case ok && !e.Unavailable():
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", secret.ErrUnavailable, err)
}

// openSecrets reads what the configuration refers to. A Vault that does not
// answer stops the start only where nothing works without the secret.
func (a *app) openSecrets() error {
	var kv secret.KV
	if a.config.readsVault() || a.config.vaultPKI() || a.config.Keys.Provider == "vault" {
		if err := a.openVaultClient(); err != nil {
			return err
		}
		kv = vaultSecrets{a.keys.vault}
	}
	a.secrets = secret.NewStore(secret.Options{KV: kv})
	set, err := a.prepareSecrets(context.Background(), a.config)
	if err != nil {
		return err
	}
	set.Commit()
	for _, s := range a.secrets.Status() {
		if s.Missing {
			a.logger.Warn().Str("key", s.Key).Str("problem", s.Problem).Msg("a secret cannot be read yet")
		}
	}
	return nil
}

// offlineSecrets reads the secrets of c for a command that is no server.
func offlineSecrets(p *process, c *Config) (value func(key string) []byte, err error) {
	o := secret.Options{}
	if c.readsVault() {
		client, err := newVaultClient(c.Keys.Vault, vault.Options{Now: p.now})
		if err != nil {
			return nil, err
		}
		o.KV = vaultSecrets{client}
	}
	requests := c.secretRequests()
	for i := range requests {
		requests[i].Needed = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), secretsTimeout)
	defer cancel()
	set, err := secret.NewStore(o).Prepare(ctx, requests)
	if err != nil {
		return nil, withExit(exitUsage, secretProblems(c, err))
	}
	return set.Value, nil
}

// prepareSecrets reads the secrets of c.
func (a *app) prepareSecrets(ctx context.Context, c *Config) (*secret.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, secretsTimeout)
	defer cancel()
	set, err := a.secrets.Prepare(ctx, c.secretRequests())
	return set, secretProblems(c, err)
}

// secretProblems puts what is wrong with secrets into the words of the
// configuration.
func secretProblems(c *Config, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var problems Problems
	for _, one := range joined.Unwrap() {
		e, ok := errors.AsType[*secret.Error](one)
		if !ok {
			return err
		}
		problems = append(problems, Problem{Key: e.Key, Text: e.Err.Error(), From: c.Origin(listKey(e.Key)).String()})
	}
	return problems
}

// refreshSecrets reads the secrets again and hands on what has changed. What
// cannot be read, or has become weak, stays as it was.
func (a *app) refreshSecrets(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, secretsTimeout)
	defer cancel()
	changed, failed := a.secrets.Refresh(bound)
	for _, e := range failed {
		if ctx.Err() == nil {
			a.logger.Warn().Str("key", e.Key).Err(e.Err).Msg("a secret cannot be taken anew; the old one stays")
		}
	}
	if len(changed) == 0 {
		return
	}
	r := &audit.Record{
		Type: audit.TypeAdministrative, Event: audit.EventConfigChange, Severity: audit.SeverityHigh,
		Outcome: audit.OutcomeSuccess, RequestedBy: "secrets", AffectedFields: changed,
	}
	if err := a.useSecrets(changed); err != nil {
		r.Outcome, r.Message = audit.OutcomeFailure, err.Error()
		a.logger.Error().Strs("keys", changed).Err(err).Msg("changed secrets could not be taken")
	} else {
		a.logger.Info().Strs("keys", changed).Msg("secrets have changed")
	}
	if err := a.record(ctx, r, nil); err != nil {
		a.logger.Error().Err(err).Msg("the change of secrets could not be recorded")
	}
}

// useSecrets hands changed secrets to those who do not read them each time.
func (a *app) useSecrets(changed []string) error {
	commit, err := a.trust.Prepare(trustSettings(a.config, a.secretValue))
	if err != nil {
		return err
	}
	commit()
	for _, key := range changed {
		if key == passphraseKey && a.keys.local != nil {
			return a.keys.local.Reseal(string(a.secretValue(key)))
		}
	}
	return nil
}

// secretValue gives the secret of a key; nil while it cannot be read.
func (a *app) secretValue(key string) []byte {
	s := a.secrets.Get(key)
	if s == nil {
		return nil
	}
	value, _ := s.Value() // its error is in the status
	return value
}
