package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/keys/transit"
)

const (
	keysBucket = "keys"
	// vaultEvents is how many events of Vault wait for the log.
	vaultEvents = 64
)

// keyRing is the key ring and what it stands on.
type keyRing struct {
	*keys.Ring
	vault  *vault.Client // nil: neither keys nor certificates need Vault
	local  *local.Backend
	events chan vault.Event

	escrow     *escrow.Escrow // nil: there is no escrow key
	recoveries *escrow.Recoveries
}

// openKeys makes the key ring. Vault is not asked: it may be sealed.
func (a *app) openKeys() error {
	bucket, err := a.state.Bucket(keysBucket)
	if err != nil {
		return fmt.Errorf("open state of keys: %w", err)
	}
	policies, err := keyPolicies(a.config)
	if err != nil {
		return err
	}
	o := keys.Options{Policies: policies, EnforceEscrow: a.config.Keys.Escrow.Enforce, Now: a.now, Log: a.logger}
	var backend keys.Backend
	if a.config.Keys.Provider == "vault" {
		// An RSA key takes longer to make in Vault than a request waits for it.
		o.Prefix, o.Prepare = a.config.Keys.Vault.KeyPrefix, true
		backend, err = a.openVault()
	} else {
		backend, err = a.openLocalKeys()
	}
	if err != nil {
		return err
	}
	if err := a.openEscrow(bucket); err != nil {
		return err
	}
	if a.keys.escrow != nil {
		o.Escrow = a.keys.escrow
	}
	if a.keys.Ring, err = keys.New(backend, bucket, keyRecords{a}, o); err != nil {
		return err
	}
	if a.keys.escrow != nil {
		a.keys.recoveries = escrow.NewRecoveries(a.keys.escrow, a.keys.Ring, escrow.RecoveryOptions{Now: a.now})
	}
	return nil
}

// openVault makes the keys in Vault.
func (a *app) openVault() (keys.Backend, error) {
	c := a.config.Keys.Vault
	return transit.New(a.keys.vault, transit.Options{Mount: c.Mount})
}

// openVaultClient makes the client of Vault: for the keys in it, or for secrets
// of the configuration. Nothing is asked yet.
func (a *app) openVaultClient() (err error) {
	a.keys.events = make(chan vault.Event, vaultEvents)
	a.keys.vault, err = newVaultClient(a.config.Keys.Vault, vault.Options{Observe: a.observeVault, Now: a.now, Logger: a.logger})
	return err
}

