package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/opatest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// TestBundlesSignedInVault: the real OPA verifies what a key in a real Vault has
// signed, before and after a rotation, with the public key that is exported.
func TestBundlesSignedInVault(t *testing.T) {
	t.Parallel()
	opa, vault := opatest.Binary(t), vaulttest.Dev(t)
	mount, dir := vault.Transit(), policyFolder(t)
	sign := func(ok bool, key string, args ...string) string {
		t.Helper()
		cmd := exec.Command("verdict", append([]string{
			"bundle", "sign", "app.tar.gz", "--out", "signed.tar.gz", "--key", key, "--set", "keys.vault.mount=" + mount,
			"--set", "keys.vault.address=" + vault.Address, "--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, vault.Token),
		}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err == nil) != ok {
			t.Fatalf("sign with %s: %v\n%s", key, err, out)
		}
		if strings.Contains(string(out), vault.Token) {
			t.Error("the token is told")
		}
		return string(out)
	}
	verify := func(ok bool, public, kid, alg string) {
		t.Helper()
		command(t, dir, ok, opa, "build", "-b", "signed.tar.gz", "-o", "again.tar.gz", "--verification-key", public, "--verification-key-id", kid, "--signing-alg", alg)
	}
	command(t, dir, true, "verdict", "bundle", "build", "policy", "--out", "app.tar.gz")
	for typ, alg := range map[string]string{"ecdsa-p256": "ES256", "rsa-2048": "RS256"} {
		key := "verdict-bundles-" + typ
		vault.Do(http.MethodPost, mount+"/keys/"+key, map[string]any{"type": typ})
		sign(true, "transit:"+key, "--public-key", "one.pem")
		verify(true, "one.pem", key+":1", alg)
		vault.Do(http.MethodPost, mount+"/keys/"+key+"/rotate", nil)
		verify(true, "one.pem", key+":1", alg)
		sign(true, "transit:"+key, "--public-key", "two.pem")
		verify(true, "two.pem", key+":2", alg)
		verify(false, "one.pem", key+":2", alg)
		if out := command(t, dir, true, "verdict", "bundle", "inspect", "signed.tar.gz", "--verification-key", "two.pem", "--key-id", key+":2"); !strings.Contains(out, "verified") {
			t.Errorf("inspect shows %s", out)
		}
	}
	sign(true, "transit:verdict-bundles-rsa-2048", "--algorithm", "PS256", "--key-id", "ci", "--public-key", "three.pem")
	verify(true, "three.pem", "ci", "PS256")

	vault.Do(http.MethodPost, mount+"/keys/verdict-aes", map[string]any{"type": "aes256-gcm96"})
	if err := os.Remove(filepath.Join(dir, "signed.tar.gz")); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"transit:verdict-none": "key_unknown", "transit:verdict-aes": "has no public key", "transit:": "write transit:NAME",
		"file:key": "write transit:NAME", "transit:verdict-jwt": "that key signs tokens", "transit:../sys/raw": "write transit:NAME",
	} {
		if out := sign(false, key); !strings.Contains(out, want) {
			t.Errorf("%s: %s", key, out)
		}
	}
	if out := sign(false, "transit:verdict-bundles-ecdsa-p256", "--algorithm", "RS256"); out == "" {
		t.Error("no word of another algorithm")
	}
	if _, err := os.Stat(filepath.Join(dir, "signed.tar.gz")); err == nil {
		t.Error("a bundle is written though it is not signed")
	}
}

// TestSigningPage runs the commands of docs/signing.md and wants the output that
// the page shows.
func TestSigningPage(t *testing.T) {
	t.Parallel()
	opa, vault := opatest.Binary(t), vaulttest.Dev(t)
	if os.Getenv("VERDICT_TEST_VAULT_ADDR") != "" {
		t.Skip("the page is for an empty server")
	}
	vault.Do(http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"})
	dir := policyFolder(t)
	text, err := os.ReadFile("../../docs/signing.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"bao": components.Path(t, "openbao"), "opa": opa} {
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	secretFile(t, filepath.Join(dir, "verdict.yaml"), "keys:\n  vault: {address: '"+vault.Address+"', auth: {token_file: '"+vaulttest.Write(t, vault.Token)+"'}}\n")
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			commands++
			line, want := splitVaultCommand(part)
			cmd := exec.Command("sh", "-ec", line)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "BAO_ADDR="+vault.Address, "BAO_TOKEN="+vault.Token, "HOME="+dir)
			var errs strings.Builder
			cmd.Stderr = &errs
			if got, err := cmd.Output(); err != nil || string(got) != want {
				t.Fatalf("$ %s\ngot  %s%s%v\nwant %s", line, got, errs.String(), err, want)
			}
		}
	}
	if commands != 5 {
		t.Errorf("%d commands", commands)
	}
}
