// Package vaulttest runs a real server of Vault's API for tests: OpenBao, or
// whatever VERDICT_TEST_VAULT_ADDR and VERDICT_TEST_VAULT_TOKEN name. In front
// of it stands a proxy for faults.
package vaulttest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/components"
)

const (
	patience  = 30 * time.Second
	tokenLife = "1h" // more than any test takes
)

// Server is a server of Vault's API that runs.
type Server struct {
	t testing.TB
	// Address is its URL, and Token may do everything.
	Address, Token string
	// CAFile is the authority of its certificate, when it has one.
	CAFile string

	process *components.Process
	dir     string // of a server that keeps its data; empty otherwise
	unseal  string
	client  *http.Client
}

// Dev is a development server of its own, or the one that the environment
// names: unsealed, in memory.
func Dev(t testing.TB) *Server {
	t.Helper()
	if address := os.Getenv("VERDICT_TEST_VAULT_ADDR"); address != "" {
		return &Server{t: t, Address: strings.TrimSuffix(address, "/"), Token: os.Getenv("VERDICT_TEST_VAULT_TOKEN"), client: http.DefaultClient}
	}
	program := components.Path(t, "openbao")
	addr := components.Address(t)
	s := &Server{t: t, Address: "http://" + addr, Token: "root-" + Name(), client: http.DefaultClient}
	s.process = components.Start(t, t.TempDir(), addr, program, "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id="+s.Token, "-dev-listen-address="+addr)
	s.await(200)
	return s
}

// TLS is a development server of its own that speaks TLS; CAFile has its
// authority. Where the environment names a server the test is skipped.
func TLS(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("VERDICT_TEST_VAULT_ADDR") != "" {
		t.Skip("the Vault of VERDICT_TEST_VAULT_ADDR has a certificate of its own")
	}
	program := components.Path(t, "openbao")
	addr, dir := components.Address(t), t.TempDir()
	s := &Server{t: t, Address: "https://" + addr, Token: "root-" + Name(), CAFile: filepath.Join(dir, "vault-ca.pem")}
	s.process = components.Start(t, dir, addr, program, "server", "-dev", "-dev-no-store-token", "-dev-tls",
		"-dev-tls-cert-dir="+dir, "-dev-root-token-id="+s.Token, "-dev-listen-address="+addr)
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s has no certificate", s.CAFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	s.await(200)
	return s
}

// Name is a name that no other test has.
func Name() string {
	var b [6]byte
	rand.Read(b[:])
	return "t" + hex.EncodeToString(b[:])
}

// File is a server that keeps its data in a folder, initialized and unsealed:
// it can be sealed, unsealed and started again. Where the environment names a
// server the test is skipped, since that one is not ours to seal.
func File(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("VERDICT_TEST_VAULT_ADDR") != "" {
		t.Skip("the Vault of VERDICT_TEST_VAULT_ADDR is not ours to seal")
	}
	addr := components.Address(t)
	s := &Server{t: t, Address: "http://" + addr, dir: t.TempDir(), client: http.DefaultClient}
	cluster := components.Address(t)
	config := fmt.Sprintf(`storage "raft" {
  path = %q
  node_id = "one"
  performance_multiplier = 1
}
listener "tcp" {
  address = %q
  cluster_address = %q
  tls_disable = true
}
api_addr = %q
cluster_addr = "http://%s"
`, s.dir, addr, cluster, s.Address, cluster)
	if err := os.WriteFile(filepath.Join(s.dir, "bao.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start()
	answer := s.Do(http.MethodPut, "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1})
	s.Token, _ = answer["root_token"].(string)
	list, _ := answer["keys_base64"].([]any)
	if s.Token == "" || len(list) != 1 {
		t.Fatalf("sys/init answered without a token or a key")
	}
	s.unseal, _ = list[0].(string)
	s.Unseal()
	return s
}

// Start starts a server of File that Stop has stopped. It is sealed.
func (s *Server) Start() {
	s.t.Helper()
	program := components.Path(s.t, "openbao")
	s.process = components.Start(s.t, s.dir, strings.TrimPrefix(s.Address, "http://"), program, "server", "-config=bao.hcl")
}

// Stop ends the server.
func (s *Server) Stop() {
	s.t.Helper()
	s.process.Stop()
}

// Seal seals the server.
func (s *Server) Seal() {
	s.t.Helper()
	s.Do(http.MethodPut, "sys/seal", nil)
}

// Unseal unseals the server and waits until it works.
func (s *Server) Unseal() {
	s.t.Helper()
	s.Do(http.MethodPut, "sys/unseal", map[string]any{"key": s.unseal})
	s.await(200)
}

// await waits until the server's health has the status.
func (s *Server) await(status int) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := s.client.Get(s.Address + "/v1/sys/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == status {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s is not ready: %v", s.Address, err)
		}
	}
}

