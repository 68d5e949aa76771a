package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// serialOf is the serial number that a server shows.
func serialOf(t *testing.T, s *servertest.Server, client *tls.Config) string {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

// TestCertificateFilesUnderLoad replaces the files of the certificate again and
// again, without a signal, while requests come on old and new connections: none
// fails.
func TestCertificateFilesUnderLoad(t *testing.T) {
	t.Parallel()
	dir, ca := t.TempDir(), newAuthority(t, "ca")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.server(cert, key, time.Time{})
	s := servertest.Start(t, servertest.Options{
		Strict: true, TLS: true, Client: servertest.NewClient(ca.client(nil, "")),
		Args: plain(t, "--set", "server.tls.cert_file="+cert, "--set", "server.tls.key_file="+key, "--set", "server.tls.check_every=100ms", "--set", "server.open=decide"),
	})
	seen := underLoad(t, s, ca.client(nil, ""), func(serial func() string) {
		for range 3 {
			before := serial()
			ca.server(cert, key, time.Time{})
			for deadline := time.Now().Add(time.Minute); serial() == before; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Error("the new certificate is not served")
					return
				}
			}
		}
	})
	s.Stop()
	if n := count(readLog(t, s.Dir), "certificate_renewal"); n != 3 {
		t.Errorf("%d renewals are recorded", n)
	}
	t.Logf("%d requests", seen)
}

// underLoad asks on connections that stay open and on new ones while work runs,
// and gives how many requests there were. None may fail.
func underLoad(t *testing.T, s *servertest.Server, client *tls.Config, work func(serial func() string)) int64 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	var group errgroup.Group
	for n := range 6 {
		group.Go(func() error { // ends with ctx, below
			c := servertest.NewClient(client.Clone())
			defer c.CloseIdleConnections()
			c.Transport.(*http.Transport).DisableKeepAlives = n%2 == 1
			for ctx.Err() == nil {
				resp, err := c.Post(s.URL+"/v1/data/app/allow", "application/json", strings.NewReader(`{"input":{"user":"ada"}}`))
				if err != nil {
					return err
				}
				if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
					return fmt.Errorf("status %d, %w", resp.StatusCode, err)
				}
				asked.Add(1)
			}
			return nil
		})
	}
	work(func() string { return serialOf(t, s, client) })
	stop()
	if err := group.Wait(); err != nil {
		t.Errorf("a request failed: %v", err)
	}
	return asked.Load()
}

// TestCertificateOfVault has the certificate signed by a real server of Vault's
// API, renews it under load, and goes on while Vault is away.
func TestCertificateOfVault(t *testing.T) {
	t.Parallel()
	vault := vaulttest.Dev(t)
	mount := vault.Mount("pki", nil)
	root := vault.Do(http.MethodPost, mount+"/root/generate/internal", map[string]any{"common_name": "root", "key_type": "ec", "key_bits": 256, "ttl": "24h"})
	vault.Do(http.MethodPost, mount+"/roles/verdict", map[string]any{
		"allow_localhost": true, "allow_bare_domains": true, "allowed_domains": "localhost", "allow_ip_sans": true,
		"require_cn": false, "server_flag": true, "client_flag": false, "key_type": "ec", "not_before_duration": "1s",
	})
	proxy := vaulttest.NewProxy(t, vault.Address)
	client := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !client.RootCAs.AppendCertsFromPEM([]byte(root["certificate"].(string))) {
		t.Fatal("no root")
	}
	s := servertest.Start(t, servertest.Options{TLS: true, Client: servertest.NewClient(client), Args: plain(t,
		"--set", "keys.vault.address="+proxy.URL, "--set", "keys.vault.auth.token_file="+vaulttest.Write(t, vault.Token),
		"--set", "server.tls.source=vault", "--set", "server.tls.vault.mount="+mount, "--set", "server.tls.vault.role=verdict",
		"--set", "server.tls.vault.sans=localhost,127.0.0.1", "--set", "server.tls.vault.ttl=6s",
	)})
	seen := map[string]bool{}
	underLoad(t, s, client, func(serial func() string) {
		for deadline := time.Now().Add(30 * time.Second); len(seen) < 3; time.Sleep(50 * time.Millisecond) {
			if seen[serial()] = true; time.Now().After(deadline) {
				t.Errorf("%d certificates in 30 s", len(seen))
				return
			}
		}
	})
	proxy.Cut()
	if !s.Eventually(func() error {
		a := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()})
		if !strings.Contains(string(a.Body), `"certificates":{"state":"degraded","source":"vault"`) {
			return errors.New("nothing is wrong yet")
		}
		return nil
	}) {
		t.Error("status does not tell that there is no renewal")
	}
	proxy.Heal()
	s.Stop()
	if log := fmt.Sprint(readLog(t, s.Dir)); strings.Contains(log+s.Stderr(), vault.Token) || strings.Contains(log, "PRIVATE KEY") {
		t.Error("a secret is told")
	}
}

