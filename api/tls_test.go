package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/keys/cert"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key, _ = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key, der
}

// write puts a server certificate into dir and returns its files.
func (a *authority) write(dir string, ends time.Time) (cert, key string) {
	a.t.Helper()
	made, private, _ := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "verdict"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: ends,
	})
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	a.file(cert, "CERTIFICATE", made.Raw)
	a.file(key, "EC PRIVATE KEY", der)
	return cert, key
}

func (a *authority) file(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// client makes a client certificate.
func (a *authority) client(cn string, dns ...string) *tls.Certificate {
	_, key, der := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: cn, Organization: []string{"Example"}}, DNSNames: dns,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// over makes a client that believes a and shows a certificate.
func (a *authority) over(c *tls.Certificate, change func(*tls.Config)) *http.Client {
	config := &tls.Config{RootCAs: a.pool()}
	if c != nil { // shown whatever authorities the server names
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: len(config.NextProtos) == 0}
	a.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func keeper(t *testing.T, s cert.KeeperSettings, o cert.KeeperOptions) *cert.Keeper {
	t.Helper()
	k, err := cert.NewKeeper(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	servers, clients, strangers := newAuthority(t, "servers"), newAuthority(t, "clients"), newAuthority(t, "strangers")
	crt, key := servers.write(dir, time.Time{})
	ca := filepath.Join(dir, "ca.crt")
	clients.file(ca, "CERTIFICATE", clients.cert.Raw)
	store := newStore(t, tokens.Options{})
	secret := secretOf(t, store, "pep", "decide")
	g := newGate(t, store, api.GateOptions{Settings: api.AccessSettings{Certificates: []api.CertificateRule{
		{SAN: "pep.example", Name: "pep-1", Scopes: []string{"decide"}},
		{Subject: "CN=pep-2,O=Example", Name: "pep-2", Scopes: []string{"decide"}},
		{SAN: "watch.example", Name: "watch", Scopes: []string{"audit:read"}},
	}}})
	k := keeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, nil), Clients: cert.ClientSettings{CAFile: ca}}, cert.KeeperOptions{})
	s, _ := start(t, g, everything(g, api.ClassDecide, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+api.FromContext(r.Context()).Caller.Name)
	}), api.ServerOptions{Addr: "127.0.0.1:0", TLS: k.Config})
	url := "https://" + s.Addr(api.Main).String() + "/"

	for _, tc := range []struct {
		name   string
		client *http.Client
		token  string
		want   string // beginning of the body, or of an error
	}{
		{"by name", servers.over(clients.client("x", "PEP.example"), nil), "", "HTTP/2.0 pep-1"},
		{"by subject", servers.over(clients.client("pep-2"), nil), "", "HTTP/2.0 pep-2"},
		{"HTTP/1.1", servers.over(clients.client("pep-2"), func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }), "", "HTTP/1.1 pep-2"},
		{"TLS 1.2", servers.over(clients.client("pep-2"), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), "", "HTTP/2.0 pep-2"},
		{"no certificate", servers.over(nil, nil), "", "unauthorized"},
		{"token instead", servers.over(nil, nil), secret, "HTTP/2.0 pep"},
		{"token goes first", servers.over(clients.client("pep-2"), nil), secret, "HTTP/2.0 pep"},
		{"bad token beside it", servers.over(clients.client("pep-2"), nil), "x", "unauthorized"},
		{"not listed", servers.over(clients.client("pep-3"), nil), "", "forbidden"},
		{"without the scope", servers.over(clients.client("x", "watch.example"), nil), "", "forbidden"},
		{"of strangers", servers.over(strangers.client("pep-2"), nil), "", "error"},
		{"TLS 1.1", servers.over(nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), secret, "error"},
		{"CBC", servers.over(nil, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}), secret, "error"},
	} {
		for range 2 { // the second over the same connection
			if got := fetch(t, tc.client, url, tc.token); !strings.HasPrefix(got, tc.want) {
				t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
			}
		}
	}
	// The mapping changes for connections that are open, too.
	client := servers.over(clients.client("pep-3"), nil)
	if got := fetch(t, client, url, ""); !strings.HasPrefix(got, "forbidden") {
		t.Error(got)
	}
	commit, err := g.Prepare(api.AccessSettings{Certificates: []api.CertificateRule{{Subject: "CN=pep-3,O=Example", Name: "late", Scopes: []string{"admin"}}}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	if got := fetch(t, client, url, ""); got != "HTTP/2.0 late" {
		t.Error(got)
	}
}

func fetch(t *testing.T, c *http.Client, url, token string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(r)
	if err != nil {
		return "error " + err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	old, next := newAuthority(t, "old"), newAuthority(t, "next")
	crt, key := old.write(dir, time.Time{})
	g := devGate(t, api.AccessSettings{})
	settings := cert.KeeperSettings{Source: cert.NewFiles(crt, key, nil)}
	k := keeper(t, settings, cert.KeeperOptions{})
	s, _ := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{Addr: "127.0.0.1:0", TLS: k.Config})
	url := "https://" + s.Addr(api.Main).String() + "/"
	open := old.over(nil, nil)
	if got := fetch(t, open, url, ""); got != "" {
		t.Fatal(got)
	}
	next.write(dir, time.Time{})
	commit, err := k.Prepare(settings)
	if err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, next.over(nil, nil), url, ""); !strings.HasPrefix(got, "error") {
		t.Errorf("before commit: %q", got)
	}
	commit()
	if got := fetch(t, next.over(nil, nil), url, ""); got != "" {
		t.Errorf("after commit: %q", got)
	}
	if got := fetch(t, open, url, ""); got != "" {
		t.Errorf("an open connection: %q", got)
	}
	if got := fetch(t, old.over(nil, nil), url, ""); !strings.HasPrefix(got, "error") {
		t.Errorf("the old certificate is still shown: %q", got)
	}
	// What cannot be taken leaves what is.
	ended := filepath.Join(dir, "ended")
	if err := os.Mkdir(ended, 0o700); err != nil {
		t.Fatal(err)
	}
	endedCert, endedKey := next.write(ended, time.Now().Add(-time.Minute))
	for name, bad := range map[string]cert.KeeperSettings{
		"mixed":      {Source: cert.NewFiles(crt, endedKey, nil)},
		"ended":      {Source: cert.NewFiles(endedCert, endedKey, nil)},
		"no CA":      {Source: settings.Source, Clients: cert.ClientSettings{CAFile: key}},
		"CA missing": {Source: settings.Source, Clients: cert.ClientSettings{CAFile: filepath.Join(dir, "none")}},
	} {
		if _, err := k.Prepare(bad); err == nil || !strings.Contains(err.Error(), "server.tls") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := fetch(t, next.over(nil, nil), url, ""); got != "" {
		t.Errorf("after bad reloads: %q", got)
	}
}

func TestTLSConnectionBound(t *testing.T) {
	a := newAuthority(t, "a")
	crt, key := a.write(t.TempDir(), time.Time{})
	g := devGate(t, api.AccessSettings{})
	k := keeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, nil)}, cert.KeeperOptions{})
	s, _ := start(t, g, everything(g, api.ClassDecide, ok), api.ServerOptions{
		Addr: "127.0.0.1:0", TLS: k.Config, Settings: api.ServerSettings{MaxConnections: 1},
	})
	url := "https://" + s.Addr(api.Main).String() + "/"
	if got := fetch(t, a.over(nil, nil), url, ""); got != "" { // stays open
		t.Fatal(got)
	}
	if got := fetch(t, a.over(nil, nil), url, ""); got != "too many connections\n" {
		t.Errorf("above the bound: %q", got)
	}
}
