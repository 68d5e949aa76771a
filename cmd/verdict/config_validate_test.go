package main_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

// Each row is refused, naming the key and what would be right.
func TestValidation(t *testing.T) {
	for _, tt := range []struct {
		args string // separated by |
		want string
	}{
		{"--addr=|", `server.addr: is empty; give HOST:PORT`},
		{"--addr=here", `server.addr: "here" is not HOST:PORT; write for example 127.0.0.1:8181 (--addr)`},
		{"--addr=127.0.0.1:99999", `server.addr: "127.0.0.1:99999" is not HOST:PORT`},
		{"--addr=:8181", `server.addr: ":8181" is not loopback and would be served in plaintext`},
		{"--addr=10.0.0.1:8181|--dev", `server.addr: "10.0.0.1:8181" is not loopback, and --dev serves loopback only`},
		{"server.allow_plaintext=true|--addr=:8181|--dev", `server.addr: ":8181" is not loopback, and --dev serves loopback only`},
		{"server.admin_addr=0.0.0.0:9", `server.admin_addr: "0.0.0.0:9" is not loopback and would`},
		{"server.diagnostic_addr=127.0.0.1:8181", `server.diagnostic_addr: "127.0.0.1:8181" is the address of server.addr too`},
		{"server.public_url=verdict.example", `server.public_url: is not the URL of a server`},
		{"server.tls.cert_file=c.pem", `server.tls.key_file: is empty though server.tls.cert_file is given`},
		{"server.tls.key_file=k.pem", `server.tls.cert_file: is empty though server.tls.key_file is given`},
		{"server.tls.client_ca_file=ca.pem", `server.tls.client_ca_file: needs TLS`},
		{"server.tls.client_crl_file=crl.pem", `server.tls.client_crl_file: needs the authorities`},
		{"server.tls.source=dev", `server.tls.source: "dev" is for --dev only`},
		{"server.tls.source=acme", `server.tls.source: "acme" is not known`},
		{"server.tls.source=vault", `server.tls.vault.role: is empty`},
		{"server.tls.source=vault|server.tls.cert_file=c|server.tls.key_file=k", `server.tls.cert_file: goes with server.tls.source files only`},
		{"server.tls.trust_domains=Example.org", `server.tls.trust_domains: "Example.org" is not a trust domain`},
		{"certificates.issuer=dev", `certificates.issuer: "dev" is for --dev only`},
		{"certificates.issuer=vault", `certificates.vault.server_role: is empty`},
		{"certificates.allowed.dns=*.com", `certificates.allowed.dns: "*.com" is not a DNS name`},
		{"certificates.allowed.spiffe=https://a", `certificates.allowed.spiffe: "https://a"`},
		{"server.open=decied", `server.open: "decied" is not known; write decide`},
		{"server.max_in_flight=0", `server.max_in_flight: 0 is out of bounds; write a number from 1`},
		{"server.max_header=1", `server.max_header: 1 is out of bounds; write a size from 4KiB`},
		{"server.read_header_timeout=0s", `server.read_header_timeout: 0s is out of bounds`},
		{"data_dir=", `data_dir: is empty; give a folder`},
		{"opa.default_decision=/system/main", `opa.default_decision: "/system/main" is not the path of a decision; write it without slashes`},
		{"opa.authentication=tokn", `opa.authentication: "tokn" is not known; write verdict, token, tls, off (nearest: token)`},
		{"opa.authorization=on", `opa.authorization: "on" is not known`},
		{"opa.authentication=token", `opa.authorization: is verdict, which cannot be with opa.authentication token; write basic, off, or leave out both`},
		{"opa.authorization=basic", `opa.authentication: is verdict, which cannot be with opa.authorization basic; write token, tls, off, or leave out both`},
		{"opa.authentication=tls|opa.authorization=off", `opa.authentication: is tls, which needs server.tls.client_ca_file`},
		{"authzen.search_limit=0", `authzen.search_limit: 0 is out of bounds`},
		{"extauthz.trusted_peers=10.0.0.0/33", `extauthz.trusted_peers: "10.0.0.0/33" is not an address or network`},
		{"extauthz.path_overrides=a//b", `extauthz.path_overrides: "a//b" is not the path of a decision`},
		{"forwardauth.trusted_proxies=proxy", `forwardauth.trusted_proxies: "proxy" is not an address`},
		{"bundles.verification_keys=[{}]", `bundles.verification_keys[0].id: is empty`},
		{"bundles.verification_keys=[{id: a, algorithm: none}]", `bundles.verification_keys[0].algorithm: "none" is not known`},
		{"bundles.verification_keys=[{id: a}, {id: a}]", `bundles.verification_keys[1].id: "a" is given twice`},
		{"bundles.verification_keys=[{not_before: 2027-01-01T00:00:00Z, not_after: 2026-01-01T00:00:00Z}]", `not_after: is not after not_before`},
		{"bundles.keep_revisions=0", `bundles.keep_revisions: 0 is out of bounds`},
		{"bundles.gates.coverage=101", `bundles.gates.coverage: 101 is out of bounds`},
		{"bundles.gates.benchmark=-1", `bundles.gates.benchmark: -1 is out of bounds`},
		{"bundles.sources=[{name: a, url: 'http://far.example/a'}]", `bundles.sources[0].url: is not https; http is for loopback only`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', polling: {min_delay: 1ms}}]", `bundles.sources[0].polling.min_delay: 1ms is out of bounds`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', polling: {max_delay: 30s}}]", `bundles.sources[0].polling.max_delay: 30s is less than min_delay, 1m0s`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', polling: {long_polling_timeout: 2h}}]", `bundles.sources[0].polling.long_polling_timeout: 2h0m0s is out of bounds`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', tls: {key_file: k}}]", `bundles.sources[0].tls: takes cert_file and key_file together`},
		{"bundles.sources=[{name: a, url: 'https://a.example'}, {name: a, url: 'https://b.example'}]", `bundles.sources[1].name: "a" is given twice`},
		{"bundles.canary.subject=subject", `bundles.canary.subject: pointer "subject": it must begin with a slash (RFC 6901); write for example /subject/id`},
		{"bundles.canary.subject=" + strings.Repeat("/a", 40), `it has more than 32 steps`},
		{"bundles.sources=[{name: ../a, url: 'https://far.example/a'}]", `bundles.sources[0].name: "../a" is no name of a bundle`},
		{"keys.provider=valt", `keys.provider: "valt" is not known; write local, vault (nearest: vault)`},
		{"keys.provider=vault", `keys.vault.address: is not a URL`},
		{"keys.vault.address=https://u:secret@vault.example", `keys.vault.address: holds a user name or password; put the credential into a file`},
		{"keys.provider=vault|keys.vault.address=https://v", `keys.vault.auth.token_file: is empty`},
		{"keys.provider=vault|keys.vault.auth.method=approle", `keys.vault.auth.role_id_file: is empty`},
		{"keys.provider=vault|keys.vault.auth.method=approle|keys.vault.auth.secret_id_wrapped=true", `keys.vault.auth.secret_id_file: is empty`},
		{"keys.provider=vault|keys.vault.auth.method=kubernetes", `keys.vault.auth.role: is empty`},
		{"keys.provider=vault|keys.vault.auth.method=jwt", `keys.vault.auth.jwt_file: is empty`},
		{"keys.provider=vault|keys.vault.auth.method=cert", `keys.vault.auth.key_file: is empty`},
		{"keys.vault.mount=a/../b", `keys.vault.mount: "a/../b" is not a path in Vault`},
		{"keys.vault.mount=transit/", `keys.vault.mount: "transit/" is not a path in Vault`},
		{"keys.vault.key_prefix=a?b", `keys.vault.key_prefix: "a?b" is not a path in Vault`},
		{"keys.vault.key_prefix=a/b", `keys.vault.key_prefix: "a/b" is not the beginning of a name`},
		{"keys.vault.auth.method=ldap", `keys.vault.auth.method: "ldap" is not known`},
		{"keys.local.master_key_file=a|keys.local.master_key_env=B", `keys.local: takes one of`},
		{"keys.local.passphrase=changeme", `keys.local.passphrase: is a default that everybody tries first`},
		{"keys.local.passphrase=file:phrase", `keys.local.passphrase: does not name a file by its whole path`},
		{"keys.local.passphrase=vault:secret/verdict#phrase", `keys.vault.address: is not a URL`},
		{"bundles.verification_keys=[{id: a, algorithm: HS256}]", `bundles.verification_keys[0]: takes one of file and secret`},
		{"bundles.verification_keys=[{id: a, algorithm: ES256, file: a.pem, secret: env:A}]", `bundles.verification_keys[0].secret: is for HS256`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', token_file: t, token: env:T}]", `bundles.sources[0].token: stands beside token_file`},
		{"bundles.sources=[{name: a, url: 'https://far.example/a', token: '${TOKEN}'}]", `bundles.sources[0].token: looks like a variable of a shell`},
		{"secrets.refresh=1ms", `secrets.refresh: 1ms is out of bounds`},
		{"keys.escrow.enforce=true", `keys.escrow.public_key: is empty`},
		{"keys.policies.restricted.rotation_days=366", `keys.policies.restricted.rotation_days: 366 is out of bounds; write a number from 1 to 365`},
		{"keys.policies.top_secret.algorithm=fernet", `keys.policies.top_secret.algorithm: "fernet" is not known`},
		{"keys.policies.top_secret.algorithm=RSA_2048", `keys.policies.top_secret.algorithm: "RSA_2048" is not known; write aes256-gcm96, rsa-4096`},
		{"audit.durability=off", `audit.durability: "off" keeps no record and is for --dev only`},
		{"audit.queue.records=0", `audit.queue.records: 0 is out of bounds`},
		{"audit.queue.bytes=1KiB", `audit.queue.bytes: 1KiB is out of bounds; write a size from 64KiB to 16GiB`},
		{"audit.mask_keys=['']", `audit.mask_keys: is empty`},
		{"authn.issuers=[{issuer: 'http://id.example'}]", `authn.issuers[0].issuer: is not https`},
		{"authn.issuers=[{algorithms: [none]}]", `authn.issuers[0].algorithms: "none" is not known`},
		{"authn.issuers=[{jwks_url: 'https://a', jwks_file: b}]", `authn.issuers[0]: takes one of jwks_url and jwks_file`},
		{"authn.issuers=[{algorithms: [HS256]}]", `authn.issuers[0].algorithms: "HS256" is not known`},
		{"authn.issuers=[{issuer: 'https://a?b'}]", `authn.issuers[0].issuer: has a query`},
		{"authn.issuers=[{issuer: 'https://a'}, {issuer: 'https://a'}]", `authn.issuers[1].issuer: is given twice`},
		{"authn.issuers=[{scopes: {map: {x: [decide]}}}]", `authn.issuers[0].scopes.claim: is empty`},
		{"authn.issuers=[{accept: [id+jwt]}]", `authn.issuers[0].accept: "id+jwt" is not known`},
		{"authn.issuers=[{jwks_url: 'http://id.example/keys'}]", `authn.issuers[0].jwks_url: is not https`},
		{"server.trusted_proxies=proxy.example", `server.trusted_proxies: "proxy.example" is not an address`},
		{"authn.issuers=[{scopes: {map: {x: [decid]}}}]", `authn.issuers[0].scopes.map.x: unknown scope "decid"`},
		{"authn.certificates=[{name: a}]", `authn.certificates[0]: takes one of san and subject`},
		{"authn.certificates=[{san: a, name: a, scopes: [root]}]", `authn.certificates[0].scopes: unknown scope "root"`},
		{"limits.depth=100000", `limits.depth: 100000 is out of bounds; write a number from 1 to 1000`},
		{"limits.request_body=0", `limits.request_body: 0 is out of bounds`},
		{"limits.answer=1", `limits.answer: 1 is out of bounds; write a size from 1KiB to 1GiB`},
		{"limits.evaluation=1h", `limits.evaluation: 1h0m0s is out of bounds`},
		{"log.level=loud", `log.level: "loud" is not known`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, _, err := verdict.Load(flags(tt.args), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret@") {
				t.Error("the error shows a password")
			}
		})
	}
}

