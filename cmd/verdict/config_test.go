package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

// writeConfig puts text into a file and gives its path.
func writeConfig(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "verdict.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultsAreValid(t *testing.T) {
	c, warnings, err := verdict.Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings without any setting: %v", warnings)
	}
	if c.Server.Addr != "127.0.0.1:8181" || c.DataDir != "./data" || c.Limits.RequestBody != verdict.MiB || !c.StandardPolicies {
		t.Errorf("defaults: %+v", c)
	}
	if c.ForwardAuth.Path != c.ExtAuthz.Path {
		t.Errorf("forwardauth.path = %q", c.ForwardAuth.Path)
	}
}

// Each source overrides the one before it, and the origin says which it was.
func TestSourcesInOrder(t *testing.T) {
	file := writeConfig(t, "data_dir: /file\n")
	for _, tt := range []struct {
		name    string
		args    []string
		environ []string
		want    string
		origin  string
	}{
		{"default", nil, nil, "./data", "default"},
		{"file", []string{"--config", file}, nil, "/file", file + ":1"},
		{"environment", []string{"--config", file}, []string{"VERDICT_DATA_DIR=/env"}, "/env", "VERDICT_DATA_DIR"},
		{"set", []string{"--config", file, "--set", "data_dir=/set"}, []string{"VERDICT_DATA_DIR=/env"}, "/set", "--set"},
		{"flag", []string{"--data-dir", "/flag", "--config", file, "--set", "data_dir=/set"}, []string{"VERDICT_DATA_DIR=/env"}, "/flag", "--data-dir"},
		{"last set", []string{"--set", "data_dir=/a", "--set", "data_dir=/b"}, nil, "/b", "--set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := verdict.Load(tt.args, tt.environ)
			if err != nil {
				t.Fatal(err)
			}
			if c.DataDir != tt.want {
				t.Errorf("data_dir = %q, want %q", c.DataDir, tt.want)
			}
			if got := c.Origin("data_dir").String(); got != tt.origin {
				t.Errorf("origin = %q, want %q", got, tt.origin)
			}
		})
	}
}

func TestDevChangesDefaultsOnly(t *testing.T) {
	for _, tt := range []struct {
		name           string
		args           []string
		writes, unsign bool
		origin         string
	}{
		{"without", nil, false, false, "default"},
		{"with", []string{"--dev"}, true, true, "default with --dev"},
		{"writes given", []string{"--dev", "--set", "api.policy_writes=false"}, false, true, "--set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := verdict.Read(tt.args, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.API.PolicyWrites != tt.writes || c.Bundles.AllowUnsigned != tt.unsign {
				t.Errorf("policy_writes %v, allow_unsigned %v", c.API.PolicyWrites, c.Bundles.AllowUnsigned)
			}
			if got := c.Origin("api.policy_writes").String(); got != tt.origin {
				t.Errorf("origin %q, want %q", got, tt.origin)
			}
		})
	}
	c, err := verdict.Read([]string{"--dev", "--set", "bundles.verification_keys=[{id: a}]"}, nil)
	if err != nil || c.Bundles.AllowUnsigned {
		t.Errorf("allow_unsigned is on though keys are given (%v)", err)
	}
}

