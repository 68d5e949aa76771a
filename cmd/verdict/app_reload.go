package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/verdict-pdp/verdict/audit"
)

// reload takes a new configuration whole or not at all: first every part
// checks what it would take, then all of them take it.
func (a *app) reload(ctx context.Context, read func() (*Config, error)) {
	next, err := read()
	var changed []string
	if err == nil {
		changed, err = a.take(next)
	}
	r := &audit.Record{
		Type: audit.TypeAdministrative, Event: audit.EventConfigChange, Severity: audit.SeverityHigh,
		Outcome: audit.OutcomeSuccess, RequestedBy: "SIGHUP", AffectedFields: changed,
	}
	if err != nil {
		r.Outcome, r.Message = audit.OutcomeFailure, err.Error()
		a.logger.Error().Err(err).Msg("the configuration was read again and refused; the old one stays")
	} else {
		a.logger.Info().Strs("changed", changed).Msg("the configuration was read again")
	}
	if err := a.record(ctx, r, nil); err != nil {
		a.logger.Error().Err(err).Msg("the reload could not be recorded")
	}
}

// take prepares next in every part and commits it.
func (a *app) take(next *Config) (changed []string, err error) {
	if changed, err = a.config.Diff(next); err != nil {
		return nil, err
	}
	commitAccess, err := a.prepareAccess(next)
	if err != nil {
		return nil, err
	}
	commitServer, err := a.server.Prepare(serverSettings(next))
	if err != nil {
		return nil, err
	}
	commitCertificates, err := a.prepareCertificates(next)
	if err != nil {
		return nil, err
	}
	commitTokens, err := a.tokens.Prepare()
	if err != nil {
		return nil, err
	}
	secrets, err := a.prepareSecrets(context.Background(), next)
	if err != nil {
		return nil, err
	}
	commitTrust, err := a.trust.Prepare(trustSettings(next, secrets.Value))
	if err != nil {
		return nil, fmt.Errorf("read bundles.verification_keys: %w", err)
	}
	commitSources, err := a.prepareSources(next, secrets.Get)
	if err != nil {
		return nil, err
	}
	commitAccess()
	commitServer()
	commitCertificates()
	commitTokens()
	secrets.Commit()
	commitTrust()
	commitSources() // after the keys that vouch for what comes
	a.opa.SetLimits(opaLimits(next))
	a.checks.setLimits(next)
	a.authzen.SetLimits(authzenLimits(next))
	a.native.SetLimits(previewLimits(next))
	a.engine.SetTimeout(next.Limits.Evaluation)
	a.config = next
	return changed, nil
}

// digest is SHA-256 over all settings, which the log records at start: two
// starts with one digest ran with one configuration.
func (c *Config) digest() (string, error) {
	encoded, err := json.Marshal(c.settings(func(string) bool { return false }))
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:]), nil
}
