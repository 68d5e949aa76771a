package main

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pull"
	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// maxDays bounds the ages that are counted in days.
const maxDays = 36500

// signatures are the signature algorithms with a public key; a shared secret
// proves nothing about who signed.
func signatures() []string {
	return []string{"EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// bundleSignatures are all that OPA signs bundles with, and EdDSA.
func bundleSignatures() []string {
	var names []string
	for _, a := range signature.Algorithms() {
		names = append(names, string(a))
	}
	return names
}

// at names a key of entry i of a list.
func at(list string, i int, key string) string {
	return list + "[" + strconv.Itoa(i) + "]." + key
}

// maxAges checks how old bundles may become.
func (r *checker) maxAges(b *BundlesConfig) {
	const list = "bundles.max_ages"
	r.duration("bundles.max_age", b.MaxAge, 0, maxDays*24*time.Hour)
	names := map[string]bool{}
	for i, m := range b.MaxAges {
		r.require(at(list, i, "name"), m.Name, "the bundle's name")
		if names[m.Name] {
			r.fail(at(list, i, "name"), "%q is given twice; give each bundle one age", m.Name)
		}
		names[m.Name] = true
		r.duration(at(list, i, "max_age"), m.MaxAge, 0, maxDays*24*time.Hour)
	}
}

// logGates checks the gates that ask the log.
func (r *checker) logGates(g *GatesConfig) {
	if g.Benchmark < 0 {
		r.fail("bundles.gates.benchmark", "%v is out of bounds; write a percentage of 0 or more", g.Benchmark)
	}
	r.between("bundles.gates.benchmark_sample", g.BenchmarkSample, 10, replay.MaxSample)
	r.between("bundles.gates.replay", g.Replay, 0, replay.MaxLimit)
	r.duration("bundles.gates.replay_window", g.ReplayWindow, 0, maxDays*24*time.Hour)
	r.between("bundles.gates.replay_flips", g.ReplayFlips, 0, replay.MaxLimit)
	if g.ReplayShare < 0 || g.ReplayShare > 100 {
		r.fail("bundles.gates.replay_share", "%v is out of bounds; write a percentage from 0 to 100", g.ReplayShare)
	}
	for i, path := range g.ReplayNoGrants {
		if _, err := eval.ParsePath(path); err != nil {
			r.fail("bundles.gates.replay_no_grants["+strconv.Itoa(i)+"]", "%v; write a decision path such as shop/allow", err)
		}
	}
	r.duration("bundles.gates.replay_timeout", g.ReplayTimeout, time.Second, time.Hour)
}

func (r *checker) bundles(b *BundlesConfig) {
	const list = "bundles.verification_keys"
	ids := map[string]bool{}
	for i, k := range b.VerificationKeys {
		r.require(at(list, i, "id"), k.ID, "the key id that signatures name")
		if ids[k.ID] {
			r.fail(at(list, i, "id"), "%q is given twice; give each key its own", k.ID)
		}
		ids[k.ID] = true
		r.oneOf(at(list, i, "algorithm"), k.Algorithm, bundleSignatures()...)
		if signature.Algorithm(k.Algorithm).Secret() {
			r.exactlyOne(list+"["+strconv.Itoa(i)+"]", "file", k.File, "secret", string(k.Secret))
		} else {
			r.require(at(list, i, "file"), k.File, "the file of the key")
			if k.Secret != "" {
				r.fail(at(list, i, "secret"), "is for HS256, HS384 and HS512; write the public key into file")
			}
		}
		if !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter) {
			r.fail(at(list, i, "not_after"), "is not after not_before, so the key is never valid; write a later time")
		}
	}
	r.between("bundles.keep_revisions", b.KeepRevisions, 1, 10_000)
	r.between("bundles.keep_days", b.KeepDays, 0, maxDays)
	r.maxAges(b)
	if g := b.Gates.Coverage; g < 0 || g > 100 {
		r.fail("bundles.gates.coverage", "%v is out of bounds; write a percentage from 0 to 100", g)
	}
	r.logGates(&b.Gates)
	r.duration("bundles.gates.tests_timeout", b.Gates.TestsTimeout, time.Millisecond, time.Hour)
	r.sources(b.Sources)
	if _, err := eval.NewShare("", b.Canary.Subject, 100); err != nil {
		r.fail("bundles.canary.subject", "%v; write for example /subject/id", err)
	}
}

func (r *checker) sources(list []BundleSourceConfig) {
	const sources = "bundles.sources"
	if len(list) > pull.MaxSources {
		r.fail(sources, "has %d entries; at most %d are taken", len(list), pull.MaxSources)
	}
	names := map[string]bool{}
	for i, s := range list {
		r.require(at(sources, i, "name"), s.Name, "the bundle's name")
		if s.Name != "" && !bundles.ValidName(s.Name) {
			r.fail(at(sources, i, "name"), "%q is no name of a bundle; write up to 128 letters, digits, dots, dashes and underscores", s.Name)
		}
		if names[s.Name] {
			r.fail(at(sources, i, "name"), "%q is given twice; a bundle has one source", s.Name)
		}
		names[s.Name] = true
		r.url(at(sources, i, "url"), s.URL)
		low, high := s.Polling.MinDelay, s.Polling.MaxDelay
		if low != 0 {
			r.duration(at(sources, i, "polling.min_delay"), low, time.Second, 24*time.Hour)
		}
		if high != 0 {
			r.duration(at(sources, i, "polling.max_delay"), high, time.Second, 24*time.Hour)
			if high < cmp.Or(low, pull.DefaultMinDelay) {
				r.fail(at(sources, i, "polling.max_delay"), "%v is less than min_delay, %v; write as much or more", high, cmp.Or(low, pull.DefaultMinDelay))
			}
		}
		if wait := s.Polling.LongPollingTimeout; wait != 0 {
			r.duration(at(sources, i, "polling.long_polling_timeout"), wait, time.Second, pull.MaxWait)
		}
		if s.TokenFile != "" && s.Token != "" {
			r.fail(at(sources, i, "token"), "stands beside token_file; keep one")
		}
		if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
			r.fail(at(sources, i, "tls"), "takes cert_file and key_file together")
		}
	}
}