func TestFileTakesEveryKind(t *testing.T) {
	file := writeConfig(t, `
server:
  open: [decide]
  tls:            # all below is commented out
bundles:
  max_age: 7d
  gates: {coverage: 87.5}
  verification_keys:
    - id: release
      algorithm: ES256
      names: [app, net]
      not_before: 2026-01-02T03:04:05Z
authn:
  issuers:
    - issuer: https://id.example
      scopes: {claim: groups, map: {ops: [admin], apps: [decide, "bundles:app"]}}
limits: &limits
  request_body: 2MiB
  data_body: 4096
`)
	c, err := verdict.Read([]string{"--config", file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := c.Bundles.VerificationKeys[0]
	if key.ID != "release" || !slices.Equal(key.Names, []string{"app", "net"}) || !key.NotBefore.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("verification key %+v", key)
	}
	if got := c.Authn.Issuers[0].Scopes.Map["apps"]; !slices.Equal(got, []string{"decide", "bundles:app"}) {
		t.Errorf("scopes %v", got)
	}
	if c.Bundles.MaxAge != 7*24*time.Hour || c.Bundles.Gates.Coverage != 87.5 || c.Limits.RequestBody != 2*verdict.MiB || c.Limits.DataBody != 4096 {
		t.Errorf("values %v %v %v %v", c.Bundles.MaxAge, c.Bundles.Gates.Coverage, c.Limits.RequestBody, c.Limits.DataBody)
	}
	if got, want := c.Origin("bundles.verification_keys").String(), file+":9"; got != want {
		t.Errorf("origin %s, want %s", got, want)
	}
}

// What cannot be read is refused with the key, the place, and what is right.
func TestFileProblems(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "server:\n  adr: x\n", `server.adr: unknown key; the nearest known one is server.addr (FILE:2)`},
		{"wrong section", "addr: x\n", `addr: unknown key; the nearest known one is server.addr (FILE:1)`},
		{"unknown section", "audits: {}\n", `audits: unknown key; the nearest known one is audit (FILE:1)`},
		{"unknown in a list", "authn:\n  issuers:\n  - {isuer: x}\n", `authn.issuers[0].isuer: unknown key; the nearest known one is authn.issuers[].issuer (FILE:3)`},
		{"twice", "data_dir: a\ndata_dir: b\n", `data_dir: is given twice, first in line 1; keep one (FILE:2)`},
		{"no value", "data_dir:\n", `data_dir: has no value; give one or remove the line (FILE:1)`},
		{"section as value", "audit: durable\n", `audit: is a section of keys, not a value; its keys are durability, queue,`},
		{"list as value", "data_dir: [a]\n", `data_dir: takes one value, not a list or section (FILE:1)`},
		{"value as list", "server:\n  open: decide\n", `server.open: takes a list, as in [a, b] (FILE:2)`},
		{"bool", "api: {policy_writes: yes}\n", `api.policy_writes: "yes" is not true or false (FILE:1)`},
		{"size", "limits: {data_body: 1MB5}\n", `limits.data_body: "1MB5" has the unknown unit "MB5"; write KiB,`},
		{"duration", "limits: {evaluation: 100}\n", `limits.evaluation: "100" is not a duration; write a number with a unit,`},
		{"time", "bundles: {verification_keys: [{not_after: tomorrow}]}\n", `bundles.verification_keys[0].not_after: "tomorrow" is not a time;`},
		{"syntax", "server: {\n", `did not find expected node content`},
		{"two documents", "data_dir: a\n---\ndata_dir: b\n", `only one YAML document may stand in the file`},
		{"not a mapping", "- a\n", `the file must hold keys and values`},
		{"merge key", "server:\n  <<: {addr: x}\n", `server.<<: unknown key`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeConfig(t, tt.text)
			_, err := verdict.Read([]string{"--config", file}, nil)
			want := strings.ReplaceAll(tt.want, "FILE", file)
			if _, ok := errors.AsType[verdict.Problems](err); !ok || !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestEmptyFileIsNoSetting(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "server:\n"} {
		if _, _, err := verdict.Load([]string{"--config", writeConfig(t, text)}, nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFileThatIsNotThere(t *testing.T) {
	_, err := verdict.Read([]string{"--config", filepath.Join(t.TempDir(), "no.yaml")}, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	big := writeConfig(t, strings.Repeat("# filler\n", 200_000))
	if _, err := verdict.Read([]string{"--config", big}, nil); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	c, err := verdict.Read(nil, []string{
		"HOME=/", "VERDICT_SERVER_TLS_CERT_FILE=/c.pem", "VERDICT_SERVER_OPEN=decide", "VERDICT_EXTAUTHZ_TRUSTED_PEERS=",
		`VERDICT_AUTHN_CERTIFICATES=[{san: a.example, name: a, scopes: [decide]}]`,
		"VERDICT_TOKEN=x", "VERDICT_SERVER=http://x", "VERDICT_SERVICE_HOST=10.0.0.1", "VERDICT_PORT=tcp://10.0.0.1:8181",
		"VERDICT_PORT_8181_TCP_ADDR=10.0.0.1", "VERDICT_AGENT_SERVICE_PORT_HTTP=1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.TLS.CertFile != "/c.pem" || len(c.ExtAuthz.TrustedPeers) != 0 || c.Authn.Certificates[0].SAN != "a.example" {
		t.Errorf("got %+v", c)
	}
	_, err = verdict.Read(nil, []string{"VERDICT_SERVER_ADR=x"})
	if err == nil || !strings.Contains(err.Error(), "VERDICT_SERVER_ADR: unknown environment variable; the nearest known one is VERDICT_SERVER_ADDR") {
		t.Errorf("got %v", err)
	}
}

// The name of each variable stands for one key, and none is taken for one of
// Kubernetes'.
func TestEnvironmentNamesAreUnique(t *testing.T) {
	keys, _ := verdict.Default().KeyNames()
	seen := map[string]string{}
	for _, key := range keys {
		name := verdict.EnvName(key)
		if other := seen[name]; other != "" {
			t.Errorf("%s stands for %s and %s", name, other, key)
		}
		seen[name] = key
		if verdict.ForeignVariable("VERDICT_" + name) {
			t.Errorf("VERDICT_%s is ignored", name)
		}
	}
}

func TestSetProblems(t *testing.T) {
	for _, tt := range []struct{ set, want string }{
		{"server.addr", "--set server.addr: write key=value"},
		{"server.adr=x", "server.adr: unknown key; the nearest known one is server.addr (--set)"},
		{"server.tls=x", "server.tls: is a section; set one of its keys: source, cert_file, key_file, client_ca_file, client_crl_file, trust_domains, check_every, vault (--set)"},
		{"authn.issuers=x", "authn.issuers: takes a list, as in [a, b] (--set)"},
		{"authn.issuers=[{isuer: x}]", "authn.issuers[0].isuer: unknown key; the nearest known one is authn.issuers[].issuer (--set)"},
		{"server.max_in_flight=many", `server.max_in_flight: "many" is not a whole number (--set)`},
	} {
		_, err := verdict.Read([]string{"--set", tt.set}, nil)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s\ngot  %v\nwant %s", tt.set, err, tt.want)
		}
	}
}

// What config print shows can be given to --set.
func TestValuesRoundTrip(t *testing.T) {
	c, err := verdict.Read([]string{
		"--set", "audit.mask_keys=[\"a,b\", c]", "--set", "bundles.max_age=90m", "--set", "limits.data_body=1000",
		"--set", "authn.issuers=[{issuer: 'https://a', scopes: {claim: g, map: {x: [admin]}}}]",
		"--set", "bundles.verification_keys=[{id: a, not_after: 2026-01-02T03:04:05Z}]",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := c.Values()
	var args []string
	for key, value := range want {
		args = append(args, "--set", key+"="+value)
	}
	again, err := verdict.Read(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range again.Values() {
		if value != want[key] {
			t.Errorf("%s: %q became %q", key, want[key], value)
		}
	}
}

func TestManyProblemsAtOnce(t *testing.T) {
	_, _, err := verdict.Load([]string{"--set", "limits.depth=0", "--set", "audit.durability=maybe", "--set", "log.level=loud"}, nil)
	problems, ok := errors.AsType[verdict.Problems](err)
	if !ok || len(problems) != 3 || !strings.HasPrefix(err.Error(), "3 problems in the configuration:") {
		t.Errorf("got %v", err)
	}
}
