package main

import "time"

// BundlesConfig is the bundles part.
type BundlesConfig struct {
	// Keys that a bundle may be signed with.
	VerificationKeys []VerificationKeyConfig `key:"verification_keys" reload:"yes"`
	// Take bundles without a signature. On with `--dev` unless
	// `verification_keys` are given.
	AllowUnsigned bool `key:"allow_unsigned" reload:"yes"`
	// Revisions kept of each bundle for rollback.
	KeepRevisions int `key:"keep_revisions"`
	// Days that a revision is kept.
	KeepDays int `key:"keep_days"`
	// Time after which a pushed or pulled bundle that nobody confirmed to be
	// current is stale: decisions that depend on it are denied. 0: never.
	MaxAge time.Duration `key:"max_age"`
	// `max_age` of single bundles.
	MaxAges []MaxAgeConfig `key:"max_ages"`
	// What a bundle must pass before it is activated.
	Gates GatesConfig `key:"gates"`
	// Bundle servers that verdict pulls from; a bundle has one.
	Sources []BundleSourceConfig `key:"sources" reload:"yes"`
	// How a canary activation is shared out.
	Canary CanaryConfig `key:"canary"`
}

// MaxAgeConfig is one entry of bundles.max_ages.
type MaxAgeConfig struct {
	// The bundle's name.
	Name string `key:"name"`
	// Takes the place of `bundles.max_age`; 0: never stale.
	MaxAge time.Duration `key:"max_age"`
}

// VerificationKeyConfig is one entry of bundles.verification_keys.
type VerificationKeyConfig struct {
	// The key id in the signature; each is given once.
	ID string `key:"id"`
	// `EdDSA`, `ES256`, `ES384`, `ES512`, `HS256`, `HS384`, `HS512`, `PS256`,
	// `PS384`, `PS512`, `RS256`, `RS384`, `RS512`.
	Algorithm string `key:"algorithm"`
	// The public key or a certificate, PEM; with HS256, HS384 and HS512 the
	// secret, in a file of mode 0600.
	File string `key:"file"`
	// The secret of HS256, HS384 and HS512 in place of `file`.
	Secret Secret `key:"secret"`
	// Bundles that the key may sign. Empty: every one.
	Names []string `key:"names"`
	// The scope that signatures by the key have.
	Scope string `key:"scope"`
	// When the key becomes valid, RFC 3339. Absent: always was.
	NotBefore time.Time `key:"not_before"`
	// When the key ends to be valid, RFC 3339. Absent: never.
	NotAfter time.Time `key:"not_after"`
}

// GatesConfig is bundles.gates.
type GatesConfig struct {
	// Refuse what the compiler's strict mode refuses: unused variables and
	// imports, deprecated built-ins.
	Strict bool `key:"strict"`
	// Built-in functions that a bundle may not call.
	RefusedBuiltins []string `key:"refused_builtins"`
	// Least line coverage of the bundle's tests, in percent. 0: off.
	Coverage float64 `key:"coverage"`
	// Most that evaluation may become slower than in the active revision, in
	// percent. 0: off.
	Benchmark float64 `key:"benchmark"`
	// Recorded decisions that evaluation is measured with, the newest.
	BenchmarkSample int `key:"benchmark_sample"`
	// Recorded decisions that are replayed, the newest, and must come out as
	// they did. 0: off.
	Replay int `key:"replay"`
	// Age of the decisions that are replayed or measured. 0: any.
	ReplayWindow time.Duration `key:"replay_window"`
	// Decisions that may come out otherwise.
	ReplayFlips int `key:"replay_flips"`
	// Decisions that may come out otherwise, in percent of those replayed;
	// the larger of both bounds counts.
	ReplayShare float64 `key:"replay_share"`
	// Decision paths at which nothing that was denied may be allowed,
	// whatever the bounds above. `a/b/` stands for all below a/b, `/` for
	// all.
	ReplayNoGrants []string `key:"replay_no_grants"`
	// Time of each of the two gates.
	ReplayTimeout time.Duration `key:"replay_timeout"`
	// Time of the bundle's own tests, which always run.
	TestsTimeout time.Duration `key:"tests_timeout"`
}

// BundleSourceConfig is one entry of bundles.sources.
type BundleSourceConfig struct {
	// The bundle's name here.
	Name string `key:"name"`
	// Where the archive is: https, or http on loopback. Without a path it is
	// the base of a bundle server, and the archive is at `/bundles/NAME`.
	URL string `key:"url"`
	// How often it is asked.
	Polling BundlePollingConfig `key:"polling"`
	// A file with the bearer token for it; read for each request.
	TokenFile string `key:"token_file"`
	// The bearer token in place of `token_file`.
	Token Secret `key:"token"`
	// The connection to it.
	TLS BundleTLSConfig `key:"tls"`
}

// BundlePollingConfig is bundles.sources[].polling.
type BundlePollingConfig struct {
	// Least time between two looks. Absent: 1m.
	MinDelay time.Duration `key:"min_delay"`
	// Most time between two looks, after errors too. Absent: 2m.
	MaxDelay time.Duration `key:"max_delay"`
	// How long the server may wait until it has something new, where it can.
	// Absent: it is asked now and then.
	LongPollingTimeout time.Duration `key:"long_polling_timeout"`
}

// BundleTLSConfig is bundles.sources[].tls.
type BundleTLSConfig struct {
	// Authorities of its certificate, PEM. Empty: the system's.
	CAFile string `key:"ca_file"`
	// Client certificate, PEM; read for each connection.
	CertFile string `key:"cert_file"`
	// Its private key, PEM.
	KeyFile string `key:"key_file"`
}

