package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestTrustedBundles pushes signed bundles to a server, and changes its keys
// while it runs.
func TestTrustedBundles(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t)
	for _, name := range []string{"old", "new", "other"} {
		secret := strings.Repeat(name, 30)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "verdict.yaml")
	trust := func(keys ...string) {
		t.Helper()
		text := "bundles:\n  verification_keys:\n"
		for _, k := range keys {
			text += fmt.Sprintf("    - {id: %s, algorithm: HS256, file: %q, names: [app]}\n", k, filepath.Join(dir, k))
		}
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust("old")
	s := servertest.Start(t, servertest.Options{Args: []string{"--config", config}})
	push := func(name, revision, key string) *servertest.Answer {
		t.Helper()
		args := []string{"bundle", "build", "policy", "--revision", revision, "--out", "app.tar.gz"}
		if key != "" {
			args = append(args, "--signing-key", key, "--algorithm", "HS256", "--key-id", key)
		}
		command(t, dir, true, "verdict", args...)
		packed, err := os.ReadFile(filepath.Join(dir, "app.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		return s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + name, Body: packed, Token: s.AdminToken()})
	}
	refused := http.StatusUnprocessableEntity
	wantStatus(t, push("app", "r1", ""), refused, `"gate":"signature"`, "no_signature: ")
	wantStatus(t, push("app", "r1", "new"), refused, `"gate":"signature"`, "key_unknown: ")
	wantStatus(t, push("billing", "r1", "old"), refused, `"gate":"signature"`, "key_not_for_bundle: ")
	wantStatus(t, push("app", "r1", "old"), http.StatusOK, `"key_id":"old"`)

	trust("old", "new")
	hangUp(t, s, "read again\"")
	wantStatus(t, push("app", "r2", "new"), http.StatusOK, `"key_id":"new"`)
	wantStatus(t, push("app", "r3", "old"), http.StatusOK, `"key_id":"old"`)

	trust("new", "nowhere") // refused as a whole
	hangUp(t, s, "the old one stays")
	wantStatus(t, push("app", "r4", "old"), http.StatusOK, `"key_id":"old"`)

	trust("new")
	hangUp(t, s, "read again\"")
	wantStatus(t, push("app", "r5", "old"), refused, "key_unknown: ")
	wantStatus(t, push("app", "r6", "other"), refused, "key_unknown: ")
	if a := s.Decide("app/allow", map[string]any{"user": "alice"}); !strings.Contains(string(a.Body), `"result":true`) {
		t.Errorf("the bundle of a key that is gone does not answer: %s", a.Body)
	}
}

func TestStartWithoutAKey(t *testing.T) {
	t.Parallel()
	s := servertest.Launch(t, servertest.Options{Args: []string{"--set", "bundles.verification_keys=[{id: ci, algorithm: ES256, file: nowhere.pem}]"}})
	if code := s.Wait(); code != 2 || !strings.Contains(s.Stderr(), "bundles.verification_keys: verification key \"ci\": open key file") {
		t.Errorf("exit code %d\n%s", code, s.Stderr())
	}
}
