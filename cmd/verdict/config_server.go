package main

import "time"

// ServerConfig is the server part.
type ServerConfig struct {
	// Where HTTP is served.
	Addr string `key:"addr"`
	// Where gRPC is served; empty: nowhere. When nobody gave the key and the
	// address is taken, verdict says so and serves without gRPC.
	GRPCAddr string `key:"grpc_addr"`
	// A listener of its own for what administers verdict. When it is set,
	// `addr` serves decisions and health only. Empty: `addr` serves all.
	AdminAddr string `key:"admin_addr"`
	// A listener of its own for `/health` and `/metrics`, open to whoever
	// reaches it. Empty: none.
	DiagnosticAddr string `key:"diagnostic_addr"`
	// The URL that callers see. Empty: `http://` or `https://` and the bound
	// address.
	PublicURL string `key:"public_url"`
	// Certificates of the listeners.
	TLS TLSConfig `key:"tls"`
	// Serve in plaintext on an address that is not loopback, for use behind
	// a mesh or a proxy that encrypts.
	AllowPlaintext bool `key:"allow_plaintext"`
	// Route classes that need no credential on `addr`. The only one is
	// `decide`.
	Open []string `key:"open" reload:"yes"`
	// Addresses and networks of proxies whose `X-Forwarded-For` is believed
	// about the client's address, on every path but `/authz/forward`.
	TrustedProxies []string `key:"trusted_proxies" reload:"yes"`
	// Requests in work at one time; above it 503 with `Retry-After`.
	MaxInFlight int `key:"max_in_flight"`
	// Connections open at one time on one listener; above it new ones are
	// answered 503 with `Retry-After` and closed.
	MaxConnections int `key:"max_connections"`
	// Time to send the header of a request.
	ReadHeaderTimeout time.Duration `key:"read_header_timeout"`
	// Size of the header of a request.
	MaxHeader Size `key:"max_header"`
	// Time that requests in work get to end when the process is told to stop.
	DrainTimeout time.Duration `key:"drain_timeout"`
}

// APIConfig is the api part.
type APIConfig struct {
	// Allow PUT, PATCH and DELETE on `/v1/data` and `/v1/policies`. What they
	// write lives in memory, as in OPA. On with `--dev`.
	PolicyWrites bool `key:"policy_writes"`
}

// OPAConfig is the opa part.
type OPAConfig struct {
	// What `POST /` evaluates.
	DefaultDecision string `key:"default_decision"`
	// Answer `GET /v1/status` as OPA does with its status plugin. Off: 500,
	// as OPA without it. verdict's own status is `GET /api/v1/status`.
	Status bool `key:"status"`
	// Who is authenticated on OPA's paths: `verdict`, or OPA's own modes
	// `token` (the bearer token, unchecked, is the identity), `tls` (the subject
	// of the client certificate is, and there must be one), `off`. OPA's modes go
	// with OPA's modes of `authorization`.
	Authentication string `key:"authentication"`
	// Who authorizes on OPA's paths: `verdict`, or OPA's own modes `basic`
	// (`data.system.authz.allow` decides on every request, also for `/health`
	// and `/metrics`) and `off` (everybody may do everything).
	Authorization string `key:"authorization"`
}

// AuthZENConfig is the authzen part.
type AuthZENConfig struct {
	// The decision that evaluations ask.
	Path string `key:"path"`
	// Candidates that one search may look at.
	SearchLimit int `key:"search_limit"`
	// Time that one search may take.
	SearchTimeout time.Duration `key:"search_timeout"`
}

// ExtAuthzConfig is the extauthz part.
type ExtAuthzConfig struct {
	// The decision that a check asks.
	Path string `key:"path"`
	// Decide and record, but let every request through.
	DryRun bool `key:"dry_run"`
	// Size of one gRPC message.
	MaxReceiveMessageSize Size `key:"max_receive_message_size"`
	// Addresses and networks that may ask without a client certificate.
	TrustedPeers []string `key:"trusted_peers"`
	// Decisions that Envoy may name instead of `path`, in the context
	// extension `verdict_path`.
	PathOverrides []string `key:"path_overrides"`
}

