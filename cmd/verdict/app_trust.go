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
	commit, err := a.trust.Prepare(trustSettings(a.config, a.secretValue))
	if err != nil {
		return fmt.Errorf("read bundles.verification_keys: %w", err)
	}
	commit()
	return nil
}

// trustSettings say whose bundles are taken. value gives the secret of a key, nil
// while it cannot be read: what it has signed is refused then, and so is what
// nobody has signed.
func trustSettings(c *Config, value func(key string) []byte) bundles.TrustSettings {
	keys := verificationKeys(c, value)
	whole := len(keys) == len(c.Bundles.VerificationKeys)
	return bundles.TrustSettings{Keys: keys, AllowUnsigned: c.Bundles.AllowUnsigned && whole}
}

// verificationKeys gives bundles.verification_keys, without those whose secret
// cannot be read now.
func verificationKeys(c *Config, value func(key string) []byte) []signature.KeyConfig {
	keys := make([]signature.KeyConfig, 0, len(c.Bundles.VerificationKeys))
	for i, k := range c.Bundles.VerificationKeys {
		var secret []byte
		if k.Secret != "" {
			if secret = value(at("bundles.verification_keys", i, "secret")); secret == nil {
				continue
			}
		}
		keys = append(keys, signature.KeyConfig{
			ID: k.ID, Algorithm: signature.Algorithm(k.Algorithm), File: k.File, Secret: secret, Names: k.Names, Scope: k.Scope,
			NotBefore: k.NotBefore, NotAfter: k.NotAfter,
		})
	}
	return keys
}
