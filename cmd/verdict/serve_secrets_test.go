package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// Secrets made by chance, for tests.
const (
	oldSecret = "Hn4x8Wq1Zt6Lr0Vc3Ky9Pf5Js7Bd2MgA"
	newSecret = "Tc7e2Xo9Rz4Uw1Ib6Gm3Qv8Nl5Yh0KpD"
)

// secretFile writes a secret into a file that only the test may read.
func secretFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWeakSecrets: a secret that is weak, or not there, stops the start with
// the key named and itself untold.
func TestWeakSecrets(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	kv := vault.Mount("kv", map[string]any{"version": "2"})
	vault.Do(http.MethodPost, kv+"/data/verdict", map[string]any{"data": map[string]any{"good": oldSecret, "weak": "changeme"}})
	dir := t.TempDir()
	weak, loose := filepath.Join(dir, "weak"), filepath.Join(dir, "loose")
	secretFile(t, weak, "letmein\n")
	secretFile(t, loose, oldSecret)
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	login := []string{"--set", "keys.vault.address=" + vault.Address, "--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, vault.Token)}
	away := []string{"--set", "keys.vault.address=http://127.0.0.1:1", "--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, vault.Token)}
	const (
		source = "bundles.sources=[{name: app, url: 'http://127.0.0.1:1', token: '%s'}]"
		key    = "bundles.verification_keys=[{id: ci, algorithm: HS256, secret: '%s'}]"
		phrase = "keys.local.passphrase=%s"
	)
	for _, tt := range []struct {
		name, set, secret string
		args              []string
		want              string
	}{
		{"inline token", source, "changeme", nil, "bundles.sources[0].token: is a default"},
		{"inline key", key, "changeme", nil, "bundles.verification_keys[0].secret: is a default"},
		{"inline passphrase", phrase, "changeme", nil, "keys.local.passphrase: is a default"},
		{"short key", key, oldSecret[:31], nil, "bundles.verification_keys[0].secret: has 31 bytes, want at least 32"},
		{"environment", source, "env:WEAK_SECRET", nil, "bundles.sources[0].token: consists of words"},
		{"no variable", source, "env:NO_SUCH_SECRET", nil, "bundles.sources[0].token: the environment has no NO_SUCH_SECRET"},
		{"file", phrase, "file:" + weak, nil, "keys.local.passphrase: is a default"},
		{"loose file", phrase, "file:" + loose, nil, "has mode 0644, want 0600"},
		{"no file", key, "file:" + dir + "/none", nil, "bundles.verification_keys[0].secret: "},
		{"vault", key, "vault:" + kv + "/verdict#weak", login, "bundles.verification_keys[0].secret: is a default"},
		{"no field", key, "vault:" + kv + "/verdict#none", login, "bundles.verification_keys[0].secret: vault:" + kv + "/verdict#none has no text in the field none"},
		{"no secret", key, "vault:" + kv + "/other#good", login, "bundles.verification_keys[0].secret: vault has no secret " + kv + "/other"},
		{"no address", key, "vault:" + kv + "/verdict#good", nil, "keys.vault.address: "},
		{"Vault away, passphrase", phrase, "vault:" + kv + "/verdict#good", away, "keys.local.passphrase: secret_unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := servertest.Launch(t, servertest.Options{
				Args: append(append(plain(t), "--set", fmt.Sprintf(tt.set, tt.secret)), tt.args...), Env: []string{"WEAK_SECRET=Passw0rd!changeme"},
			})
			if code := s.Wait(); code != 2 {
				t.Errorf("exit %d", code)
			}
			if !strings.Contains(s.Stderr(), tt.want) {
				t.Errorf("standard error %s\nwant %s", s.Stderr(), tt.want)
			}
			for _, hidden := range []string{oldSecret[:31], "Passw0rd", "letmein", "changeme", vault.Token} {
				if strings.Contains(s.Stderr()+s.Stdout(), hidden) {
					t.Errorf("%s is told", hidden)
				}
			}
		})
	}
}