// TestRevokedOnOpenConnections issues certificates by the development authority,
// asks with them over HTTP and gRPC, and revokes one: its connections, which are
// open, are of no use any more, also after a restart.
func TestRevokedOnOpenConnections(t *testing.T) {
	t.Parallel()
	o := servertest.Options{Dir: filepath.Join(t.TempDir(), "data"), TLS: true, Client: servertest.NewClient(&tls.Config{InsecureSkipVerify: true}), Args: plain(t,
		"--set", "server.tls.source=dev", "--set", "certificates.issuer=dev", "--set", "certificates.allowed.spiffe=spiffe://shop.test/*",
		"--set", "authn.certificates=[{san: spiffe://shop.test/a, name: a, scopes: [admin]}, {san: spiffe://shop.test/b, name: b, scopes: [admin]}]",
		"--set", "extauthz.path=app/allow",
	)}
	s := servertest.Start(t, o)
	ca, err := os.ReadFile(filepath.Join(o.Dir, "dev-ca", "dev-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	one, serial := issue(t, s, ca, "spiffe://shop.test/a")
	two, _ := issue(t, s, ca, "spiffe://shop.test/b")
	if a := tryIssue(t, s, "spiffe://other.test/a", nil); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "name_not_allowed") {
		t.Errorf("a name that is not allowed: %d %s", a.Status, a.Body)
	}
	first, second := servertest.NewClient(one), servertest.NewClient(two)
	defer first.CloseIdleConnections()
	defer second.CloseIdleConnections()
	read := func(c *http.Client) (int, error) {
		resp, err := c.Get(s.URL + "/api/v1/status")
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(one)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func() codes.Code {
		_, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{})
		return status.Code(err)
	}
	for _, c := range []*http.Client{first, second} {
		if status, err := read(c); status != http.StatusOK || err != nil {
			t.Fatalf("%d, %v", status, err)
		}
	}
	if code := check(); code == codes.PermissionDenied || code == codes.Unauthenticated || code == codes.Unavailable {
		t.Fatalf("gRPC: %v", code)
	}
	a := s.Do(servertest.Request{Path: "/api/v1/certificates/" + serial + "/revoke", Token: s.AdminToken(), Body: map[string]any{"reason": "lost"}})
	wantStatus(t, a, http.StatusOK, `"status":"revoked"`)
	if status, err := read(first); status != http.StatusUnauthorized || err != nil {
		t.Errorf("on the open connection: %d, %v", status, err)
	}
	if status, err := read(first); err == nil {
		t.Errorf("on a new connection: %d", status)
	}
	if code := check(); code != codes.Unauthenticated {
		t.Errorf("gRPC on the open connection: %v", code)
	}
	if status, err := read(second); status != http.StatusOK || err != nil {
		t.Errorf("another certificate: %d, %v", status, err)
	}
	list := s.Do(servertest.Request{Path: "/api/v1/certificates?expires_within=720h&type=client", Token: s.AdminToken()})
	if certs := list.JSON(t)["certificates"].([]any); len(certs) != 1 {
		t.Errorf("the inventory has %d good clients: %s", len(certs), list.Body)
	}
	s.Stop()
	s = servertest.Start(t, o)
	if after, err := os.ReadFile(filepath.Join(o.Dir, "dev-ca", "dev-ca.crt")); err != nil || string(after) != string(ca) {
		t.Errorf("the authority is another after a restart: %v", err)
	}
	if status, err := read(servertest.NewClient(one)); err == nil {
		t.Errorf("after a restart: %d", status)
	}
	if status, err := read(servertest.NewClient(two)); status != http.StatusOK || err != nil {
		t.Errorf("another certificate after a restart: %d, %v", status, err)
	}
	s.Stop()
	records := readLog(t, o.Dir)
	for event, want := range map[string]int{"certificate_issued": 3, "certificate_issue_refused": 1, "certificate_revoked": 1} {
		if n := count(records, event); n != want {
			t.Errorf("%d records of %s, want %d", n, event, want)
		}
	}
	if text := fmt.Sprint(records); strings.Contains(text, "PRIVATE KEY") {
		t.Error("a key is recorded")
	}
}

func tryIssue(t *testing.T, s *servertest.Server, id string, key *ecdsa.PrivateKey) *servertest.Answer {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return s.Do(servertest.Request{Path: "/api/v1/certificates", Token: s.AdminToken(), Body: map[string]any{
		"type": "client", "csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
	}})
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue has a client certificate issued and makes a client of it.
func issue(t *testing.T, s *servertest.Server, ca []byte, id string) (client *tls.Config, serial string) {
	t.Helper()
	key := newKey(t)
	a := tryIssue(t, s, id, key)
	wantStatus(t, a, http.StatusOK, `"type":"client"`)
	answer := a.JSON(t)
	block, _ := pem.Decode([]byte(answer["certificate"].(string)))
	client = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	client.RootCAs.AppendCertsFromPEM(ca)
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, nil
	}
	return client, answer["serial"].(string)
}
