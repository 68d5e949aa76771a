package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// vaultArgs are the arguments of a server whose keys are in a Vault.
func vaultArgs(t *testing.T, address, token string) []string {
	t.Helper()
	return plain(t, "--set", "keys.provider=vault", "--set", "keys.vault.address="+address, "--set", "keys.vault.auth.token_file="+vaulttest.Write(t, token))
}

// keysAre waits until status tells the state of the keys.
func keysAre(t *testing.T, s *servertest.Server, state string) map[string]any {
	t.Helper()
	var status map[string]any
	if !s.Eventually(func() error {
		status = s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()}).JSON(t)
		if got := status["keys"].(map[string]any)["state"]; got != state {
			return fmt.Errorf("keys are %v, want %s", got, state)
		}
		return nil
	}) {
		t.Fatalf("keys: %v", status["keys"])
	}
	return status
}

// TestServeWithVault starts with Vault sealed, and goes on deciding whatever
// becomes of Vault.
func TestServeWithVault(t *testing.T) {
	t.Parallel()
	vault := vaulttest.File(t)
	vault.Do(http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"})
	proxy := vaulttest.NewProxy(t, vault.Address)
	vault.Seal()
	s := servertest.Start(t, servertest.Options{Args: vaultArgs(t, proxy.URL, vault.Token)})
	decide := func() {
		t.Helper()
		wantStatus(t, s.Do(servertest.Request{Path: "/v1/data/app/allow", Body: map[string]any{"input": map[string]any{"user": "ada"}}}), http.StatusOK, `"result":true`)
	}
	degraded := func(state string) {
		t.Helper()
		status := keysAre(t, s, state)
		if f := status["facilities"].(map[string]any)["keys"]; f != "degraded" || status["healthy"] != true {
			t.Errorf("facility %v, healthy %v", f, status["healthy"])
		}
		wantStatus(t, s.Do(servertest.Request{Path: "/metrics"}), http.StatusOK, `verdict_vault_state{state="`+state+`"} 1`, `verdict_vault_state{state="healthy"} 0`)
		decide()
	}
	degraded("sealed")
	vault.Unseal()
	status := keysAre(t, s, "ok")
	if f := status["facilities"].(map[string]any)["keys"]; f != "on" {
		t.Errorf("facility %v", f)
	}
	proxy.Cut()
	degraded("unreachable")
	proxy.Delay(time.Hour) // longer than anybody waits for a decision
	degraded("timeout")
	proxy.Heal()
	keysAre(t, s, "ok")
	s.Stop()
	records := readLog(t, s.Dir)
	if n := count(records, "vault_state"); n < 4 {
		t.Errorf("%d records of Vault's state", n)
	}
	for _, text := range []string{s.Stderr(), s.Stdout(), fmt.Sprint(records)} {
		if strings.Contains(text, vault.Token) {
			t.Error("the token is told")
		}
	}
}

// A token that is of no use leaves verdict deciding.
func TestServeWithADeniedToken(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	s := servertest.Start(t, servertest.Options{Args: vaultArgs(t, vault.Address, "s.nobody-knows-this-one")})
	status := keysAre(t, s, "denied")
	if strings.Contains(fmt.Sprint(status), "s.nobody") {
		t.Errorf("the token is told: %v", status)
	}
	wantStatus(t, s.Do(servertest.Request{Path: "/v1/data/app/allow", Body: map[string]any{"input": map[string]any{"user": "ada"}}}), http.StatusOK, `"result":true`)
}

// TestVaultPage runs the commands of docs/vault.md, wants the output that the
// page shows, and starts verdict with the page's configuration.
func TestVaultPage(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	if os.Getenv("VERDICT_TEST_VAULT_ADDR") != "" {
		t.Skip("the page is for an empty server")
	}
	text, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	folder, deploy := t.TempDir(), absolute(t, "../../deploy")
	err = errors.Join(os.Symlink(deploy, filepath.Join(folder, "deploy")), os.Symlink(components.Path(t, "openbao"), filepath.Join(folder, "bao")))
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			commands++
			command, want := splitVaultCommand(part)
			cmd := exec.Command("sh", "-ec", command)
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "BAO_ADDR="+vault.Address, "BAO_TOKEN="+vault.Token, "HOME="+folder)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if got, err := cmd.Output(); err != nil || string(got) != want {
				t.Fatalf("$ %s\ngot  %s%s%v\nwant %s", command, got, errs.String(), err, want)
			}
		}
	}
	if commands < 10 {
		t.Errorf("%d commands: the blocks are not found", commands)
	}
	configuration := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(string(text))
	if configuration == nil {
		t.Fatal("the page has no configuration")
	}
	config := strings.NewReplacer("https://vault.example:8200", vault.Address, ": role-id", ": "+folder+"/role-id", ": secret-id", ": "+folder+"/secret-id").Replace(configuration[1])
	file := filepath.Join(folder, "verdict.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Options{Args: []string{"--config", file}})
	keysAre(t, s, "ok")
}

// splitVaultCommand parts a command, which goes on over indented lines, from
// its output.
func splitVaultCommand(part string) (command, output string) {
	lines := strings.Split(strings.TrimRight(part, "\n"), "\n")
	n := 1
	for n < len(lines) && strings.HasPrefix(lines[n], "  ") {
		n++
	}
	if output = strings.Join(lines[n:], "\n"); output != "" {
		output += "\n"
	}
	return strings.Join(lines[:n], "\n"), output
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