// ForwardAuthConfig is the forwardauth part.
type ForwardAuthConfig struct {
	// The decision that a check asks. Empty: `extauthz.path`.
	Path string `key:"path"`
	// Addresses and networks of proxies that may ask without a client
	// certificate, and whose `X-Forwarded-*` and `X-Original-*` are believed.
	TrustedProxies []string `key:"trusted_proxies"`
}

// AuthnConfig is the authn part.
type AuthnConfig struct {
	// Issuers whose JWTs are accepted: they tell who calls, and who is asked
	// about on gateways.
	Issuers []IssuerConfig `key:"issuers" reload:"yes"`
	// Callers known by their certificate. A certificate that matches no
	// entry has no scope.
	Certificates []CertificateConfig `key:"certificates" reload:"yes"`
}

// IssuerConfig is one entry of authn.issuers.
type IssuerConfig struct {
	// The `iss` of its tokens: https, or http on loopback, without query and
	// fragment.
	Issuer string `key:"issuer"`
	// The `aud` that a token must have.
	Audience string `key:"audience"`
	// Signature algorithms that are accepted: `EdDSA`, `ES256` to `ES512`,
	// `PS256` to `PS512`, `RS256` to `RS512`.
	Algorithms []string `key:"algorithms"`
	// Where its keys are: https, or http on loopback. One of `jwks_url` and
	// `jwks_file`.
	JWKSURL string `key:"jwks_url"`
	// A JWK set with its keys, read again when it changes.
	JWKSFile string `key:"jwks_file"`
	// Types of token (`typ`) that are accepted: `at+jwt`, `JWT`. Empty: both.
	// A token without a type is a JWT.
	Accept []string `key:"accept"`
	// How claims become scopes.
	Scopes IssuerScopesConfig `key:"scopes"`
}

// IssuerScopesConfig is scopes of one entry of authn.issuers.
type IssuerScopesConfig struct {
	// The claim that is looked at: a list of strings, or words with spaces
	// between them. `/a/b` is the member `b` of the claim `a`.
	Claim string `key:"claim"`
	// The scopes that each of its values stands for. No entry: no scope.
	Map map[string][]string `key:"map"`
}

// CertificateConfig is one entry of authn.certificates.
type CertificateConfig struct {
	// A subject alternative name: DNS name, URI (a SPIFFE id), mail or IP
	// address. One of `san` and `subject`.
	SAN string `key:"san"`
	// The whole subject, as RFC 2253 writes it.
	Subject string `key:"subject"`
	// The caller's name in records.
	Name string `key:"name"`
	// What the caller may do.
	Scopes []string `key:"scopes"`
}

// LimitsConfig is the limits part.
type LimitsConfig struct {
	// Body of a request for a decision, unpacked.
	RequestBody Size `key:"request_body" reload:"yes"`
	// Body of a policy or data write, unpacked.
	DataBody Size `key:"data_body" reload:"yes"`
	// Body of a request to encrypt or decrypt.
	CryptoBody Size `key:"crypto_body" reload:"yes"`
	// Nesting of an input.
	Depth int `key:"depth" reload:"yes"`
	// Members and elements of an input, counted over the whole of it.
	Members int `key:"members" reload:"yes"`
	// Answer to an ad-hoc query, a partial evaluation or a data filter.
	Answer Size `key:"answer" reload:"yes"`
	// Time of one evaluation.
	Evaluation time.Duration `key:"evaluation" reload:"yes"`
	// Size of a bundle as it comes.
	BundlePacked Size `key:"bundle_packed" reload:"yes"`
	// Size of a bundle unpacked.
	BundleUnpacked Size `key:"bundle_unpacked" reload:"yes"`
	// Files in a bundle.
	BundleFiles int `key:"bundle_files" reload:"yes"`
	// How many times larger than packed a bundle may be unpacked.
	BundleRatio int `key:"bundle_ratio" reload:"yes"`
}

// LogConfig is the log part.
type LogConfig struct {
	// The least that is logged: `debug`, `info`, `warn`, `error`.
	Level string `key:"level"`
	// `json`, or `console` for people.
	Format string `key:"format"`
}
