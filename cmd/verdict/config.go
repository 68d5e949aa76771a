package main

import (
	"time"

	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/keys/cert"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// Config is everything that a verdict process can be told: one struct a
// part, one field a key. The key tag is the name of the field in the file;
// reload marks what SIGHUP may change. The comments on the fields are the
// text of docs/configuration.md.
//
// A Config comes from [loadConfig] and does not change afterwards; a reload
// makes a new one.
type Config struct {
	// Where verdict listens, and whom it lets in.
	Server ServerConfig `key:"server"`
	// The folder of everything verdict keeps. The audit log is in its
	// audit folder and nowhere else.
	DataDir string `key:"data_dir"`
	// The policy and data API.
	API APIConfig `key:"api"`
	// What is particular to OPA's own paths.
	OPA OPAConfig `key:"opa"`
	// The OpenID AuthZEN API.
	AuthZEN AuthZENConfig `key:"authzen"`
	// Envoy's external authorization over gRPC.
	ExtAuthz ExtAuthzConfig `key:"extauthz"`
	// Forward authentication for nginx, Traefik and Caddy.
	ForwardAuth ForwardAuthConfig `key:"forwardauth"`
	// Bundles that are pushed to verdict or pulled by it. A folder or
	// tarball named by --bundle is the operator's own and none of this
	// applies to it.
	Bundles BundlesConfig `key:"bundles"`
	// The key ring.
	Keys KeysConfig `key:"keys"`
	// Secrets in this configuration that are references.
	Secrets SecretsConfig `key:"secrets"`
	// Certificates for other services.
	Certificates CertificatesConfig `key:"certificates"`
	// The audit log.
	Audit AuditConfig `key:"audit"`
	// Callers that come with a token of an outside issuer or with a client
	// certificate.
	Authn AuthnConfig `key:"authn"`
	// Bounds on what one request may ask for.
	Limits LimitsConfig `key:"limits"`
	// What the process says about itself on standard error.
	Log LogConfig `key:"log"`

	// Dev is --dev, which has no key: a file cannot turn it on.
	Dev bool
	// BundlePaths are the folders and tarballs of --bundle, in order.
	BundlePaths []string
	// StandardPolicies is false with --standard-policies=false.
	StandardPolicies bool

	origins map[string]Origin
}

// Origin says where the value of a key came from.
type Origin struct {
	// Source is the kind of place.
	Source Source
	// Detail is the place: "verdict.yaml:12", "VERDICT_DATA_DIR",
	// "--data-dir"; empty for a default.
	Detail string
}

// Source is a kind of place that a value comes from.
type Source int

// The sources, each of which overrides those before it.
const (
	SourceDefault Source = iota
	SourceDev            // a default that --dev changes
	SourceFile
	SourceEnvironment
	SourceSet
	SourceFlag
)

// String gives the origin as config print shows it.
func (o Origin) String() string {
	switch o.Source {
	case SourceDefault:
		return "default"
	case SourceDev:
		return "default with --dev"
	default:
		return o.Detail
	}
}

// Origin tells where the value of key came from.
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// IsSet tells whether somebody gave key a value, be it the default one.
func (c *Config) IsSet(key string) bool { return c.origins[key].Source > SourceDev }

// defaultConfig gives the configuration of a process that is told nothing.
func defaultConfig() *Config {
	loopback := []string{"127.0.0.0/8", "::1/128"}
	return &Config{
		Server: ServerConfig{
			Addr: "127.0.0.1:8181", GRPCAddr: "127.0.0.1:9191",
			MaxInFlight: 1024, MaxConnections: 4096,
			TLS: TLSConfig{
				Source: certsFiles, CheckEvery: cert.DefaultEvery, Vault: TLSVaultConfig{Mount: "pki", TTL: cert.DefaultTTL},
			},
			ReadHeaderTimeout: 5 * time.Second, MaxHeader: 32 * KiB, DrainTimeout: 10 * time.Second,
		},
		DataDir:     "./data",
		OPA:         OPAConfig{DefaultDecision: "system/main", Authentication: "verdict", Authorization: "verdict"},
		AuthZEN:     AuthZENConfig{Path: "verdict/authz/decision", SearchLimit: 10_000, SearchTimeout: time.Second},
		ExtAuthz:    ExtAuthzConfig{Path: "envoy/authz/allow", MaxReceiveMessageSize: 4 * MiB, TrustedPeers: loopback},
		ForwardAuth: ForwardAuthConfig{TrustedProxies: loopback},
		Bundles: BundlesConfig{
			KeepRevisions: 20, KeepDays: 30,
			Gates: GatesConfig{Strict: true, RefusedBuiltins: []string{"http.send", "net.lookup_ip_addr"}, TestsTimeout: 30 * time.Second, BenchmarkSample: replay.DefaultSample, ReplayTimeout: time.Minute},
		},
		Keys: KeysConfig{
			Provider: "local",
			Vault:    VaultConfig{Mount: "transit", Timeout: 2 * time.Second, KeyPrefix: "verdict-", Auth: VaultAuthConfig{Method: "token"}},
			Policies: defaultKeyPolicies(),
		},
		Secrets:      SecretsConfig{Refresh: 30 * time.Second},
		Certificates: CertificatesConfig{Issuer: certsNone, Vault: CertificatesVaultConfig{Mount: "pki"}, MaxTTL: cert.DefaultTTL},
		Audit: AuditConfig{
			Durability: string(audit.Durable), Queue: QueueConfig{Records: audit.DefaultQueueRecords, Bytes: audit.DefaultQueueBytes},
			QueueWait: audit.DefaultQueueWait, MinFreeBytes: audit.DefaultMinFreeBytes, PoisonLinger: audit.DefaultPoisonLinger,
			MaskKeys: defaultMaskKeys(),
		},
		Limits: LimitsConfig{
			RequestBody: MiB, DataBody: 64 * MiB, CryptoBody: 16 * MiB,
			Depth: eval.DefaultDepth, Members: eval.DefaultMembers, Answer: opa.DefaultAnswer, Evaluation: eval.DefaultTimeout,
			BundlePacked: 64 * MiB, BundleUnpacked: 512 * MiB, BundleFiles: 20_000, BundleRatio: 200,
		},
		Log:              LogConfig{Level: "info", Format: "json"},
		StandardPolicies: true,
	}
}

func defaultMaskKeys() []string {
	return []string{
		"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "password",
		"secret", "token", "access_token", "refresh_token", "private_key",
	}
}

func defaultKeyPolicies() KeyPoliciesConfig {
	const aes, rsa = "aes256-gcm96", "rsa-4096"
	return KeyPoliciesConfig{
		Public:       KeyPolicyConfig{Algorithm: aes, RotationDays: 365, AllowKeyCaching: true, MaxCacheTimeMinutes: 120},
		Internal:     KeyPolicyConfig{Algorithm: aes, RotationDays: 180, AllowKeyCaching: true, MaxCacheTimeMinutes: 60},
		Confidential: KeyPolicyConfig{Algorithm: aes, RotationDays: 90, RequireKeyEscrow: true, AllowKeyCaching: true, MaxCacheTimeMinutes: 30},
		Restricted:   KeyPolicyConfig{Algorithm: aes, RotationDays: 30, RequireKeyEscrow: true},
		TopSecret:    KeyPolicyConfig{Algorithm: rsa, RotationDays: 7, RequireKeyEscrow: true},
	}
}

// applyDev makes the changes that --dev brings to keys nobody gave.
func (c *Config) applyDev() {
	if !c.Dev {
		return
	}
	if !c.IsSet("api.policy_writes") {
		c.API.PolicyWrites = true
		c.origins["api.policy_writes"] = Origin{Source: SourceDev}
	}
	if !c.IsSet("bundles.allow_unsigned") && len(c.Bundles.VerificationKeys) == 0 {
		c.Bundles.AllowUnsigned = true
		c.origins["bundles.allow_unsigned"] = Origin{Source: SourceDev}
	}
}