// flags turns a row's arguments, separated by |, into a command line.
func flags(row string) []string {
	var args []string
	for arg := range strings.SplitSeq(row, "|") {
		switch {
		case arg == "":
		case strings.HasPrefix(arg, "--"):
			args = append(args, arg)
		default:
			args = append(args, "--set", arg)
		}
	}
	return args
}

func TestAccepted(t *testing.T) {
	for _, row := range []string{
		"--addr=localhost:0|server.admin_addr=localhost:0",
		"--addr=[::1]:8181",
		"--addr=:8181|server.allow_plaintext=true",
		"--addr=0.0.0.0:443|server.tls.cert_file=c|server.tls.key_file=k|server.tls.client_ca_file=ca",
		"audit.durability=off|--dev",
		"audit.durability=queued|audit.min_free_bytes=1",
		"authn.certificates=[{san: 'spiffe://a/b', name: b, scopes: [decide, 'bundles:*:read']}]",
		"opa.authentication=verdict|opa.authorization=verdict|opa.status=true",
		"opa.authentication=token|opa.authorization=basic",
		"opa.authentication=off|opa.authorization=off",
		"opa.authentication=tls|opa.authorization=basic|server.tls.cert_file=c|server.tls.key_file=k|server.tls.client_ca_file=ca",
		"bundles.allow_unsigned=true|authn.issuers=[]",
		"authn.issuers=[{issuer: 'https://a', audience: b, algorithms: [ES256], jwks_file: c}, {issuer: 'http://127.0.0.1:1/x', audience: b, algorithms: [EdDSA, RS256], jwks_url: 'http://localhost/k', accept: [JWT], scopes: {claim: /a/b, map: {x: [decide]}}}]",
		"server.trusted_proxies=10.0.0.0/8,::1",
		"bundles.allow_unsigned=false|--dev",
		"bundles.verification_keys=[{id: a, algorithm: HS256, file: a}, {id: b, algorithm: EdDSA, file: b.pem, names: [x], scope: y}]",
	} {
		if _, _, err := verdict.Load(flags(row), nil); err != nil {
			t.Errorf("%s: %v", row, err)
		}
	}
}

