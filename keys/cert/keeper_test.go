package cert_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/keys/cert"
)

func newKeeper(t *testing.T, s cert.KeeperSettings, o cert.KeeperOptions) *cert.Keeper {
	t.Helper()
	k, err := cert.NewKeeper(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// served is the fingerprint of what a keeper serves.
func served(t *testing.T, k *cert.Keeper) string {
	t.Helper()
	s := k.Status()
	if s.Serving == nil {
		return ""
	}
	return s.Serving.Fingerprint
}

// TestFiles replaces the files of a certificate in every way, and looks at what
// is served.
func TestFiles(t *testing.T) {
	dir, now, records := t.TempDir(), newClock(), &log{}
	a := newAuthority(t, "a")
	crt, key := a.server(dir, nil)
	k := newKeeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, now.Now)}, cert.KeeperOptions{Now: now.Now, Recorder: records})
	first := served(t, k)
	cert.Step(k)
	records.want(t, "nothing has changed")

	read := func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	oldCert, oldKey := read(crt), read(key)
	a.server(dir, nil)
	nextKey := read(key)
	write(t, key, oldKey) // the certificate comes first, the key a moment later
	cert.Step(k)
	records.want(t, "half of it")
	if got := served(t, k); got != first {
		t.Errorf("%s is served", got)
	}
	write(t, key, nextKey)
	now.add(time.Minute)
	cert.Step(k)
	records.want(t, "all of it", cert.EventRenewed)
	second := served(t, k)
	if second == first {
		t.Error("the new certificate is not served")
	}

	ended := func() { a.server(dir, &x509.Certificate{NotAfter: start.Add(-time.Minute)}) }
	client := func() {
		a.server(dir, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	}
	for name, break_ := range map[string]func(){
		"another key": func() { write(t, crt, oldCert) },
		"no key":      func() { write(t, key, []byte("x")) },
		"empty":       func() { write(t, crt, nil) },
		"gone":        func() { _ = os.Remove(crt) },
		"ended":       ended,
		"of a client": client,
		"wrong chain": func() { a.server(dir, nil, newAuthority(t, "b").cert) },
		"a huge file": func() { write(t, crt, make([]byte, 2<<20)) },
		"an authority's": func() {
			a.server(dir, &x509.Certificate{IsCA: true, BasicConstraintsValid: true}, a.cert)
		},
	} {
		break_()
		for range 3 {
			now.add(time.Minute)
			cert.Step(k)
		}
		records.want(t, name, cert.EventRenewalFailed)
		s := k.Status()
		if s.Serving.Fingerprint != second || s.State != "degraded" || len(s.Problems) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
		write(t, crt, oldCert)
		write(t, key, oldKey)
		now.add(time.Minute)
		cert.Step(k)
		if s := k.Status(); s.State != "ok" || s.Serving.Fingerprint != first {
			t.Errorf("%s, and then a good one: %+v", name, s)
		}
		records.kinds()
		write(t, key, nextKey)
		restore(t, a, k, now, dir, &second)
		records.kinds()
	}
}

// restore has another good certificate served.
func restore(t *testing.T, a *authority, k *cert.Keeper, now *clock, dir string, serial *string) {
	t.Helper()
	a.server(dir, nil)
	now.add(time.Minute)
	cert.Step(k)
	if *serial = served(t, k); k.Status().State != "ok" {
		t.Fatalf("%+v", k.Status())
	}
}

