package cert_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys/cert"
)

// start is when tests begin.
var start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// log is a Recorder.
type log struct {
	mu     sync.Mutex
	events []cert.Event
	down   error
}

func (l *log) RecordCertificate(_ context.Context, e cert.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		return l.down
	}
	l.events = append(l.events, e)
	return nil
}

func (l *log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = err
}

// kinds gives what was recorded since the last call.
func (l *log) kinds() []cert.EventKind {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []cert.EventKind
	for _, e := range l.events {
		all = append(all, e.Kind)
	}
	l.events = nil
	return all
}

func (l *log) want(t *testing.T, when string, kinds ...cert.EventKind) {
	t.Helper()
	if got := l.kinds(); !slices.Equal(got, kinds) {
		t.Errorf("%s: recorded %q, want %q", when, got, kinds)
	}
}

var errDown = errors.New("the log is down")

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotAfter: start.Add(1000 * 24 * time.Hour),
	})
	return a
}

func (a *authority) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.next++
	if c.SerialNumber == nil {
		c.SerialNumber = big.NewInt(0x1000 + a.next)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = start.Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = start.Add(24 * time.Hour)
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
	return made, key
}

// under is an authority below a.
func (a *authority) under(name string) *authority {
	a.t.Helper()
	b := &authority{t: a.t}
	b.cert, b.key = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotAfter: start.Add(900 * 24 * time.Hour),
	})
	return b
}

// server writes a certificate with its chain and its key into a folder.
func (a *authority) server(dir string, c *x509.Certificate, more ...*x509.Certificate) (crt, key string) {
	a.t.Helper()
	if c == nil {
		c = &x509.Certificate{}
	}
	c.Subject, c.DNSNames = pkix.Name{CommonName: "verdict"}, []string{"localhost"}
	made, private := a.sign(c)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	crt, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write(a.t, crt, pems("CERTIFICATE", slices.Concat([][]byte{made.Raw}, raws(more))...))
	write(a.t, key, pems("PRIVATE KEY", der))
	return crt, key
}

func raws(list []*x509.Certificate) [][]byte {
	var all [][]byte
	for _, c := range list {
		all = append(all, c.Raw)
	}
	return all
}

// client makes a client certificate with a URI, or none.
func (a *authority) client(uri string, change ...func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			a.t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
	}
	for _, f := range change {
		f(c)
	}
	return a.sign(c)
}

// crl makes a revocation list.
func (a *authority) crl(number int64, ends time.Time, revoked ...*x509.Certificate) []byte {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: start.Add(-time.Hour), NextUpdate: ends}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: c.SerialNumber, RevocationTime: start.Add(-time.Minute),
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func pems(kind string, ders ...[]byte) []byte {
	var all []byte
	for _, der := range ders {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return all
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// csr makes a certificate signing request, PEM.
func csr(t testing.TB, change func(*x509.CertificateRequest)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return csrOf(t, key, change)
}

func csrOf(t testing.TB, key any, change func(*x509.CertificateRequest)) string {
	t.Helper()
	template := &x509.CertificateRequest{DNSNames: []string{"api.test"}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pems("CERTIFICATE REQUEST", der))
}

// shake performs a handshake with a keeper's configuration and gives what each
// side says.
func shake(t *testing.T, k *cert.Keeper, client *tls.Config) (state tls.ConnectionState, server, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	srv := tls.Server(a, k.Config())
	done := make(chan error, 1)
	go func() { // ends with the handshake
		err := srv.HandshakeContext(t.Context())
		if err != nil {
			_ = a.Close()
		}
		done <- err
	}()
	conn := tls.Client(b, client)
	clientErr = conn.HandshakeContext(t.Context())
	if clientErr != nil {
		_ = b.Close()
	} else {
		go func() { _, _ = io.Copy(io.Discard, conn) }() // takes alerts; ended by Close
	}
	server = <-done
	return conn.ConnectionState(), server, clientErr
}

// believes is a client that believes an authority and shows a certificate.
func (a *authority) believes(now func() time.Time, leaf *x509.Certificate, key *ecdsa.PrivateKey, more ...*x509.Certificate) *tls.Config {
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", Time: now}
	c.RootCAs.AddCert(a.cert)
	if leaf != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: slices.Concat([][]byte{leaf.Raw}, raws(more)), PrivateKey: key}, nil
		}
	}
	return c
}
