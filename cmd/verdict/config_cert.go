package main

import (
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/keys/cert"
)

// Words of server.tls.source and certificates.issuer.
const (
	certsFiles = "files"
	certsVault = "vault"
	certsDev   = "dev"
	certsNone  = "none"
)

// TLSConfig is server.tls.
type TLSConfig struct {
	// Where the certificate comes from: `files`; `vault`, whose PKI engine signs
	// a key that is made here (at `keys.vault.address`); or `dev`, an authority
	// in the data folder, with `--dev` only. With `files`, no `cert_file` means
	// plaintext.
	Source string `key:"source"`
	// Certificate chain, PEM. With it all listeners speak TLS.
	CertFile string `key:"cert_file" reload:"yes"`
	// Private key of the certificate, PEM.
	KeyFile string `key:"key_file" reload:"yes"`
	// Authorities whose client certificates are accepted, PEM. Empty: client
	// certificates are not asked for.
	ClientCAFile string `key:"client_ca_file" reload:"yes"`
	// Revocation lists of those authorities, PEM or DER. When one is out of
	// date, all certificates of its authority are refused.
	ClientCRLFile string `key:"client_crl_file" reload:"yes"`
	// Trust domains of which the SPIFFE id of a client may be. Empty: any.
	TrustDomains []string `key:"trust_domains" reload:"yes"`
	// How often the files above are looked at for changes.
	CheckEvery time.Duration `key:"check_every"`
	// The certificate that Vault signs.
	Vault TLSVaultConfig `key:"vault"`
}

// TLSVaultConfig is server.tls.vault.
type TLSVaultConfig struct {
	// Where the PKI engine is mounted.
	Mount string `key:"mount"`
	// The role that signs it.
	Role string `key:"role"`
	// Its common name; one of `sans`, or empty.
	CommonName string `key:"common_name"`
	// Its names: DNS names, IP addresses, SPIFFE ids.
	SANs []string `key:"sans"`
	// How long it lives; it is renewed at two thirds of that.
	TTL time.Duration `key:"ttl"`
}

// CertificatesConfig is the certificates part.
type CertificatesConfig struct {
	// Who signs certificates for other services: `none`, `vault`, or `dev` with
	// `--dev`.
	Issuer string `key:"issuer"`
	// Vault's PKI engine, at `keys.vault.address`.
	Vault CertificatesVaultConfig `key:"vault"`
	// The names that may be issued.
	Allowed CertificatesAllowedConfig `key:"allowed"`
	// The longest life of what is issued, and the default.
	MaxTTL time.Duration `key:"max_ttl"`
}

// CertificatesVaultConfig is certificates.vault.
type CertificatesVaultConfig struct {
	// Where the PKI engine is mounted.
	Mount string `key:"mount"`
	// The role for certificates of servers. Empty: none are signed.
	ServerRole string `key:"server_role"`
	// The role for certificates of clients. Empty: none are signed.
	ClientRole string `key:"client_role"`
}

// CertificatesAllowedConfig is certificates.allowed.
type CertificatesAllowedConfig struct {
	// DNS names; `*.example.com` stands for names one label below.
	DNS []string `key:"dns"`
	// SPIFFE ids; `spiffe://example.com/ns/*` stands for all below.
	SPIFFE []string `key:"spiffe"`
	// Networks of IP addresses.
	Networks []string `key:"networks"`
}

// on tells whether the listeners speak TLS.
func (t *TLSConfig) on() bool { return t.Source != certsFiles || t.CertFile != "" }

// devAuthority tells whether there is a development authority.
func (c *Config) devAuthority() bool {
	return c.Server.TLS.Source == certsDev || c.Certificates.Issuer == certsDev
}

// vaultPKI tells whether Vault signs certificates.
func (c *Config) vaultPKI() bool {
	return c.Server.TLS.Source == certsVault || c.Certificates.Issuer == certsVault
}

func (r *checker) tls(t *TLSConfig, dev bool) {
	r.oneOf("server.tls.source", t.Source, certsFiles, certsVault, certsDev)
	if t.Source == certsDev && !dev {
		r.fail("server.tls.source", "\"dev\" is for --dev only; write files or vault")
	}
	if t.Source != certsFiles && t.CertFile+t.KeyFile != "" {
		r.fail("server.tls.cert_file", "goes with server.tls.source files only; leave out cert_file and key_file")
	}
	if t.CertFile != "" && t.KeyFile == "" {
		r.fail("server.tls.key_file", "is empty though server.tls.cert_file is given; give the private key of the certificate")
	}
	if t.CertFile == "" && t.KeyFile != "" {
		r.fail("server.tls.cert_file", "is empty though server.tls.key_file is given; give the certificate of the key")
	}
	if !t.on() && t.ClientCAFile != "" {
		r.fail("server.tls.client_ca_file", "needs TLS; give server.tls.cert_file and server.tls.key_file too")
	}
	if t.ClientCRLFile != "" && t.ClientCAFile == "" {
		r.fail("server.tls.client_crl_file", "needs the authorities that sign the lists; give server.tls.client_ca_file too")
	}
	for _, d := range t.TrustDomains {
		if id, err := cert.ParseID("spiffe://" + d); err != nil || id.Path != "" {
			r.fail("server.tls.trust_domains", "%q is not a trust domain; write for example example.org", d)
		}
	}
	r.duration("server.tls.check_every", t.CheckEvery, 100*time.Millisecond, time.Hour)
	r.segments("server.tls.vault.mount", t.Vault.Mount)
	r.segments("server.tls.vault.role", t.Vault.Role)
	r.duration("server.tls.vault.ttl", t.Vault.TTL, time.Second, 366*24*time.Hour)
	if t.Source == certsVault {
		r.require("server.tls.vault.mount", t.Vault.Mount, "where the PKI engine is mounted")
		r.require("server.tls.vault.role", t.Vault.Role, "the role that signs the certificate")
		if _, err := cert.NewIssued(nil, cert.OwnOptions{Names: t.Vault.SANs}); err != nil {
			r.fail("server.tls.vault.sans", "%v", err)
		}
	}
}

func (r *checker) certificates(c *CertificatesConfig, dev bool) {
	r.oneOf("certificates.issuer", c.Issuer, certsNone, certsVault, certsDev)
	if c.Issuer == certsDev && !dev {
		r.fail("certificates.issuer", "\"dev\" is for --dev only; write none or vault")
	}
	r.segments("certificates.vault.mount", c.Vault.Mount)
	for key, role := range map[string]string{"server_role": c.Vault.ServerRole, "client_role": c.Vault.ClientRole} {
		r.segments("certificates.vault."+key, role)
		if strings.Contains(role, "/") {
			r.fail("certificates.vault."+key, "%q is not the name of a role; write it without a slash", role)
		}
	}
	if c.Issuer == certsVault {
		r.require("certificates.vault.mount", c.Vault.Mount, "where the PKI engine is mounted")
		r.require("certificates.vault.server_role", c.Vault.ServerRole+c.Vault.ClientRole, "a role, here or in certificates.vault.client_role")
	}
	if err := (cert.Allowed{DNS: c.Allowed.DNS}).Check(); err != nil {
		r.fail("certificates.allowed.dns", "%v", err)
	}
	if err := (cert.Allowed{SPIFFE: c.Allowed.SPIFFE}).Check(); err != nil {
		r.fail("certificates.allowed.spiffe", "%v", err)
	}
	r.networks("certificates.allowed.networks", c.Allowed.Networks)
	r.duration("certificates.max_ttl", c.MaxTTL, time.Minute, 366*24*time.Hour)
}