func (r *checker) keys(k *KeysConfig) {
	r.oneOf("keys.provider", k.Provider, "local", "vault")
	if k.Provider == "vault" || k.Vault.Address != "" || r.config.vaultPKI() {
		r.url("keys.vault.address", k.Vault.Address)
	}
	r.require("keys.vault.mount", k.Vault.Mount, "where the transit engine is mounted")
	r.segments("keys.vault.mount", k.Vault.Mount)
	r.segments("keys.vault.key_prefix", k.Vault.KeyPrefix)
	if strings.Contains(k.Vault.KeyPrefix, "/") || len(k.Vault.KeyPrefix) > keys.MaxName/2 {
		r.fail("keys.vault.key_prefix", "%q is not the beginning of a name; write at most %d characters without a slash", k.Vault.KeyPrefix, keys.MaxName/2)
	}
	r.duration("keys.vault.timeout", k.Vault.Timeout, 10*time.Millisecond, 3*time.Second)
	r.oneOf("keys.vault.auth.method", k.Vault.Auth.Method, "token", "approle", "kubernetes", "jwt", "cert")
	if k.Provider == "vault" || r.config.vaultPKI() {
		r.vaultAuth(&k.Vault.Auth)
	}
	given := 0
	for _, v := range []string{k.Local.MasterKeyFile, k.Local.PassphraseFile, k.Local.MasterKeyEnv, string(k.Local.Passphrase)} {
		if v != "" {
			given++
		}
	}
	if given > 1 {
		r.fail("keys.local", "takes one of master_key_file, passphrase_file, passphrase and master_key_env")
	}
	if k.Escrow.Enforce {
		r.require("keys.escrow.public_key", k.Escrow.PublicKey, "the file of the escrow key, since keys.escrow.enforce is on")
	}
	for _, p := range []struct {
		name   string
		policy KeyPolicyConfig
	}{
		{"public", k.Policies.Public},
		{"internal", k.Policies.Internal},
		{"confidential", k.Policies.Confidential},
		{"restricted", k.Policies.Restricted},
		{"top_secret", k.Policies.TopSecret},
	} {
		prefix := "keys.policies." + p.name + "."
		if _, err := keys.ParseType(p.policy.Algorithm); err != nil {
			r.oneOf(prefix+"algorithm", p.policy.Algorithm, string(keys.AES256), string(keys.RSA4096))
		}
		r.between(prefix+"rotation_days", p.policy.RotationDays, 1, 365)
		r.between(prefix+"max_cache_time_minutes", p.policy.MaxCacheTimeMinutes, 0, 1440)
	}
}

// segments checks what becomes a part of a path in Vault; empty is for others to
// judge.
func (r *checker) segments(key, value string) {
	for part := range strings.SplitSeq(value, "/") {
		bad := strings.HasPrefix(part, ".") || strings.ContainsFunc(part, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
		})
		if bad || part == "" && value != "" {
			r.fail(key, "%q is not a path in Vault; write letters, digits, dots, underscores and hyphens, a dot not first", value)
			return
		}
	}
}

