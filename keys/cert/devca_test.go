package cert_test

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys/cert"
)

func signFor(t *testing.T, ca *cert.DevCA, kind cert.Type, ttl time.Duration, dns, uris, ips string) (*x509.Certificate, error) {
	t.Helper()
	request, err := cert.ParseCSR([]byte(csr(t, names(dns, uris, ips))))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Sign(t.Context(), cert.Request{CSR: request, Type: kind, TTL: ttl})
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// TestDevCA makes an authority, opens it again, and outlives it.
func TestDevCA(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "dev-ca"), newClock()
	made := 0
	var refuse error
	o := cert.DevCAOptions{Now: now.Now, Made: func(context.Context, *x509.Certificate) error {
		if refuse == nil {
			made++
		}
		return refuse
	}}
	open := func() *cert.DevCA {
		t.Helper()
		ca, err := cert.OpenDevCA(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		return ca
	}
	ca := open()
	refuse = errDown
	if _, err := signFor(t, ca, cert.Server, time.Hour, "localhost", "", ""); err == nil || len(ca.Certificates()) != 0 {
		t.Error("an authority is made that is not recorded")
	}
	refuse = nil
	leaf, err := signFor(t, ca, cert.Server, 1000*time.Hour, "a.test", "", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if d := leaf.NotAfter.Sub(start); d != 24*time.Hour {
		t.Errorf("it lives for %v", d)
	}
	for name, want := range map[string]os.FileMode{"dev-ca.pem": 0o600, "dev-ca.crt": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, cert.DevCAFile)); err != nil || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("the file for others has a key: %v", err)
	}
	first := ca.Certificates()[0]
	if life := first.NotAfter.Sub(start); life != 90*24*time.Hour || !first.PermittedDNSDomainsCritical || len(first.PermittedURIDomains) == 0 || len(first.PermittedIPRanges) == 0 {
		t.Errorf("the authority lives for %v and is constrained to %v", life, first.PermittedDNSDomains)
	}
	for _, names := range [][3]string{{"example.com"}, {"test.com"}, {"xlocalhost"}, {"", "spiffe://example.com/a"}, {"", "", "192.0.2.1"}, {"a.test example.org"}} {
		if _, err := signFor(t, ca, cert.Client, time.Hour, names[0], names[1], names[2]); err == nil {
			t.Errorf("%q is signed", names)
		}
	}

	now.add(59 * 24 * time.Hour)
	ca = open()
	if _, err := signFor(t, ca, cert.Client, time.Hour, "", "spiffe://shop.test/a", ""); err != nil || made != 1 {
		t.Errorf("%v, %d authorities", err, made)
	}
	now.add(2 * 24 * time.Hour)
	if _, err := signFor(t, ca, cert.Client, time.Hour, "localhost", "", ""); err != nil || made != 2 {
		t.Errorf("%v, %d authorities", err, made)
	}
	if got := open().Certificates(); len(got) != 2 || !got[1].Equal(first) || got[0].Subject.String() == first.Subject.String() {
		t.Errorf("%d authorities are known", len(got))
	}
}

// TestDevCAFile refuses files that others can read and that do not fit.
func TestDevCAFile(t *testing.T) {
	dir := t.TempDir()
	ca, err := cert.OpenDevCA(dir, cert.DevCAOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signFor(t, ca, cert.Server, time.Hour, "localhost", "", ""); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dev-ca.pem")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := cert.OpenDevCA(dir, cert.DevCAOptions{}); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a file that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	other := newAuthority(t, "other")
	certificate, key, _ := strings.Cut(string(good), "-----BEGIN PRIVATE KEY-----")
	for name, text := range map[string]string{
		"empty": "", "no key": certificate, "no certificate": "-----BEGIN PRIVATE KEY-----" + key,
		"another certificate": string(pems("CERTIFICATE", other.cert.Raw)) + "-----BEGIN PRIVATE KEY-----" + key,
	} {
		write(t, path, []byte(text))
		if _, err := cert.OpenDevCA(dir, cert.DevCAOptions{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
