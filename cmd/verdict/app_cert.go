package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// devCAFolder is the folder of the development authority in the data folder.
const devCAFolder = "dev-ca"

// certificates is what the listeners speak TLS with, and the inventory.
type certificates struct {
	keeper   *cert.Keeper // nil: plaintext
	registry *cert.Registry
	dev      *cert.DevCA // nil: there is none
	own      cert.Source // of the certificate that is served; nil: files
}

// openCertificates makes the inventory and what keeps the certificates of the
// listeners. Vault is not asked.
func (a *app) openCertificates() error {
	if err := a.openDevCA(); err != nil {
		return err
	}
	if err := a.openRegistry(); err != nil {
		return err
	}
	if !a.config.Server.TLS.on() {
		return nil
	}
	if err := a.openOwnCertificate(); err != nil {
		return err
	}
	settings := a.keeperSettings(a.config)
	var err error
	a.certs.keeper, err = cert.NewKeeper(settings, cert.KeeperOptions{
		Authorities: a.devAuthorities, Revoked: a.certs.registry.Revoked, Recorder: certRecords{a},
		Every: a.config.Server.TLS.CheckEvery, Now: a.now, Logger: a.logger,
	})
	return err
}

func (a *app) openDevCA() (err error) {
	if !a.config.devAuthority() {
		return nil
	}
	a.certs.dev, err = cert.OpenDevCA(filepath.Join(a.config.DataDir, devCAFolder), cert.DevCAOptions{
		Now: a.now,
		Made: func(ctx context.Context, ca *x509.Certificate) error {
			info := cert.Describe(ca, a.now())
			info.Use, info.Authority = cert.UseAuthority, certsDev
			return certRecords{a}.RecordCertificate(ctx, cert.Event{Kind: cert.EventIssued, Certificate: info, Detail: "a development authority"})
		},
		Changed: func() {
			if a.certs.keeper != nil {
				a.certs.keeper.Wake()
			}
		},
	})
	return err
}

// devAuthorities are authorities of clients, too.
func (a *app) devAuthorities() []*x509.Certificate {
	if a.certs.dev == nil {
		return nil
	}
	return a.certs.dev.Certificates()
}

// authority gives who signs: nil for files and none.
func (a *app) authority(word string, o cert.VaultPKIOptions) (cert.Authority, error) {
	switch word {
	case certsDev:
		return a.certs.dev, nil
	case certsVault:
		return cert.NewVaultPKI(a.keys.vault, o)
	}
	return nil, nil
}

func (a *app) openRegistry() error {
	c := a.config.Certificates
	issuer, err := a.authority(c.Issuer, cert.VaultPKIOptions{Mount: c.Vault.Mount, ServerRole: c.Vault.ServerRole, ClientRole: c.Vault.ClientRole})
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	networks, err := parsePrefixes(c.Allowed.Networks)
	if err != nil {
		return fmt.Errorf("certificates.allowed.networks: %w", err)
	}
	bucket, err := a.state.Bucket(cert.BucketName)
	if err != nil {
		return fmt.Errorf("open state of certificates: %w", err)
	}
	a.certs.registry, err = cert.OpenRegistry(context.Background(), bucket, certRecords{a}, cert.RegistryOptions{
		Authority: issuer, MaxTTL: c.MaxTTL,
		Allowed: cert.Allowed{DNS: c.Allowed.DNS, SPIFFE: c.Allowed.SPIFFE, Networks: networks},
		InUse:   a.certificatesInUse, Authorities: a.clientAuthorities, Now: a.now, Logger: a.logger,
	})
	return err
}

func (a *app) certificatesInUse() []cert.Info {
	if a.certs.keeper == nil {
		return nil
	}
	return a.certs.keeper.InUse()
}

func (a *app) clientAuthorities() *x509.CertPool {
	if a.certs.keeper == nil {
		return x509.NewCertPool()
	}
	return a.certs.keeper.ClientAuthorities()
}

// openOwnCertificate makes the source of a certificate that an authority signs.
func (a *app) openOwnCertificate() error {
	c := a.config.Server.TLS
	o := cert.OwnOptions{CommonName: c.Vault.CommonName, Names: c.Vault.SANs, TTL: c.Vault.TTL, Now: a.now}
	if c.Source == certsDev {
		o = cert.OwnOptions{Names: []string{"localhost", "127.0.0.1", "::1"}, Now: a.now}
	}
	signer, err := a.authority(c.Source, cert.VaultPKIOptions{Mount: c.Vault.Mount, ServerRole: c.Vault.Role})
	if err != nil || signer == nil {
		return err
	}
	if a.certs.own, err = cert.NewIssued(signer, o); err != nil {
		return fmt.Errorf("server.tls: %w", err)
	}
	return nil
}

func (a *app) keeperSettings(c *Config) cert.KeeperSettings {
	t := c.Server.TLS
	source := a.certs.own
	if source == nil {
		source = cert.NewFiles(t.CertFile, t.KeyFile, a.now)
	}
	return cert.KeeperSettings{Source: source, Clients: cert.ClientSettings{
		CAFile: t.ClientCAFile, CRLFile: t.ClientCRLFile, TrustDomains: t.TrustDomains,
	}}
}

// prepareCertificates gives what puts the certificates of next in force.
func (a *app) prepareCertificates(next *Config) (commit func(), err error) {
	if next.Server.TLS.on() != (a.certs.keeper != nil) {
		return nil, errors.New("server.tls: TLS cannot be switched on or off without a restart")
	}
	if a.certs.keeper == nil {
		return func() {}, nil
	}
	return a.certs.keeper.Prepare(a.keeperSettings(next))
}

// run keeps the certificates until ctx ends.
func (c *certificates) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx) // ends with run
	group.Go(func() error { return c.registry.Run(ctx) })
	if c.keeper != nil {
		group.Go(func() error { return c.keeper.Run(ctx) })
	}
	return group.Wait()
}

func (c *certificates) collectors() []prometheus.Collector {
	all := c.registry.Collectors()
	if c.keeper != nil {
		all = append(all, c.keeper.Collectors()...)
	}
	return all
}

// config is what the listeners speak TLS with; nil: they do not.
func (c *certificates) config() func() *tls.Config {
	if c.keeper == nil {
		return nil
	}
	return c.keeper.Config
}

// gate is what asks for revoked certificates; nil without TLS.
func (c *certificates) gate() api.ClientCertificates {
	if c.keeper == nil {
		return nil
	}
	return c.keeper
}

// status is the state of the listeners' certificates; nil: plaintext.
func (c *certificates) status() *cert.KeeperStatus {
	if c.keeper == nil {
		return nil
	}
	s := c.keeper.Status()
	return &s
}