// TestChain wants what is served to be complete, and old protocols and ciphers
// to be refused.
func TestChain(t *testing.T) {
	now, root := newClock(), newAuthority(t, "root")
	between := root.under("between")
	crt, key := between.server(t.TempDir(), nil, between.cert)
	k := newKeeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, now.Now)}, cert.KeeperOptions{Now: now.Now})
	state, server, client := shake(t, k, root.believes(now.Now, nil, nil))
	if server != nil || client != nil || state.Version != tls.VersionTLS13 || len(state.PeerCertificates) != 2 {
		t.Errorf("%v, %v, version %x, %d certificates", server, client, state.Version, len(state.PeerCertificates))
	}
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		good   bool
	}{
		"TLS 1.2":      {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		"TLS 1.1":      {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		"CBC":          {only(tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA), false},
		"RSA exchange": {only(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), false},
		"ChaCha20":     {only(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256), true},
		"h2":           {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, true},
		"http/1.1":     {func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, true},
		"ftp":          {func(c *tls.Config) { c.NextProtos = []string{"ftp"} }, false},
	} {
		config := root.believes(now.Now, nil, nil)
		tc.change(config)
		if _, server, client := shake(t, k, config); (server == nil && client == nil) != tc.good {
			t.Errorf("%s: %v, %v", name, server, client)
		}
	}
}

func only(suite uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
}

// signer is an Authority that tests break.
type signer struct {
	*cert.DevCA
	fail  atomic.Pointer[error]
	calls atomic.Int32
}

func (s *signer) Sign(ctx context.Context, r cert.Request) ([]*x509.Certificate, error) {
	s.calls.Add(1)
	if err := s.fail.Load(); err != nil {
		return nil, *err
	}
	return s.DevCA.Sign(ctx, r)
}

func (s *signer) broken(err error) {
	if err == nil {
		s.fail.Store(nil)
		return
	}
	s.fail.Store(&err)
}

// TestRenewal runs a keeper for days: the certificate is renewed at two thirds of
// its life, and when nobody signs, the old one is served to its end.
func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		records := &log{}
		ca, err := cert.OpenDevCA(dir, cert.DevCAOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := &signer{DevCA: ca}
		source, err := cert.NewIssued(s, cert.OwnOptions{Names: []string{"localhost", "127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		k := newKeeper(t, cert.KeeperSettings{Source: source}, cert.KeeperOptions{Recorder: records})
		if got := k.Status(); got.State != "waiting" {
			t.Errorf("%+v", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- k.Run(ctx) }() // ended below
		synctest.Wait()
		records.want(t, "the first", cert.EventRenewed)
		first := served(t, k)

		time.Sleep(15 * time.Hour)
		synctest.Wait()
		if served(t, k) != first {
			t.Error("renewed before two thirds of its life")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		second := served(t, k)
		if second == first {
			t.Error("not renewed at two thirds of its life")
		}
		records.want(t, "the second", cert.EventRenewed)

		calls := s.calls.Load()
		s.broken(errors.New("sealed"))
		time.Sleep(18 * time.Hour)
		synctest.Wait()
		records.want(t, "a failure", cert.EventRenewalFailed, cert.EventExpiring)
		if got := k.Status(); got.State != "degraded" || got.Serving.Fingerprint != second || got.Serving.Status != cert.Active {
			t.Errorf("%+v", got)
		}
		if n := s.calls.Load() - calls; n < 60 || n > 300 { // once a minute, for 1.4 to 4.6 hours
			t.Errorf("it was asked %d times", n)
		}
		s.broken(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		records.want(t, "again", cert.EventRenewed)
		if got := k.Status(); got.State != "ok" || got.Serving.Fingerprint == second {
			t.Errorf("%+v", got)
		}

		// What cannot be recorded is not served, and not signed again and again.
		third, calls := served(t, k), s.calls.Load()
		records.fail(errDown)
		time.Sleep(17 * time.Hour)
		synctest.Wait()
		if served(t, k) != third || s.calls.Load() != calls+1 {
			t.Errorf("%s is served after %d calls", served(t, k), s.calls.Load()-calls)
		}
		records.fail(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		records.want(t, "recorded", cert.EventRenewed)
		if served(t, k) == third {
			t.Error("not served once it is recorded")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestJitter wants the moments of renewal to be apart, and near two thirds of the
// life.
func TestJitter(t *testing.T) {
	now := newClock()
	ca, err := cert.OpenDevCA(t.TempDir(), cert.DevCAOptions{Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	source, err := cert.NewIssued(ca, cert.OwnOptions{Names: []string{"localhost"}, Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[time.Time]bool{}
	for range 20 {
		c, err := source.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		due := source.Due(c)
		seen[due] = true
		if d := due.Sub(start); d < 15*time.Hour || d > 17*time.Hour {
			t.Errorf("due after %v", d)
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d moments for 20 certificates", len(seen))
	}
}

// TestFirstHandshakes wait for the first certificate, not for ever.
func TestFirstHandshakes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ca, err := cert.OpenDevCA(dir, cert.DevCAOptions{})
		if err != nil {
			t.Fatal(err)
		}
		source, err := cert.NewIssued(ca, cert.OwnOptions{Names: []string{"localhost"}})
		if err != nil {
			t.Fatal(err)
		}
		k := newKeeper(t, cert.KeeperSettings{Source: source}, cert.KeeperOptions{})
		began := time.Now()
		if _, server, _ := shake(t, k, &tls.Config{InsecureSkipVerify: true}); server == nil || !strings.Contains(server.Error(), "no certificate") {
			t.Errorf("%v", server)
		}
		if took := time.Since(began); took < time.Second || took > 5*time.Second {
			t.Errorf("it waited for %v", took)
		}
		time.AfterFunc(time.Second, func() { cert.Step(k) })
		if _, server, client := shake(t, k, &tls.Config{InsecureSkipVerify: true}); server != nil || client != nil {
			t.Errorf("%v, %v", server, client)
		}
	})
}

// TestReload exchanges source and files as a reload does: whole or not at all.
func TestReload(t *testing.T) {
	now, records := newClock(), &log{}
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	one, two := t.TempDir(), t.TempDir()
	crt, key := a.server(one, nil)
	k := newKeeper(t, cert.KeeperSettings{Source: cert.NewFiles(crt, key, now.Now)}, cert.KeeperOptions{Now: now.Now, Recorder: records})
	first := served(t, k)
	nextCrt, nextKey := b.server(two, nil)
	ca := filepath.Join(two, "ca.pem")
	write(t, ca, pems("CERTIFICATE", b.cert.Raw))
	for name, bad := range map[string]cert.KeeperSettings{
		"no such file": {Source: cert.NewFiles(filepath.Join(two, "none"), nextKey, now.Now)},
		"other key":    {Source: cert.NewFiles(nextCrt, key, now.Now)},
		"no authority": {Source: cert.NewFiles(nextCrt, nextKey, now.Now), Clients: cert.ClientSettings{CAFile: nextKey}},
		"no list":      {Source: cert.NewFiles(nextCrt, nextKey, now.Now), Clients: cert.ClientSettings{CAFile: ca, CRLFile: nextKey}},
	} {
		if _, err := k.Prepare(bad); err == nil || !strings.HasPrefix(err.Error(), "server.tls: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	commit, err := k.Prepare(cert.KeeperSettings{Source: cert.NewFiles(nextCrt, nextKey, now.Now), Clients: cert.ClientSettings{CAFile: ca}})
	if err != nil {
		t.Fatal(err)
	}
	if served(t, k) != first || k.Config().ClientCAs != nil {
		t.Error("in force before commit")
	}
	commit()
	if served(t, k) == first || k.Config().ClientCAs == nil {
		t.Error("not in force after commit")
	}
	cert.Step(k)
	records.want(t, "a reload is recorded by whoever makes it")
	if got := len(k.InUse()); got != 2 {
		t.Errorf("%d certificates are in use", got)
	}
}

func TestKeeperMetrics(t *testing.T) {
	now, a, dir := newClock(), newAuthority(t, "a"), t.TempDir()
	crt, key := a.server(dir, nil)
	ca, list := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "crl.pem")
	write(t, ca, pems("CERTIFICATE", a.cert.Raw))
	write(t, list, pems("X509 CRL", a.crl(1, start.Add(time.Hour))))
	k := newKeeper(t, cert.KeeperSettings{
		Source: cert.NewFiles(crt, key, now.Now), Clients: cert.ClientSettings{CAFile: ca, CRLFile: list},
	}, cert.KeeperOptions{Now: now.Now})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(k.Collectors()...)
	values := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					if l.GetName() != "serial" {
						name += " " + l.GetValue()
					}
				}
				all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		return all
	}
	got := values()
	for name, want := range map[string]float64{
		"verdict_certificate_not_after_seconds serving":             float64(start.Add(24 * time.Hour).Unix()),
		"verdict_certificate_not_after_seconds client_authority":    float64(a.cert.NotAfter.Unix()),
		"verdict_certificate_revocation_list_next_update_seconds 1": float64(start.Add(time.Hour).Unix()),
		"verdict_certificate_problems":                              0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
	now.add(2 * time.Hour)
	if got := values(); got["verdict_certificate_problems"] != 1 {
		t.Errorf("a list is out of date: %v", got)
	}
	if s := fmt.Sprint(k.Status().Problems); !strings.Contains(s, "out of date") {
		t.Error(s)
	}
}
