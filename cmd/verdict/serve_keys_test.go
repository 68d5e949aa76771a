package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
	"github.com/verdict-pdp/verdict/keys/keystest"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/storage/state"
)

// keyFolder is the key ring of a data folder, used while no server runs there.
type keyFolder struct {
	*testing.T
	dir    string
	public string // file with the escrow key; empty: none
}

// with opens the ring as serve does.
func (f keyFolder) with(now time.Time, use func(*keys.Ring)) {
	f.Helper()
	store, err := state.Open(filepath.Join(f.dir, "state"), state.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer store.Close()
	bucket, err := store.Bucket("keys")
	if err != nil {
		f.Fatal(err)
	}
	clock := func() time.Time { return now }
	backend, err := local.Open(filepath.Join(f.dir, "keys"), local.Master{File: filepath.Join(f.dir, "master.key"), Generate: true}, local.Options{Now: clock})
	if err != nil {
		f.Fatal(err)
	}
	defer backend.Close()
	o := keys.Options{Now: clock}
	if f.public != "" {
		text, err := os.ReadFile(f.public)
		if err != nil {
			f.Fatal(err)
		}
		public, err := escrow.ParsePublicKey(text)
		if err != nil {
			f.Fatal(err)
		}
		if o.Escrow, err = escrow.New(public, bucket, &keystest.Recorder{}, escrow.Options{Now: clock}); err != nil {
			f.Fatal(err)
		}
	}
	ring, err := keys.New(backend, bucket, &keystest.Recorder{}, o)
	if err != nil {
		f.Fatal(err)
	}
	use(ring)
}

// seal encrypts one value.
func (f keyFolder) seal(ring *keys.Ring, c keys.Class) string {
	f.Helper()
	sealed, err := ring.Encrypt(f.Context(), keys.By{}, []keys.Value{{Class: c, Context: keys.Context{Tenant: "t"}, Data: []byte("canary-plaintext")}})
	if err != nil || sealed[0].Err != nil {
		f.Fatal(err, sealed)
	}
	return sealed[0].Text
}

func (f keyFolder) opens(ring *keys.Ring, text string) error {
	data, err := ring.DecryptOne(f.Context(), keys.By{}, keys.Ciphertext{Text: text, Context: keys.Context{Tenant: "t"}})
	if err == nil && string(data) != "canary-plaintext" {
		return fmt.Errorf("opened %q", data)
	}
	return err
}

// verdictCmd runs the program and returns what it printed.
func verdictCmd(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command("verdict", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the code says it
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("verdict %q ended with %d, want %d: %s%s", args, got, code, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// admin creates a token with every scope on the host and writes it to a file.
func admin(t *testing.T, dir, name string, more ...string) string {
	t.Helper()
	token := verdictCmd(t, 0, append([]string{"token", "create", "--name", name, "--scope", "admin", "--data-dir", dir}, more...)...)
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeysPage runs the commands of docs/keys.md.
func TestKeysPage(t *testing.T) { runPage(t, "keys.md", 10) }

func TestKeysAPI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := keyFolder{T: t, dir: dir}
	start := time.Now().Add(-70 * 24 * time.Hour)
	folder.with(start, func(ring *keys.Ring) {
		for _, c := range []keys.Class{keys.Internal, keys.Confidential} { // 180 and 90 days
			folder.seal(ring, c)
		}
		for i := range 8 {
			if _, err := ring.EnsureKey(t.Context(), keys.By{}, fmt.Sprintf("verdict-sign%d", i), keys.Ed25519); err != nil {
				t.Fatal(err)
			}
		}
	})
	s := servertest.Start(t, servertest.Options{Dir: dir, Args: plain(t)})
	ask := func(method, path string, body any, header map[string]string) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Method: method, Path: "/api/v1/keys" + path, Body: body, Token: s.AdminToken(), Header: header})
	}
	list := ask(http.MethodGet, "", nil, nil)
	wantStatus(t, list, http.StatusOK,
		`"confidential":{"algorithm":"aes256-gcm96","rotation_days":90,"require_key_escrow":true,"allow_key_caching":true,"max_cache_time_minutes":30}`,
		`"public":{"algorithm":"aes256-gcm96","rotation_days":365,"require_key_escrow":false,"allow_key_caching":true,"max_cache_time_minutes":120}`,
		`"internal":{"algorithm":"aes256-gcm96","rotation_days":180,"require_key_escrow":false,"allow_key_caching":true,"max_cache_time_minutes":60}`,
		`"restricted":{"algorithm":"aes256-gcm96","rotation_days":30,"require_key_escrow":true,"allow_key_caching":false,"max_cache_time_minutes":0}`,
		`"top_secret":{"algorithm":"rsa-4096","rotation_days":7,"require_key_escrow":true,"allow_key_caching":false,"max_cache_time_minutes":0}`,
		`"total":10`, `"age_days":70`)

	at := time.Now().Add(100 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	for _, id := range []string{"verdict-sign1", "verdict-sign2"} {
		wantStatus(t, ask(http.MethodPut, "/"+id+"/next_rotation", map[string]any{"at": at}, nil), http.StatusOK, `"scheduled":"`+at, `"next_rotation":"`+at)
	}
	near := ask(http.MethodGet, "?expires_within=30d", nil, nil).JSON(t)["keys"].([]any)
	if len(near) != 3 {
		t.Errorf("%d keys are near, want 3: %v", len(near), near)
	}
	wantStatus(t, ask(http.MethodDelete, "/verdict-sign2/next_rotation", nil, nil), http.StatusOK, `"scheduled":null`)
	for _, wrong := range []string{"?expires_within=soon", "?expires_within=-1h"} {
		wantStatus(t, ask(http.MethodGet, wrong, nil, nil), http.StatusBadRequest, `"field":"expires_within"`)
	}
	wantStatus(t, ask(http.MethodPut, "/verdict-sign1/next_rotation", map[string]any{"at": "2001-01-01T00:00:00Z"}, nil), http.StatusBadRequest, `"field":"at"`)

	one := ask(http.MethodGet, "/verdict-confidential", nil, nil)
	tag := one.Header.Get("ETag")
	rotated := ask(http.MethodPost, "/verdict-confidential/rotate", nil, map[string]string{"If-Match": tag})
	wantStatus(t, rotated, http.StatusOK, `"version":2`, `"age_days":0`)
	wantStatus(t, ask(http.MethodPost, "/verdict-confidential/rotate", nil, map[string]string{"If-Match": tag}), http.StatusPreconditionFailed, "precondition_failed")
	wantStatus(t, ask(http.MethodPost, "/verdict-sign1/compromise", map[string]any{}, nil), http.StatusOK, `"version":2`, `"compromised":[1]`)
	wantStatus(t, ask(http.MethodPost, "/verdict-sign1/compromise", map[string]any{"version": 7}, nil), http.StatusUnprocessableEntity, "key_version_disallowed")
	public := ask(http.MethodGet, "/verdict-sign1/public", nil, nil)
	wantStatus(t, public, http.StatusOK, `"kid":"verdict-sign1:2"`, "BEGIN PUBLIC KEY", `"crv":"Ed25519"`)
	if strings.Contains(string(public.Body), "verdict-sign1:1") {
		t.Error("a compromised version is published")
	}
	wantStatus(t, ask(http.MethodGet, "/verdict-internal/public", nil, nil), http.StatusUnprocessableEntity, "no_public_key")
	wantStatus(t, ask(http.MethodPost, "/verdict-sign1/retire", nil, nil), http.StatusOK, `"min_decryption_version":2`)
	wantStatus(t, ask(http.MethodGet, "/verdict-nothing", nil, nil), http.StatusNotFound, "key_unknown")
	wantStatus(t, ask(http.MethodGet, "/verdict-internal/escrow", nil, nil), http.StatusConflict, "escrow_not_configured")
	wantStatus(t, ask(http.MethodPost, "/master/rotate", nil, nil), http.StatusOK, `"rotated":true`)
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()}), http.StatusOK, `"escrow":"degraded"`)
	if !s.Eventually(func() error { // the runner counts in its own time
		for metric, want := range map[string]float64{
			`verdict_keys_rotations_total{cause="request"}`: 1, `verdict_keys_rotations_total{cause="compromise"}`: 1,
			`verdict_keys_changes_total{kind="key_retired"}`: 1, `verdict_keys_not_escrowed`: 1, `verdict_keys_overdue`: 0,
		} {
			if got := s.Metric(metric); got != want {
				return fmt.Errorf("%s is %v, want %v", metric, got, want)
			}
		}
		if age := s.Metric(`verdict_keys_age_seconds{key="verdict-internal"}`); age < 70*24*3600 {
			return fmt.Errorf("age %v", age)
		}
		return nil
	}) {
		t.Error("the metrics are not right")
	}
	keyScopes(t, s)
	keyRecords(t, s, "key_rotation", "key_rotation_scheduled", "key_compromised", "key_retired", "master_key_rotated")

	server := []string{"--server", s.URL, "--token-file", filepath.Join(dir, "admin.token")}
	for want, args := range map[string][]string{
		"verdict-confidential": {"keys", "list"}, `"by_type"`: {"keys", "list", "--output", "json"},
		"70 days": {"keys", "show", "verdict-sign3"}, "BEGIN PUBLIC KEY": {"keys", "show", "verdict-sign3", "--public"},
		"2, decrypts from 1 on": {"keys", "rotate", "verdict-internal"}, at[:10]: {"keys", "schedule", "verdict-sign4", "--at", at},
		"compromised     1\n": {"keys", "compromise", "verdict-sign5"}, "rotated the master key": {"keys", "master", "rotate"},
		"1, decrypts from 1 on": {"keys", "retire", "verdict-sign6"},
	} {
		if out := verdictCmd(t, 0, append(args, server...)...); !strings.Contains(out, want) {
			t.Errorf("verdict %q printed %q, want %q", args, out, want)
		}
	}
	verdictCmd(t, 2, append([]string{"keys", "show", "verdict-nothing"}, server...)...)
	verdictCmd(t, 1, append([]string{"keys", "retire", "verdict-sign6", "--version", "9"}, server...)...)
}

