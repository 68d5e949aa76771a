package main_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/opatest"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// agent is a real OPA server that pulls its bundle.
type agent struct {
	t      *testing.T
	client *http.Client
	log    string // the file with what it logs
}

// startAgent runs OPA. It asks again after five minutes only: whatever it has
// sooner than that, it has by waiting.
func startAgent(t *testing.T, url, token, publicKey string) *agent {
	t.Helper()
	key, err := os.ReadFile(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "opa") // the name of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config, err := json.Marshal(map[string]any{
		"services": map[string]any{"verdict": map[string]any{
			"url": url, "credentials": map[string]any{"bearer": map[string]any{"token": token}},
		}},
		"keys": map[string]any{"default": map[string]any{"algorithm": "ES256", "key": string(key)}},
		"bundles": map[string]any{"app": map[string]any{
			"service": "verdict", "resource": "/bundles/app", "signing": map[string]any{"keyid": "default"},
			"polling": map[string]any{"min_delay_seconds": 300, "max_delay_seconds": 600, "long_polling_timeout_seconds": 60},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file, socket := filepath.Join(dir, "opa.json"), filepath.Join(dir, "s")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, log: filepath.Join(dir, "log"), client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	out, err := os.Create(a.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(opatest.Binary(t), "run", "--server", "--disable-telemetry", "--addr", "unix://"+socket, "--config-file", file)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.client.CloseIdleConnections()
		_, _ = cmd.Process.Kill(), cmd.Wait()
		_ = out.Close()
	})
	return a
}

// answer is what OPA answers to a decision.
func (a *agent) answer(input any) (string, error) {
	body, err := json.Marshal(map[string]any{"input": input})
	if err != nil {
		return "", err
	}
	resp, err := a.client.Post("http://opa/v1/data/app/allow", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(text)), err
}

// logged reports whether OPA has logged a text.
func (a *agent) logged(text string) error {
	log, err := os.ReadFile(a.log)
	if err == nil && !strings.Contains(string(log), text) {
		err = fmt.Errorf("OPA does not log %q:\n%s", text, log)
	}
	return err
}

// eventually waits for what comes true.
func eventually(t *testing.T, s *servertest.Server, try func() error) {
	t.Helper()
	var last error
	if !s.Eventually(func() error { last = try(); return last }) {
		t.Fatal(last)
	}
}

// TestAgentsPull: stock OPA pulls a bundle that OPA signed, verifies it, answers
// as verdict does, and follows each activation.
func TestAgentsPull(t *testing.T) {
	t.Parallel()
	opa, dir, other := opatest.Binary(t), policyFolder(t), t.TempDir()
	for _, folder := range []string{dir, other} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keyPair(t, folder, key, key.Public())
	}
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--set", fmt.Sprintf("bundles.verification_keys=[{id: default, algorithm: ES256, file: %q}]", filepath.Join(dir, "public.pem")),
	}})
	push := func(revision, user string) []byte {
		t.Helper()
		for name, text := range map[string]string{
			"data.json":        fmt.Sprintf(`{"users": [%q]}`, user),
			"policy_test.rego": fmt.Sprintf("package app\n\ntest_user if allow with input as {\"user\": %q}\n", user),
		} {
			if err := os.WriteFile(filepath.Join(dir, "policy", "app", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		command(t, dir, true, opa, "build", "-b", "policy", "-o", "app.tar.gz", "-r", revision, "--signing-key", "private.pem", "--signing-alg", "ES256")
		packed, err := os.ReadFile(filepath.Join(dir, "app.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/app", Body: packed, Token: s.AdminToken()}), http.StatusOK)
		return packed
	}
	first := push("r1", "alice")
	token := newToken(t, s.Dir, "agent", "bundles:app:read")
	pull := func(method, name string) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Method: method, Path: "/bundles/" + name, Token: token})
	}
	eventually(t, s, func() error { // the server reads the file with the tokens now and then
		if a := pull(http.MethodGet, "app"); a.Status != http.StatusOK || !bytes.Equal(a.Body, first) {
			return fmt.Errorf("%d, %d bytes", a.Status, len(a.Body))
		}
		return nil
	})
	if a := pull(http.MethodHead, "app"); a.Status != http.StatusOK || a.Header.Get("Content-Length") != fmt.Sprint(len(first)) {
		t.Errorf("HEAD: %d %v", a.Status, a.Header)
	}
	wantStatus(t, pull(http.MethodGet, "billing"), http.StatusForbidden, `"forbidden"`)
	wantStatus(t, s.Do(servertest.Request{Path: "/bundles/app"}), http.StatusUnauthorized)
	wantStatus(t, s.Do(servertest.Request{Path: "/bundles/billing", Token: s.AdminToken()}), http.StatusNotFound, `"not_found"`)

	good := startAgent(t, s.URL, token, filepath.Join(dir, "public.pem"))
	bad := startAgent(t, s.URL, token, filepath.Join(other, "public.pem"))
	same := func(may, mayNot string) {
		t.Helper()
		eventually(t, s, func() error {
			for user, want := range map[string]string{may: `{"result":true}`, mayNot: `{}`} {
				input := map[string]any{"user": user}
				var ours map[string]any
				if err := json.Unmarshal(s.Decide("app/allow", input).Body, &ours); err != nil {
					return err
				}
				theirs, err := good.answer(input)
				if _, allowed := ours["result"]; err != nil || theirs != want || allowed != (user == may) {
					return errors.Join(err, fmt.Errorf("%s: OPA %s, verdict %v, want %s", user, theirs, ours, want))
				}
			}
			return nil
		})
	}
	same("alice", "bob")
	second := push("r2", "bob")
	same("bob", "alice")
	if a := pull(http.MethodGet, "app"); !bytes.Equal(a.Body, second) {
		t.Errorf("%d bytes, pushed were %d", len(a.Body), len(second))
	}
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/bundles/app/rollback", Body: map[string]any{"revision": "r1"}, Token: s.AdminToken()}), http.StatusOK)
	same("alice", "bob")
	eventually(t, s, func() error { return bad.logged("failed to verify JWT signature") })
	if theirs, err := bad.answer(map[string]any{"user": "alice"}); err != nil || theirs != "{}" {
		t.Errorf("OPA with another key answers %s, %v", theirs, err)
	}

	s.Stop() // an agent waits for a minute
	if strings.Contains(s.Stderr(), "cut off") {
		t.Errorf("those that wait hold up the stop:\n%s", s.Stderr())
	}
}