// newVaultClient makes a client of the Vault that is configured.
func newVaultClient(c VaultConfig, o vault.Options) (*vault.Client, error) {
	client, err := vault.New(vault.Options{
		Address: c.Address, Namespace: c.Namespace, CAFile: c.CAFile, Timeout: c.Timeout,
		Auth: vault.Auth{
			Method: vault.Method(c.Auth.Method), Mount: c.Auth.Mount, Role: c.Auth.Role, TokenFile: c.Auth.TokenFile,
			RoleIDFile: c.Auth.RoleIDFile, SecretIDFile: c.Auth.SecretIDFile, SecretIDWrapped: c.Auth.SecretIDWrapped,
			JWTFile: c.Auth.JWTFile, CertFile: c.Auth.CertFile, KeyFile: c.Auth.KeyFile,
		},
		Observe: o.Observe, Now: o.Now, Logger: o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("keys.vault: %w", err)
	}
	return client, nil
}

// openLocalKeys opens the keysets in the data folder. Without a master key that
// somebody gave, one is made beside them.
func (a *app) openLocalKeys() (keys.Backend, error) {
	c := a.config.Keys.Local
	m := local.Master{File: c.MasterKeyFile, PassphraseFile: c.PassphraseFile}
	switch {
	case c.MasterKeyEnv != "":
		if m.Variable = os.Getenv(c.MasterKeyEnv); m.Variable == "" {
			return nil, fmt.Errorf("keys.local.master_key_env: the environment has no %s, or it is empty", c.MasterKeyEnv)
		}
	case c.Passphrase != "":
		m.Passphrase = string(a.secretValue(passphraseKey))
	case c.MasterKeyFile == "" && c.PassphraseFile == "":
		m.File, m.Generate = filepath.Join(a.config.DataDir, "master.key"), true
	}
	var err error
	a.keys.local, err = local.Open(filepath.Join(a.config.DataDir, "keys"), m, local.Options{Now: a.now, Command: "verdict serve"})
	if err != nil {
		return nil, fmt.Errorf("keys.local: %w", err)
	}
	return a.keys.local, nil
}

// keyPolicies gives keys.policies.
func keyPolicies(c *Config) (keys.Policies, error) {
	all := keys.Policies{}
	for class, p := range map[keys.Class]KeyPolicyConfig{
		keys.Public: c.Keys.Policies.Public, keys.Internal: c.Keys.Policies.Internal, keys.Confidential: c.Keys.Policies.Confidential,
		keys.Restricted: c.Keys.Policies.Restricted, keys.TopSecret: c.Keys.Policies.TopSecret,
	} {
		algorithm, err := keys.ParseType(p.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("keys.policies.%s.algorithm: %w", class, err)
		}
		all[class] = keys.Policy{
			Algorithm: algorithm, RotationDays: p.RotationDays, RequireKeyEscrow: p.RequireKeyEscrow,
			AllowKeyCaching: p.AllowKeyCaching, MaxCacheTimeMinutes: p.MaxCacheTimeMinutes,
		}
	}
	return all, nil
}

// run keeps the ring, and the login to Vault, until ctx ends.
func (k *keyRing) run(ctx context.Context, a *app) error {
	group, ctx := errgroup.WithContext(ctx) // ends with run
	group.Go(func() error { return k.Run(ctx) })
	if k.vault != nil {
		group.Go(func() error { return k.vault.Run(ctx) })
		group.Go(func() error { return a.recordVault(ctx) })
	}
	return group.Wait()
}

// collectors are the metrics of the ring and of Vault.
func (k *keyRing) collectors() []prometheus.Collector {
	all := k.Collectors()
	if k.vault != nil {
		all = append(all, k.vault.Collectors()...)
	}
	return all
}

func (k *keyRing) close() error {
	if k.local == nil {
		return nil
	}
	return k.local.Close()
}

// observeVault takes what happens to Vault on its way to the log. It does not
// block: what the log cannot take in time is in the metrics only.
func (a *app) observeVault(e vault.Event) {
	if e.Kind != vault.StateChanged && e.Kind != vault.TokenLost {
		return
	}
	select {
	case a.keys.events <- e:
	default:
		a.logger.Error().Str("event", string(e.Kind)).Msg("an event of Vault could not be recorded: too many wait")
	}
}

func (a *app) recordVault(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-a.keys.events:
			r := &audit.Record{
				Type: audit.TypeKey, Event: audit.EventVaultState, Severity: audit.SeverityHigh, Outcome: audit.OutcomeWarning,
				Resource: "vault", RequestedBy: "serve", Message: e.Detail,
			}
			switch {
			case e.Kind == vault.TokenLost:
				r.Event = audit.EventVaultTokenLost
			case e.State == vault.Healthy:
				r.Severity, r.Outcome = audit.SeverityInfo, audit.OutcomeSuccess
			}
			if err := a.record(ctx, r, map[string]any{"state": e.State}); err != nil && ctx.Err() == nil {
				a.logger.Error().Err(err).Msg("an event of Vault could not be recorded")
			}
		}
	}
}

// keyStatus is how the keys do.
type keyStatus struct {
	Provider string `json:"provider"`
	// State is ok, or why no key can be used now.
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
	// Escrow is degraded while keys that must be escrowed are not.
	Escrow string `json:"escrow"`
	// NotEscrowed lists the keys that should be.
	NotEscrowed []string      `json:"not_escrowed,omitempty"`
	Vault       *vault.Status `json:"vault,omitempty"`
}

func (a *app) keyStatus() keyStatus {
	state := a.keys.State()
	s := keyStatus{Provider: a.config.Keys.Provider, State: "ok", Detail: state.Detail}
	if state.Reason != "" {
		s.State = string(state.Reason)
	}
	s.Escrow, s.NotEscrowed = a.escrowStatus()
	if a.keys.vault != nil {
		v := a.keys.vault.Status()
		s.Vault = &v
	}
	return s
}