// keyScopes shows who may read and who may change.
func keyScopes(t *testing.T, s *servertest.Server) {
	t.Helper()
	token := strings.TrimSpace(verdictCmd(t, 0, "token", "create", "--name", "auditor", "--scope", "audit:read", "--data-dir", s.Dir))
	if !s.Eventually(func() error {
		if a := s.Do(servertest.Request{Path: "/api/v1/keys", Token: token}); a.Status != http.StatusOK {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	}) {
		t.Error("audit:read may not list the keys")
	}
	for _, path := range []string{"rotate", "compromise", "retire", "recover"} {
		wantStatus(t, s.Do(servertest.Request{Method: http.MethodPost, Path: "/api/v1/keys/verdict-sign1/" + path, Token: token}), http.StatusForbidden)
	}
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/keys/verdict-sign1/escrow", Token: token}), http.StatusForbidden)
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/keys"}), http.StatusUnauthorized)
}

// keyRecords looks for events in the log that say who asked.
func keyRecords(t *testing.T, s *servertest.Server, events ...string) {
	t.Helper()
	a := s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: s.AdminToken()})
	found := map[string]bool{}
	for line := range bytes.Lines(a.Body) {
		if text := string(line); strings.Contains(text, `"requested_by":"dev-admin"`) || strings.Contains(text, `"requested_by":"ana"`) || strings.Contains(text, `"requested_by":"bo"`) {
			for _, event := range events {
				found[event] = found[event] || strings.Contains(text, `"`+event+`"`)
			}
		}
	}
	for _, event := range events {
		if !found[event] {
			t.Errorf("no record %s that says who asked", event)
		}
	}
}