// What opens everything is named.
func TestExposed(t *testing.T) {
	_, warnings, err := verdict.Load(flags("opa.authentication=token|opa.authorization=off"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || warnings[0].Key != "opa.authorization" || !strings.Contains(warnings[0].Text, "everybody who reaches verdict") {
		t.Errorf("warnings %v", warnings)
	}
}

// The document's example of a policy, in its own words.
func TestPolicyAliases(t *testing.T) {
	const policy = "keys.policies.confidential."
	for _, name := range []string{"RSA_4096", "rsa_4096", "AES_256_GCM", "aes256-gcm96"} {
		row := policy + "algorithm=" + name + "|" + policy + "rotation_days=7|" + policy + "allow_key_caching=false|" + policy + "max_cache_time_minutes=0"
		if _, warnings, err := verdict.Load(flags(row), nil); err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", name, warnings, err)
		}
	}
}

func TestDiff(t *testing.T) {
	base := "--data-dir=/d|"
	for _, tt := range []struct {
		row     string
		changed []string
		err     string
	}{
		{"", nil, ""},
		{"limits.depth=10|server.open=decide|server.tls.cert_file=c|server.tls.key_file=k", []string{"server.tls.cert_file", "server.tls.key_file", "server.open", "limits.depth"}, ""},
		{"data_dir=/d", nil, ""},
		{"limits.depth=10|audit.queue.records=7", nil, "audit.queue.records: cannot change without a restart; the configuration stays as it was (--set)"},
		{"--addr=127.0.0.1:1|log.level=debug", nil, "2 problems in the configuration:\n  server.addr: cannot"},
	} {
		running, err := verdict.Read(flags(base), nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := verdict.Read(flags(base+tt.row), nil)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := running.Diff(next)
		slices.Sort(changed)
		slices.Sort(tt.changed)
		if !slices.Equal(changed, tt.changed) {
			t.Errorf("%s: changed %v, want %v", tt.row, changed, tt.changed)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %s", tt.row, err, tt.err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]verdict.Size{"0": 0, "7": 7, "7B": 7, "1KiB": 1024, "64 MiB": 64 << 20, "2GB": 2e9, "1TiB": 1 << 40} {
		got, err := verdict.ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1M", "9223372036854775808", "9223372036854775807KiB", "1 MiB x"} {
		if got, err := verdict.ParseSize(text); err == nil || got != 0 {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"server.addr", "server.grpc_addr", "limits.depth"}
	for key, want := range map[string]string{"server.adr": "server.addr", "depth": "limits.depth", "serv.grpc_adr": "server.grpc_addr"} {
		if got := verdict.Nearest(key, candidates); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
}

func TestRedactURLs(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/x":                "https://a.example/x",
		"https://u:pw@a.example":             "https://u:xxxxx@a.example",
		"[{name: a, url: 'https://u:pw@a'}]": "[{name: a, url: 'https://u:xxxxx@a'}]",
		"plain":                              "plain",
	} {
		if got := verdict.RedactURLs(in); got != want {
			t.Errorf("%s became %s", in, got)
		}
	}
}

// A secret that is written out is never printed, and a change of it is seen.
func TestSecretsInConfiguration(t *testing.T) {
	const inline, other = "Hn4x8Wq1Zt6Lr0Vc3Ky9Pf5Js7Bd2MgA", "Tc7e2Xo9Rz4Uw1Ib6Gm3Qv8Nl5Yh0KpD"
	list := func(token string) string {
		return "bundles.sources=[{name: a, url: 'https://far.example/a', token: '" + token + "'}]"
	}
	load := func(row string) *verdict.Config {
		c, _, err := verdict.Load(flags(row), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := load(list(inline))
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(encoded), fmt.Sprintf("%v %+v %#v", c, c, c), fmt.Sprint(verdict.Settings(c))} {
		if strings.Contains(text, inline) {
			t.Errorf("the secret is printed: %s", text)
		}
	}
	if printed := fmt.Sprint(verdict.Settings(c)); !strings.Contains(printed, "token: (redacted)") {
		t.Errorf("printed %s", printed)
	}
	if changed, err := c.Diff(load(list(other))); err != nil || !slices.Equal(changed, []string{"bundles.sources"}) {
		t.Errorf("changed %v: %v", changed, err)
	}
	if changed, err := c.Diff(load(list(inline))); err != nil || len(changed) != 0 {
		t.Errorf("the same has changed %v: %v", changed, err)
	}
	printed := fmt.Sprint(verdict.Settings(load("keys.local.passphrase=env:PHRASE")))
	if !strings.Contains(printed, "env:PHRASE") {
		t.Errorf("a reference is not printed: %s", printed)
	}
}
