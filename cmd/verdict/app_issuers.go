package main

import (
	"context"
	"fmt"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/identity/issuer"
)

// openIssuers makes the verifier of tokens of outside issuers.
func (a *app) openIssuers() (err error) {
	a.issuers, err = issuer.New(issuerConfigs(a.config), issuer.Options{Changed: a.recordIssuerKeys, Now: a.now, Logger: a.logger})
	return err
}

func issuerConfigs(c *Config) []issuer.Config {
	list := make([]issuer.Config, 0, len(c.Authn.Issuers))
	for _, i := range c.Authn.Issuers {
		list = append(list, issuer.Config{
			Issuer: i.Issuer, Audience: i.Audience, Algorithms: i.Algorithms,
			JWKSURL: i.JWKSURL, JWKSFile: i.JWKSFile, Accept: i.Accept,
		})
	}
	return list
}

func issuerScopes(c *Config) []api.IssuerScopes {
	list := make([]api.IssuerScopes, 0, len(c.Authn.Issuers))
	for _, i := range c.Authn.Issuers {
		list = append(list, api.IssuerScopes{Issuer: i.Issuer, Claim: i.Scopes.Claim, Map: i.Scopes.Map})
	}
	return list
}

// recordIssuerKeys records that an issuer has other keys: whoever has a private
// one of them says who asks.
func (a *app) recordIssuerKeys(ctx context.Context, c issuer.Change) error {
	return a.record(ctx, &audit.Record{
		Type: audit.TypeKey, Event: audit.EventKeyRotation, Severity: audit.SeverityMedium,
		Outcome: audit.OutcomeSuccess, Resource: "issuer:" + c.Issuer, RequestedBy: "serve",
	}, map[string]any{"issuer": c.Issuer, "added": c.Added, "removed": c.Removed})
}

// issuersStatus is the facility's state.
func (a *app) issuersStatus() string {
	switch ready, configured := a.issuers.Ready(); {
	case configured == 0:
		return "off"
	case ready < configured:
		return "degraded"
	}
	return "on"
}

// prepareAccess checks who may call what, and by which tokens.
func (a *app) prepareAccess(next *Config) (commit func(), err error) {
	access, err := accessSettings(next)
	if err != nil {
		return nil, err
	}
	commitIssuers, err := a.issuers.Prepare(issuerConfigs(next))
	if err != nil {
		return nil, fmt.Errorf("read issuers: %w", err)
	}
	commitGate, err := a.gate.Prepare(access)
	if err != nil {
		return nil, err
	}
	return func() {
		commitIssuers()
		commitGate()
	}, nil
}