// TestRecoveryByTwo loses keys of a server and brings them back with shares of
// two admins; one alone is refused.
func TestRecoveryByTwo(t *testing.T) {
	t.Parallel()
	dir, ceremony := t.TempDir(), filepath.Join(t.TempDir(), "ceremony")
	if out := verdictCmd(t, 0, "keys", "escrow", "keygen", "--shares", "3", "--threshold", "2", "--out", ceremony); !strings.Contains(out, "3 shares, 2 of them give it") {
		t.Error(out)
	}
	share := func(n int) string { return filepath.Join(ceremony, fmt.Sprintf("share-%d", n)) }
	folder := keyFolder{T: t, dir: dir, public: filepath.Join(ceremony, "escrow.pem")}
	var old string
	folder.with(time.Now(), func(ring *keys.Ring) {
		old = folder.seal(ring, keys.Confidential)
		if _, err := ring.Rotate(t.Context(), keys.By{}, ring.ClassID(keys.Confidential)); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.Remove(filepath.Join(dir, "keys", "verdict-confidential.keyset")); err != nil {
		t.Fatal(err)
	}
	ana, bo := admin(t, dir, "ana"), admin(t, dir, "bo")
	child := admin(t, dir, "child", "--created-by", "ana")
	s := servertest.Start(t, servertest.Options{Dir: dir, Args: plain(t, "--set", "keys.escrow.public_key="+folder.public, "--set", "keys.escrow.enforce=true")})
	packages := filepath.Join(t.TempDir(), "packages.json")
	run := func(code int, token string, args ...string) string {
		t.Helper()
		return verdictCmd(t, code, append(append([]string{"keys"}, args...), "--server", s.URL, "--token-file", token)...)
	}
	if err := os.WriteFile(packages, []byte(run(0, ana, "escrow", "export", "verdict-confidential")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(0, ana, "recover", "verdict-confidential", "--share", share(1), "--share", share(2)); !strings.Contains(out, "2 of 2 shares, given by ana") {
		t.Error(out)
	}
	for token, code := range map[string]string{ana: "recovery_same_principal", child: "recovery_related_principal"} {
		if out := run(2, token, "recover", "verdict-confidential", "--share", share(3), "--output", "json"); !strings.Contains(out, `"status":403`) || !strings.Contains(out, code) {
			t.Errorf("refused with %s", out)
		}
	}
	if out := run(0, bo, "recover", "verdict-confidential", "--share", share(3)); out != "recovered verdict-confidential\n" {
		t.Error(out)
	}
	run(1, bo, "recover", "verdict-confidential", "--share", share(3)) // it is there
	keyRecords(t, s, "key_escrow_exported", "key_recovery_shares", "key_recovery_refused", "key_recovered")
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/keys/verdict-confidential", Token: s.AdminToken()}), http.StatusOK, `"version":2`, `"escrow":{"required":true,"versions":[1,2]}`)
	if !s.Eventually(func() error {
		if a := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()}); !strings.Contains(string(a.Body), `"escrow":"on"`) {
			return fmt.Errorf("%s", a.Body)
		}
		return nil
	}) {
		t.Error("escrow is not on")
	}
	output := s.Stdout() + s.Stderr()
	s.Stop()
	folder.with(time.Now(), func(ring *keys.Ring) {
		if err := folder.opens(ring, old); err != nil {
			t.Errorf("an old ciphertext after the recovery: %v", err)
		}
	})
	recovered := filepath.Join(t.TempDir(), "key.json")
	if out := verdictCmd(t, 0, "keys", "escrow", "open", "--packages", packages, "--version", "1", "--share", share(3), "--share", share(1), "--out", recovered); out != "opened version 1 of key verdict-confidential\n" {
		t.Error(out)
	}
	if info, err := os.Stat(recovered); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	verdictCmd(t, 1, "keys", "escrow", "open", "--packages", packages, "--share", share(3), "--out", recovered+"2")
	var content escrow.Content
	raw, err := os.ReadFile(recovered)
	if err != nil || json.Unmarshal(raw, &content) != nil {
		t.Fatal(err)
	}
	noSecrets(t, dir, output, share(1), share(2), share(3))
}

// noSecrets looks for shares in everything that a server wrote.
func noSecrets(t *testing.T, dir, output string, shares ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		output += string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range shares {
		share, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if part := string(share[5:45]); strings.Contains(output, part) {
			t.Errorf("%s is in what the server wrote", path)
		}
	}
	if strings.Contains(output, "canary-plaintext") {
		t.Error("the plaintext is in what the server wrote")
	}
}