// vaultAuth checks that the method has what it logs in with.
func (r *checker) vaultAuth(a *VaultAuthConfig) {
	const auth = "keys.vault.auth."
	switch vault.Method(a.Method) {
	case vault.Token:
		r.require(auth+"token_file", a.TokenFile, "the file of the token")
	case vault.AppRole:
		r.require(auth+"role_id_file", a.RoleIDFile, "the file of the role id")
		if a.SecretIDWrapped {
			r.require(auth+"secret_id_file", a.SecretIDFile, "the file of the wrapping token, since keys.vault.auth.secret_id_wrapped is on")
		}
	case vault.Kubernetes:
		r.require(auth+"role", a.Role, "the role to log in as")
		r.require(auth+"jwt_file", a.JWTFile, "the file of the service account's token")
	case vault.JWT:
		r.require(auth+"jwt_file", a.JWTFile, "the file of the JWT")
	case vault.Certificate:
		r.require(auth+"cert_file", a.CertFile, "the file of the certificate")
		r.require(auth+"key_file", a.KeyFile, "the file of its key")
	}
}

func (r *checker) audit(a *AuditConfig, dev bool) {
	r.oneOf("audit.durability", a.Durability, string(audit.Durable), string(audit.Queued), string(audit.Off))
	if a.Durability == string(audit.Off) && !dev {
		r.fail("audit.durability", "\"off\" keeps no record and is for --dev only; write durable or queued")
	}
	r.between("audit.queue.records", a.Queue.Records, 1, 1<<20)
	r.size("audit.queue.bytes", a.Queue.Bytes, 64*KiB, 16*GiB)
	r.duration("audit.queue_wait", a.QueueWait, time.Millisecond, time.Minute)
	r.size("audit.min_free_bytes", a.MinFreeBytes, 1, 1<<50)
	r.duration("audit.poison_linger", a.PoisonLinger, time.Millisecond, time.Hour)
	for _, k := range a.MaskKeys {
		r.require("audit.mask_keys", k, "the name of a member")
	}
}

func (r *checker) authn(a *AuthnConfig) {
	const issuers, certificates = "authn.issuers", "authn.certificates"
	seen := map[string]bool{}
	for i, s := range a.Issuers {
		r.url(at(issuers, i, "issuer"), s.Issuer)
		if strings.ContainsAny(s.Issuer, "?#") {
			r.fail(at(issuers, i, "issuer"), "has a query or a fragment, which an issuer has not (RFC 8414, section 2)")
		}
		if seen[s.Issuer] {
			r.fail(at(issuers, i, "issuer"), "is given twice; give each issuer one entry")
		}
		seen[s.Issuer] = true
		r.require(at(issuers, i, "audience"), s.Audience, "the audience that tokens must have")
		if len(s.Algorithms) == 0 {
			r.fail(at(issuers, i, "algorithms"), "is empty; list the algorithms that are accepted, for example [ES256]")
		}
		r.allOf(at(issuers, i, "algorithms"), s.Algorithms, signatures()...)
		r.exactlyOne(issuers+"["+strconv.Itoa(i)+"]", "jwks_url", s.JWKSURL, "jwks_file", s.JWKSFile)
		if s.JWKSURL != "" {
			r.url(at(issuers, i, "jwks_url"), s.JWKSURL)
		}
		r.allOf(at(issuers, i, "accept"), s.Accept, "at+jwt", "JWT")
		if len(s.Scopes.Map) > 0 {
			r.require(at(issuers, i, "scopes.claim"), s.Scopes.Claim, "the claim whose values scopes.map has")
		}
		for value, scopes := range s.Scopes.Map {
			r.scopes(at(issuers, i, "scopes.map."+value), scopes)
		}
	}
	for i, c := range a.Certificates {
		r.exactlyOne(certificates+"["+strconv.Itoa(i)+"]", "san", c.SAN, "subject", c.Subject)
		r.require(at(certificates, i, "name"), c.Name, "the caller's name in records")
		r.scopes(at(certificates, i, "scopes"), c.Scopes)
	}
}

// maxDepth keeps what recurses over an input off the end of the stack.
const maxDepth = 1000

func (r *checker) limits(l *LimitsConfig) {
	r.size("limits.request_body", l.RequestBody, 1, GiB)
	r.size("limits.data_body", l.DataBody, 1, 16*GiB)
	r.size("limits.crypto_body", l.CryptoBody, 1, GiB)
	r.between("limits.depth", l.Depth, 1, maxDepth)
	r.between("limits.members", l.Members, 1, 100_000_000)
	r.size("limits.answer", l.Answer, KiB, GiB)
	r.duration("limits.evaluation", l.Evaluation, time.Millisecond, time.Minute)
	r.size("limits.bundle_packed", l.BundlePacked, 1, 16*GiB)
	r.size("limits.bundle_unpacked", l.BundleUnpacked, 1, 64*GiB)
	r.between("limits.bundle_files", l.BundleFiles, 1, 10_000_000)
	r.between("limits.bundle_ratio", l.BundleRatio, 1, 100_000)
}

// scopes checks the scopes of a caller.
func (r *checker) scopes(key string, scopes []string) {
	if _, err := tokens.ParseScopes(scopes); err != nil {
		r.fail(key, "%v", err)
	}
}
