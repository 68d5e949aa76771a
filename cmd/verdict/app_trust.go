package main

import (
	"fmt"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/signature"
)

// openTrust reads the keys that bundles may be signed with.
func (a *app) openTrust() error {
	a.trust = bundles.NewTrust(signature.Options{Now: a.now, Limits: signature.Limits{
		Files: a.config.Limits.BundleFiles, Document: int64(a.config.Limits.BundleUnpacked),
	}})
	commit, err := a.trust.Prepare(trustSettings(a.config))
	if err != nil {
		return fmt.Errorf("read bundles.verification_keys: %w", err)
	}
	commit()
	return nil
}

// trustSettings say whose bundles are taken.
func trustSettings(c *Config) bundles.TrustSettings {
	return bundles.TrustSettings{Keys: verificationKeys(c), AllowUnsigned: c.Bundles.AllowUnsigned}
}

// verificationKeys gives bundles.verification_keys.
func verificationKeys(c *Config) []signature.KeyConfig {
	keys := make([]signature.KeyConfig, 0, len(c.Bundles.VerificationKeys))
	for _, k := range c.Bundles.VerificationKeys {
		keys = append(keys, signature.KeyConfig{
			ID: k.ID, Algorithm: signature.Algorithm(k.Algorithm), File: k.File, Names: k.Names, Scope: k.Scope,
			NotBefore: k.NotBefore, NotAfter: k.NotAfter,
		})
	}
	return keys
}
