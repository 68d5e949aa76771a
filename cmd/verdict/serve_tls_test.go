package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign makes a certificate and its key; without a certificate of the authority's
// own it signs itself.
func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	c.SerialNumber = big.NewInt(a.next)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// server writes the certificate and key of a server on loopback.
func (a *authority) server(cert, key string, notAfter time.Time) {
	a.t.Helper()
	c, k := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(cert, "CERTIFICATE", c.Raw)
	a.write(key, "PRIVATE KEY", der)
}

// client is a client that trusts the authority and has a certificate with the
// URI, or none.
func (a *authority) client(signer *authority, uri string) *tls.Config {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AddCert(a.cert)
	if signer == nil {
		return c
	}
	u, err := url.Parse(uri)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key := signer.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "client"}, URIs: []*url.URL{u}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	// Certificates would be kept back where the server names other authorities.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, nil
	}
	return c
}

func (a *authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// TestTLS shakes hands with and without client certificates, and exchanges the
// certificate of a running server.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, outside := newAuthority(t, "ca"), newAuthority(t, "outside")
	cert, key, clients := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "clients.pem")
	ca.server(cert, key, time.Time{})
	ca.write(clients, "CERTIFICATE", ca.cert.Raw)
	config := filepath.Join(dir, "verdict.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
server: {tls: {cert_file: %q, key_file: %q, client_ca_file: %q}}
authn:
  certificates:
    - {san: "spiffe://test/gateway", name: gateway, scopes: [decide]}
    - {san: "spiffe://test/auditor", name: auditor, scopes: ["audit:read"]}
`, cert, key, clients), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Options{
		Strict: true, TLS: true, Client: servertest.NewClient(ca.client(nil, "")), Args: plain(t, "--config", config),
	})
	decide := servertest.Request{Path: "/v1/data/app/allow", Body: `{"input":{"user":"ada"}}`}
	for _, c := range []struct {
		name   string
		client *tls.Config
		q      servertest.Request
		want   int
	}{
		{"nobody decides", ca.client(nil, ""), decide, 401},
		{"the gateway decides", ca.client(ca, "spiffe://test/gateway"), decide, 200},
		{"the auditor does not", ca.client(ca, "spiffe://test/auditor"), decide, 403},
		{"a stranger does not", ca.client(ca, "spiffe://test/stranger"), decide, 403},
		{"the auditor reads", ca.client(ca, "spiffe://test/auditor"), servertest.Request{Path: "/api/v1/status"}, 200},
		{"the gateway does not", ca.client(ca, "spiffe://test/gateway"), servertest.Request{Path: "/api/v1/status"}, 403},
		{"a bad token beats a good certificate", ca.client(ca, "spiffe://test/gateway"), servertest.Request{Path: decide.Path, Body: decide.Body, Token: "bad"}, 401},
	} {
		c.q.Client = servertest.NewClient(c.client)
		if a := s.Do(c.q); a.Status != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, a.Status, a.Body, c.want)
		}
	}
	decide.Client = servertest.NewClient(ca.client(outside, "spiffe://test/gateway"))
	if _, err := s.Try(decide); err == nil {
		t.Error("a certificate of another authority gets through the handshake")
	}
	decide.Client = servertest.NewClient(outside.client(nil, ""))
	if _, err := s.Try(decide); err == nil {
		t.Error("the server is trusted by a client of another authority")
	}
	old := ca.client(nil, "")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	decide.Client = servertest.NewClient(old)
	if _, err := s.Try(decide); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	plaintext := servertest.NewClient(nil)
	if resp, err := plaintext.Get("http" + strings.TrimPrefix(s.URL, "https") + "/health"); err == nil {
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plaintext is answered with %d", resp.StatusCode)
		}
	}
	renew(t, s, ca, cert, key)
	s.Stop()
	if !strings.Contains(fmt.Sprint(members(t, last(t, readLog(t, s.Dir), "permission_granted").raw)), "requested_by") {
		t.Error("the record does not name the caller")
	}
}

// renew exchanges the certificate: first for one that is over, which is refused,
// then for a good one.
func renew(t *testing.T, s *servertest.Server, ca *authority, cert, key string) {
	t.Helper()
	serial := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), ca.client(nil, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	ca.server(cert, key, time.Now().Add(-time.Hour))
	hangUp(t, s, "refused")
	if now := serial(); now != before {
		t.Error("a certificate that is over was taken")
	}
	ca.server(cert, key, time.Time{})
	hangUp(t, s, "read again")
	if now := serial(); now == before {
		t.Error("the new certificate is not taken")
	}
}

// hangUp sends SIGHUP and waits for another line with the text.
func hangUp(t *testing.T, s *servertest.Server, text string) {
	t.Helper()
	before := strings.Count(s.Stderr(), text)
	s.Signal(syscall.SIGHUP)
	if !s.Eventually(func() error {
		if strings.Count(s.Stderr(), text) == before {
			return errors.New("nothing is said")
		}
		return nil
	}) {
		t.Fatalf("SIGHUP: nobody says %q:\n%s", text, s.Stderr())
	}
}

// TestAddresses refuses to listen where others could read along.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"plaintext", []string{"--addr", "0.0.0.0:0"}, "server.addr: \"0.0.0.0:0\" is not loopback and would be served in plaintext"},
		{"plaintext, admin", []string{"--set", "server.admin_addr=0.0.0.0:0"}, "server.admin_addr"},
		{"plaintext, diagnostic", []string{"--set", "server.diagnostic_addr=:0"}, "server.diagnostic_addr"},
		{"dev", []string{"--dev", "--addr", "0.0.0.0:0", "--set", "server.allow_plaintext=true"}, "--dev"},
		{"dev, any", []string{"--dev", "--addr", ":0"}, "--dev"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := servertest.Launch(t, servertest.Options{Strict: true, Args: append([]string{"--standard-policies=false"}, c.args...)})
			if code := s.Wait(); code != 2 || !strings.Contains(s.Stderr(), c.want) {
				t.Errorf("exit code %d:\n%s", code, s.Stderr())
			}
		})
	}
	s := servertest.Start(t, servertest.Options{Strict: true, Args: plain(t, "--addr", "0.0.0.0:0", "--set", "server.allow_plaintext=true")})
	s.Stop()
}