// Do makes a call with the root token and gives the answer's data, or the
// answer when it has none; a refusal ends the test.
func (s *Server) Do(method, path string, body any) map[string]any {
	s.t.Helper()
	status, answer := s.Try(s.Token, method, path, body)
	if status/100 != 2 {
		s.t.Fatalf("%s %s: %d %v", method, path, status, answer["errors"])
	}
	if data, ok := answer["data"].(map[string]any); ok {
		return data
	}
	return answer
}

// Try makes a call with a token and gives the status and the answer.
func (s *Server) Try(token, method, path string, body any) (status int, answer map[string]any) {
	s.t.Helper()
	return s.try(token, method, path, body, http.Header{})
}

func (s *Server) try(token, method, path string, body any, header http.Header) (status int, answer map[string]any) {
	s.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) // not the test's: clean-ups call too
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.Address+"/v1/"+path, bytes.NewReader(encoded))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = header
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = json.Unmarshal(text, &answer) // an empty answer has none
	return resp.StatusCode, answer
}

// Mount mounts a secrets engine for the test and gives its path.
func (s *Server) Mount(kind string, options map[string]any) string {
	s.t.Helper()
	path := Name()
	s.Do(http.MethodPost, "sys/mounts/"+path, map[string]any{"type": kind, "options": options})
	s.t.Cleanup(func() { s.tidy("sys/mounts/" + path) })
	return path
}

// Transit mounts a transit engine as docs/vault.md says.
func (s *Server) Transit() string {
	s.t.Helper()
	path := s.Mount("transit", nil)
	s.Do(http.MethodPost, path+"/config/keys", map[string]any{"disable_upsert": true})
	return path
}

// Auth mounts a way to log in for the test and gives its path.
func (s *Server) Auth(kind string) string {
	s.t.Helper()
	path := Name()
	s.Do(http.MethodPost, "sys/auth/"+path, map[string]any{"type": kind})
	s.t.Cleanup(func() { s.tidy("sys/auth/" + path) })
	return path
}

// Policy writes a policy and gives its name.
func (s *Server) Policy(text string) string {
	s.t.Helper()
	name := Name()
	s.Do(http.MethodPut, "sys/policies/acl/"+name, map[string]any{"policy": text})
	s.t.Cleanup(func() { s.tidy("sys/policies/acl/" + name) })
	return name
}

// Login makes a token with the policies and nothing else. options are those of
// auth/token/create.
func (s *Server) Login(policies []string, options map[string]any) string {
	s.t.Helper()
	body := map[string]any{"policies": policies, "no_default_policy": true, "no_parent": true, "ttl": tokenLife}
	for k, v := range options {
		body[k] = v
	}
	_, answer := s.Try(s.Token, http.MethodPost, "auth/token/create", body)
	auth, _ := answer["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	if token == "" {
		s.t.Fatalf("auth/token/create: %v", answer["errors"])
	}
	return token
}

// Wrap makes a call with the root token and gives the token of the wrapping
// that its answer comes in.
func (s *Server) Wrap(path string, body any) string {
	s.t.Helper()
	_, answer := s.try(s.Token, http.MethodPost, path, body, http.Header{"X-Vault-Wrap-Ttl": {"60s"}})
	info, _ := answer["wrap_info"].(map[string]any)
	token, _ := info["token"].(string)
	if token == "" {
		s.t.Fatalf("POST %s gave no wrapping: %v", path, answer["errors"])
	}
	return token
}

// Revoke ends a token.
func (s *Server) Revoke(token string) {
	s.t.Helper()
	s.Do(http.MethodPost, "auth/token/revoke", map[string]any{"token": token})
}

// Write writes a file that only the test can read and gives its path.
func Write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tidy deletes what a test has made in a server that lives on.
func (s *Server) tidy(path string) {
	if s.process == nil {
		s.Try(s.Token, http.MethodDelete, path, nil)
	}
}