// CanaryConfig is bundles.canary.
type CanaryConfig struct {
	// JSON Pointer into the input to the value that a decision is assigned
	// by, so that one subject always meets the same revision. Empty:
	// `/subject/id`. Where nothing is found the active revision answers.
	Subject string `key:"subject"`
}

// KeysConfig is the keys part.
type KeysConfig struct {
	// `local` or `vault`.
	Provider string `key:"provider"`
	// Keys in Vault or OpenBao.
	Vault VaultConfig `key:"vault"`
	// Keys in the data folder, sealed under a master key.
	Local LocalKeysConfig `key:"local"`
	// Escrow of keys.
	Escrow EscrowConfig `key:"escrow"`
	// What each classification of data asks of its keys.
	Policies KeyPoliciesConfig `key:"policies"`
}

// VaultConfig is keys.vault.
type VaultConfig struct {
	// Vault's URL: https, or http on loopback.
	Address string `key:"address"`
	// Vault namespace.
	Namespace string `key:"namespace"`
	// Where the transit engine is mounted.
	Mount string `key:"mount"`
	// Authorities of Vault's certificate, PEM. Empty: the system's.
	CAFile string `key:"ca_file"`
	// Time of all calls to Vault that one request makes.
	Timeout time.Duration `key:"timeout"`
	// What the names of verdict's keys begin with.
	KeyPrefix string `key:"key_prefix"`
	// How verdict logs in.
	Auth VaultAuthConfig `key:"auth"`
}

// VaultAuthConfig is keys.vault.auth.
type VaultAuthConfig struct {
	// `token`, `approle`, `kubernetes`, `jwt` or `cert`.
	Method string `key:"method"`
	// Where the method is mounted. Empty: at its own name.
	Mount string `key:"mount"`
	// The role to log in as: required with kubernetes, else the server's
	// default (jwt, cert).
	Role string `key:"role"`
	// A file with the token, read again at each login (token).
	TokenFile string `key:"token_file"`
	// A file with the role id (approle).
	RoleIDFile string `key:"role_id_file"`
	// A file with the secret id (approle); empty: the role asks for none.
	SecretIDFile string `key:"secret_id_file"`
	// `secret_id_file` holds a response-wrapping token, which gives the secret
	// id once (approle).
	SecretIDWrapped bool `key:"secret_id_wrapped"`
	// A file with the JWT (kubernetes, jwt); read again at each login.
	JWTFile string `key:"jwt_file"`
	// Client certificate, PEM (cert).
	CertFile string `key:"cert_file"`
	// Its private key, PEM (cert).
	KeyFile string `key:"key_file"`
}

// LocalKeysConfig is keys.local; at most one of its keys is set.
type LocalKeysConfig struct {
	// A file with the master key, mode 0600. Empty, and nothing else given:
	// `master.key` in the data folder, which is made.
	MasterKeyFile string `key:"master_key_file"`
	// A file with the passphrase that the master key is derived from.
	PassphraseFile string `key:"passphrase_file"`
	// The passphrase, or several on lines of their own, the current one first.
	Passphrase Secret `key:"passphrase"`
	// The name of the environment variable that holds the master key.
	MasterKeyEnv string `key:"master_key_env"`
}

// EscrowConfig is keys.escrow.
type EscrowConfig struct {
	// A file with the public key that escrowed keys are wrapped to, PEM.
	PublicKey string `key:"public_key"`
	// Refuse to encrypt, rather than report, when a key that must be
	// escrowed is not.
	Enforce bool `key:"enforce"`
}

// KeyPoliciesConfig is keys.policies.
type KeyPoliciesConfig struct {
	// Public data, which is not encrypted.
	Public KeyPolicyConfig `key:"public"`
	// Internal data.
	Internal KeyPolicyConfig `key:"internal"`
	// Confidential data.
	Confidential KeyPolicyConfig `key:"confidential"`
	// Restricted data.
	Restricted KeyPolicyConfig `key:"restricted"`
	// Top secret data.
	TopSecret KeyPolicyConfig `key:"top_secret"`
}

// KeyPolicyConfig is keys.policies of one classification.
type KeyPolicyConfig struct {
	// `aes256-gcm96` or `rsa-4096`; `AES_256_GCM` and `RSA_4096` mean the same.
	Algorithm string `key:"algorithm"`
	// Days after which a key is rotated, 1 to 365.
	RotationDays int `key:"rotation_days"`
	// Keys must be recoverable from escrow.
	RequireKeyEscrow bool `key:"require_key_escrow"`
	// Data keys may be kept in memory.
	AllowKeyCaching bool `key:"allow_key_caching"`
	// Minutes that a data key is kept in memory, 0 to 1440.
	MaxCacheTimeMinutes int `key:"max_cache_time_minutes"`
}

// AuditConfig is the audit part.
type AuditConfig struct {
	// `durable`: a record is on disk before the answer. `queued`: the answer
	// waits for the queue only. `off`: no log, with `--dev` only.
	Durability string `key:"durability"`
	// The queue before the writer.
	Queue QueueConfig `key:"queue"`
	// Time that a request without a deadline waits for room in the queue and
	// for the disk; then 503.
	QueueWait time.Duration `key:"queue_wait"`
	// Free space at which decisions are refused; at twice as much a warning
	// is logged.
	MinFreeBytes Size `key:"min_free_bytes"`
	// Time that the process stays up after a failed write, answering 503,
	// before it ends.
	PoisonLinger time.Duration `key:"poison_linger"`
	// Names of members whose values are masked in records, in any case and
	// at any depth.
	MaskKeys []string `key:"mask_keys"`
}

// QueueConfig is audit.queue.
type QueueConfig struct {
	// Records that may wait.
	Records int `key:"records"`
	// Bytes that may wait.
	Bytes Size `key:"bytes"`
}
