package main_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// TestEncryptionPage runs the commands of docs/encryption.md.
func TestEncryptionPage(t *testing.T) { runPage(t, "encryption.md", 9) }

// crypto posts to the encryption service.
func crypto(t testing.TB, s *servertest.Server, path string, body any) *servertest.Answer {
	t.Helper()
	return s.Do(servertest.Request{Method: http.MethodPost, Path: "/api/v1/" + path, Token: s.AdminToken(), Body: body})
}

// TestEncryptionWithoutVault: a Vault that nobody can reach keeps values shut
// and decisions going.
func TestEncryptionWithoutVault(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--bundle", testBundle(t), "--set", "limits.evaluation=20s", "--set", "keys.provider=vault", "--set", "keys.vault.address=http://127.0.0.1:1",
		"--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, "s.token"),
	}})
	ciphertext := madeUp()
	for path, body := range map[string]any{
		"encrypt": map[string]any{"classification": "top_secret", "plaintext": "x"},
		"decrypt": map[string]any{"ciphertext": ciphertext},
	} {
		a := crypto(t, s, path, body)
		wantStatus(t, a, http.StatusServiceUnavailable, `"code":"keys_unavailable"`)
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, a.Header)
		}
		wantStatus(t, s.Do(servertest.Request{Path: "/v1/data/app/allow", Body: map[string]any{"input": map[string]any{"user": "ada"}}}), http.StatusOK, `"result":true`)
	}
}

// madeUp is a ciphertext of class restricted that nobody made.
func madeUp() string {
	// 1 format, 4 restricted, 1 AES-256-GCM, no flags, the key's name, version 1.
	raw := "\x01\x04\x01\x00\x12verdict-restricted\x00\x00\x00\x01\x00\x08wrapping" + strings.Repeat("n", 12) + strings.Repeat("b", 20)
	return "vd1." + base64.RawURLEncoding.EncodeToString([]byte(raw))
}

// TestKilledBeforeOpening kills the server between a decision and the use of the
// key: the log has the decision.
func TestKilledBeforeOpening(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	vault.Do(http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"})
	proxy := vaulttest.NewProxy(t, vault.Address)
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--set", "limits.evaluation=20s", "--set", "keys.provider=vault", "--set", "keys.vault.address=" + proxy.URL,
		"--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, vault.Token),
	}})
	keysAre(t, s, "ok")
	where := map[string]any{"tenant": "t1", "type": "customer", "id": "c-1", "pointer": "/card"}
	sealed := crypto(t, s, "encrypt", map[string]any{"classification": "restricted", "plaintext": "canary-4711", "context": where})
	wantStatus(t, sealed, http.StatusOK)
	proxy.Delay(time.Minute)
	go func() { // ends with the server
		_, _ = s.Try(servertest.Request{Method: http.MethodPost, Path: "/api/v1/decrypt", Token: s.AdminToken(), Body: map[string]any{
			"ciphertext": sealed.JSON(t)["ciphertext"], "context": where,
		}})
	}()
	if !s.Eventually(func() error {
		a := s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: s.AdminToken()})
		if !strings.Contains(string(a.Body), `"path":"verdict/keys/decision"`) {
			return fmt.Errorf("no decision yet")
		}
		return nil
	}) {
		t.Fatal("the decision is not recorded")
	}
	s.Kill()
	found := false
	for _, r := range readLog(t, s.Dir) {
		found = found || r.Path == "verdict/keys/decision" && r.Event == "permission_granted" && r.Resource == "customer:c-1"
	}
	if !found {
		t.Error("the log lost the decision")
	}
	verifyFolder(t, s.Dir)
}

// TestPlaintextIsNowhere plants values and looks for them in every file and
// stream of the server.
func TestPlaintextIsNowhere(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	const canary = "canary-4711-plaintext"
	where := map[string]any{"tenant": "t1"}
	for _, class := range []string{"internal", "confidential", "restricted", "top_secret"} {
		sealed := crypto(t, s, "encrypt", map[string]any{"classification": class, "plaintext": canary, "context": where})
		wantStatus(t, sealed, http.StatusOK)
		text := sealed.JSON(t)["ciphertext"]
		wantStatus(t, crypto(t, s, "decrypt", map[string]any{"ciphertext": text, "context": where}), http.StatusOK, canary)
		wantStatus(t, crypto(t, s, "reencrypt", map[string]any{"ciphertext": text, "context": where}), http.StatusOK)
		wantStatus(t, crypto(t, s, "decrypt", map[string]any{"ciphertext": text}), http.StatusUnprocessableEntity)
	}
	document := map[string]any{"a": canary, "b": map[string]any{"c": []any{canary}}}
	sealed := crypto(t, s, "encrypt", map[string]any{"document": document, "fields": map[string]any{"/a": "internal", "/b/c/*": "restricted"}})
	wantStatus(t, sealed, http.StatusOK)
	wantStatus(t, crypto(t, s, "decrypt", map[string]any{"document": sealed.JSON(t)["document"]}), http.StatusOK, canary)
	answers := []*servertest.Answer{
		crypto(t, s, "encrypt", map[string]any{"document": document, "fields": map[string]any{"/gone": "internal"}}),
		crypto(t, s, "encrypt", map[string]any{"classification": canary, "plaintext": canary}),
		crypto(t, s, "encrypt", map[string]any{"classification": "public", "plaintext": canary}),
		crypto(t, s, "encrypt", `{"classification":"internal","plaintext":"`+canary+`\ud800"}`),
		crypto(t, s, "encrypt", `{"classification":"internal","plaintext":"`+canary),
		crypto(t, s, "encrypt", map[string]any{"items": []any{map[string]any{"plaintext_base64": canary, "classification": "internal"}}}),
		s.Do(servertest.Request{Path: "/metrics"}),
		s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: s.AdminToken()}),
	}
	for i, a := range answers {
		if bytes.Contains(a.Body, []byte(canary)) || i < 6 && a.Status < 400 {
			t.Errorf("%d: status %d %.300s", i, a.Status, a.Body)
		}
	}
	s.Stop()
	if strings.Contains(s.Stdout()+s.Stderr(), canary) {
		t.Error("the log tells a value")
	}
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(canary)) {
			t.Errorf("%s tells a value", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