// TestSecretsChange: what stands in Vault and in files changes, and verdict
// works with the new values without a restart.
func TestSecretsChange(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	kv := vault.Mount("kv", map[string]any{"version": "2"})
	proxy := vaulttest.NewProxy(t, vault.Address)
	dir := policyFolder(t)
	up := servertest.Start(t, servertest.Options{})
	bundle := func(revision, secret string) []byte {
		t.Helper()
		secretFile(t, filepath.Join(dir, "hmac"), secret)
		command(t, dir, true, "verdict", "bundle", "build", "policy", "--revision", revision, "--out", "b.tar.gz", "--signing-key", "hmac", "--algorithm", "HS256", "--key-id", "ci")
		raw, err := os.ReadFile(filepath.Join(dir, "b.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	offer := func(revision, secret string) {
		t.Helper()
		wantStatus(t, up.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/app", Body: bundle(revision, secret), Token: up.AdminToken()}), http.StatusOK)
	}
	store := func(token, hmac string) {
		t.Helper()
		vault.Do(http.MethodPost, kv+"/data/verdict/edge", map[string]any{"data": map[string]any{"token": token, "hmac": hmac}})
	}
	first := newToken(t, up.Dir, "first", "bundles:*:read")
	store(first, oldSecret)
	phrase := filepath.Join(dir, "passphrase")
	secretFile(t, phrase, oldSecret)
	config := filepath.Join(dir, "verdict.yaml")
	secretFile(t, config, fmt.Sprintf(`secrets: {refresh: 1s}
keys:
  local: {passphrase: "file:%[1]s"}
  vault: {address: "%[2]s", auth: {token_file: "%[3]s"}}
bundles:
  verification_keys: [{id: ci, algorithm: HS256, secret: "vault:%[4]s/verdict/edge#hmac"}]
  sources: [{name: app, url: "%[5]s", token: "vault:%[4]s/verdict/edge#token", polling: {min_delay: 1s, max_delay: 1s}}]
`, phrase, proxy.URL, vaulttest.Write(t, vault.Token), kv, up.URL))
	proxy.Cut() // Vault is away when verdict starts
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Dir: data, Args: []string{"--config", config}})
	wantStatus(t, s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/app", Body: bundle("r0", oldSecret), Token: s.AdminToken()}), http.StatusUnprocessableEntity)
	status := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()}).JSON(t)
	if told := fmt.Sprint(status["facilities"], status["secrets"]); !strings.Contains(told, "secrets:degraded") || !strings.Contains(told, "/verdict/edge#hmac") {
		t.Errorf("status %s", told)
	}
	offer("r1", oldSecret)
	proxy.Heal()
	has := func(revision string) {
		t.Helper()
		eventually(t, s, func() error {
			if state := sourceState(t, s, "app"); state["revision"] != revision || state["current"] != true {
				return fmt.Errorf("source %v", state)
			}
			return nil
		})
	}
	has("r1")

	second := newToken(t, up.Dir, "second", "bundles:*:read")
	command(t, dir, true, "verdict", "token", "revoke", "first", "--data-dir", up.Dir)
	known := strings.Count(s.Stderr(), "secrets have changed")
	store(second, newSecret)
	eventually(t, s, func() error { // what is refused is not asked for again at once
		if strings.Count(s.Stderr(), "secrets have changed") == known {
			return fmt.Errorf("the secrets are not taken yet")
		}
		return nil
	})
	offer("r2", newSecret)
	has("r2")

	// The passphrase changes: the new one first, then it alone.
	metadata := s.Do(servertest.Request{Path: metadataPath}).JSON(t) // makes a key
	if metadata["signed_metadata"] == nil {
		t.Errorf("metadata %v", metadata)
	}
	sealed := func() string {
		raw, err := os.ReadFile(filepath.Join(data, "keys", "verdict-jwt.keyset"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	before := sealed()
	secretFile(t, phrase, newSecret+"\n"+oldSecret+"\n")
	eventually(t, s, func() error {
		if sealed() == before {
			return fmt.Errorf("not sealed anew")
		}
		return nil
	})
	secretFile(t, phrase, newSecret)
	s.Signal(syscall.SIGHUP)
	s.Stop()
	again := servertest.Start(t, servertest.Options{Dir: data, Args: []string{"--config", config}})
	if again.Do(servertest.Request{Path: metadataPath}).JSON(t)["signed_metadata"] == nil {
		t.Error("the key does not open with the new passphrase")
	}
	again.Stop()

	records := fmt.Sprint(readLog(t, data))
	if !strings.Contains(records, "config") {
		t.Errorf("no record of the change: %s", records)
	}
	for _, hidden := range []string{first, second, oldSecret, newSecret, vault.Token} {
		for name, text := range map[string]string{"standard error": s.Stderr() + again.Stderr(), "standard output": s.Stdout(), "the log": records} {
			if strings.Contains(text, hidden) {
				t.Errorf("%s tells a secret", name)
			}
		}
	}
}

// TestSecretsPage takes the configuration of docs/secrets.md as it stands.
func TestSecretsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/secrets.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("the page has no configuration")
	}
	dir := t.TempDir()
	phrase := filepath.Join(dir, "passphrase")
	secretFile(t, phrase, oldSecret)
	secretFile(t, filepath.Join(dir, "verdict.yaml"), strings.ReplaceAll(text, "/etc/verdict/passphrase", phrase))
	t.Run("check", func(t *testing.T) {
		cmd := exec.Command("verdict", "config", "check", "--config", filepath.Join(dir, "verdict.yaml"))
		cmd.Env = append(os.Environ(), "BUNDLES_TOKEN="+newSecret)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "the configuration is valid") {
			t.Errorf("%v: %s", err, out)
		}
		cmd = exec.Command("verdict", "config", "check", "--config", filepath.Join(dir, "verdict.yaml"))
		cmd.Env = append(os.Environ(), "BUNDLES_TOKEN=changeme")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "bundles.sources[0].token: is a default") {
			t.Errorf("%v: %s", err, out)
		}
	})
	printed := command(t, dir, true, "verdict", "config", "print", "--config", "verdict.yaml")
	for _, want := range []string{"file:" + phrase, "vault:secret/verdict/bundles#hmac", "env:BUNDLES_TOKEN"} {
		if !strings.Contains(printed, want) {
			t.Errorf("%s is not printed in\n%s", want, printed)
		}
	}
}
