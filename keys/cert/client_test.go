package cert_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys/cert"
)

// clients is a keeper with authorities of clients and their revocation lists.
type clients struct {
	*authority
	*cert.Keeper
	now     *clock
	records *log
	list    string
}

func newClients(t *testing.T, lists []byte, change func(*cert.KeeperSettings)) *clients {
	t.Helper()
	c := &clients{authority: newAuthority(t, "clients"), now: newClock(), records: &log{}}
	dir := t.TempDir()
	crt, key := c.server(dir, nil)
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, pems("CERTIFICATE", c.authority.cert.Raw))
	s := cert.KeeperSettings{Source: cert.NewFiles(crt, key, c.now.Now), Clients: cert.ClientSettings{CAFile: ca}}
	c.list = filepath.Join(dir, "crl")
	if lists == nil {
		lists = c.crl(1, start.Add(100*24*time.Hour))
	}
	write(t, c.list, lists)
	s.Clients.CRLFile = c.list
	if change != nil {
		change(&s)
	}
	c.Keeper = newKeeper(t, s, cert.KeeperOptions{Now: c.now.Now, Recorder: c.records})
	return c
}

// TestClients shakes hands with good and bad client certificates.
func TestClients(t *testing.T) {
	c := newClients(t, nil, func(s *cert.KeeperSettings) { s.Clients.TrustDomains = []string{"example.org"} })
	between, strangers := c.under("between"), newAuthority(t, "clients")
	for name, tc := range map[string]struct {
		make func() *tls.Config
		want error // nil: any when bad
		good bool
	}{
		"none":         {func() *tls.Config { return c.believes(c.now.Now, nil, nil) }, nil, true},
		"good":         {c.shows(c.authority, "spiffe://example.org/a"), nil, true},
		"without URI":  {c.shows(c.authority, ""), nil, true},
		"another URI":  {c.shows(c.authority, "https://example.org/a"), nil, true},
		"below":        {c.shows(between, "spiffe://example.org/a"), nil, true},
		"other domain": {c.shows(c.authority, "spiffe://example.com/a"), cert.ErrIdentity, false},
		"a bad id":     {c.shows(c.authority, "spiffe://example.org/a/"), cert.ErrIdentity, false},
		"strangers":    {c.shows(strangers, "spiffe://example.org/a"), nil, false},
		"expired": {c.shows(c.authority, "spiffe://example.org/a", func(x *x509.Certificate) {
			x.NotAfter = start.Add(-time.Second)
		}), nil, false},
		"not yet": {c.shows(c.authority, "spiffe://example.org/a", func(x *x509.Certificate) {
			x.NotBefore = start.Add(time.Second)
		}), nil, false},
		"a server's": {c.shows(c.authority, "spiffe://example.org/a", func(x *x509.Certificate) {
			x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), nil, false},
	} {
		_, server, _ := shake(t, c.Keeper, tc.make())
		if (server == nil) != tc.good || tc.want != nil && !errors.Is(server, tc.want) {
			t.Errorf("%s: %v", name, server)
		}
	}
}

// shows is a client with a certificate of an authority.
func (c *clients) shows(a *authority, uri string, change ...func(*x509.Certificate)) func() *tls.Config {
	return func() *tls.Config {
		leaf, key := a.client(uri, change...)
		return c.believes(c.now.Now, leaf, key, a.cert)
	}
}

// TestRefused asks about connections that are open, while time goes on and files
// change.
func TestRefused(t *testing.T) {
	c := newClients(t, nil, nil)
	between := c.under("between")
	leaf, _ := c.client("spiffe://example.org/a")
	low, _ := between.client("")
	chain, deep := [][]*x509.Certificate{{leaf, c.authority.cert}}, [][]*x509.Certificate{{low, between.cert, c.authority.cert}}
	want := func(when string, err, wantErr error) {
		t.Helper()
		if !errors.Is(err, wantErr) || wantErr == nil && err != nil {
			t.Errorf("%s: %v, want %v", when, err, wantErr)
		}
	}
	want("good", c.Refused(chain), nil)
	want("good, through another", c.Refused(deep), nil)
	want("no chain", c.Refused(nil), cert.ErrUnknownAuthority)
	want("an empty chain", c.Refused([][]*x509.Certificate{{}}), cert.ErrUnknownAuthority)

	cert.Step(c.Keeper)
	c.records.want(t, "nothing has changed")
	write(t, c.list, pems("X509 CRL", c.crl(2, start.Add(2*time.Hour), leaf)))
	cert.Step(c.Keeper)
	c.records.want(t, "a list", cert.EventTrustChanged)
	want("on the list", c.Refused(chain), cert.ErrRevoked)
	want("not on the list", c.Refused(deep), nil)
	write(t, c.list, c.crl(3, start.Add(2*time.Hour), between.cert)) // DER
	cert.Step(c.Keeper)
	want("not on the list any more", c.Refused(chain), nil)
	want("its authority is", c.Refused(deep), cert.ErrRevoked)
	want("one way is good", c.Refused(append(deep, chain...)), nil)
	c.records.kinds()

	// An older list, or a bad one, does not take its place.
	for _, bad := range []struct {
		name string
		list []byte
		news []cert.EventKind // what is wrong is recorded when it changes
	}{
		{"damaged", []byte("x"), []cert.EventKind{cert.EventTrustChanged}},
		{"empty, in the same words", nil, nil},
		{"older", c.crl(2, start.Add(2*time.Hour)), []cert.EventKind{cert.EventTrustChanged}},
		{"empty", nil, []cert.EventKind{cert.EventTrustChanged}},
	} {
		write(t, c.list, bad.list)
		cert.Step(c.Keeper)
		cert.Step(c.Keeper)
		c.records.want(t, bad.name, bad.news...)
		want(bad.name, c.Refused(deep), cert.ErrRevoked)
		if s := c.Status(); s.State != "degraded" {
			t.Errorf("%s: %+v", bad.name, s)
		}
	}
	c.now.add(3 * time.Hour)
	want("the list is out of date", c.Refused(chain), cert.ErrStaleList)
	write(t, c.list, c.crl(4, start.Add(99*time.Hour)))
	cert.Step(c.Keeper)
	want("a new list", c.Refused(chain), nil)
	c.now.add(48 * time.Hour)
	want("it has ended", c.Refused(chain), cert.ErrOutOfTime)
}

// TestAuthorityRemoved takes an authority away whose clients are connected.
func TestAuthorityRemoved(t *testing.T) {
	c := newClients(t, nil, func(s *cert.KeeperSettings) { s.Clients.CRLFile = "" })
	leaf, _ := c.client("")
	chain := [][]*x509.Certificate{{leaf, c.authority.cert}}
	if err := c.Refused(chain); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(filepath.Dir(c.list), "ca.pem"), pems("CERTIFICATE", newAuthority(t, "clients").cert.Raw))
	c.records.fail(errDown)
	cert.Step(c.Keeper)
	if err := c.Refused(chain); err != nil {
		t.Errorf("in force before it is recorded: %v", err)
	}
	c.records.fail(nil)
	cert.Step(c.Keeper)
	c.records.want(t, "an authority less", cert.EventTrustChanged)
	if err := c.Refused(chain); !errors.Is(err, cert.ErrUnknownAuthority) {
		t.Errorf("%v", err)
	}
}

// TestCRLs refuses lists that are not whole, not signed, or say more than is
// understood.
func TestCRLs(t *testing.T) {
	a, other := newAuthority(t, "a"), newAuthority(t, "a")
	leaf, _ := a.client("")
	good := a.crl(1, start.Add(time.Hour), leaf)
	critical := func(oid asn1.ObjectIdentifier) []byte {
		list := &x509.RevocationList{ThisUpdate: start, NextUpdate: start.Add(time.Hour)}
		list.Number = leaf.SerialNumber
		list.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: true, Value: []byte{0x02, 0x01, 0x01}}}
		der, err := x509.CreateRevocationList(nil, list, a.cert, a.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, tc := range map[string]struct {
		text []byte
		want string // in the error; empty: good
	}{
		"DER":             {good, ""},
		"PEM":             {pems("X509 CRL", good), ""},
		"another's":       {other.crl(1, start.Add(time.Hour)), "not signed"},
		"a stranger's":    {newAuthority(t, "b").crl(1, start.Add(time.Hour)), "not signed"},
		"two of one":      {pems("X509 CRL", good, good), "another of the same"},
		"a certificate":   {pems("CERTIFICATE", a.cert.Raw), "CERTIFICATE"},
		"delta":           {critical(asn1.ObjectIdentifier{2, 5, 29, 27}), "critical"},
		"partial":         {critical(asn1.ObjectIdentifier{2, 5, 29, 28}), "critical"},
		"nothing":         {nil, "revocation list 1"},
		"flipped":         {flip(good), ""},
		"cut off":         {good[:len(good)-1], "revocation list 1"},
		"something after": {append(append([]byte{}, good...), 0), "follows"},
	} {
		n, err := cert.ParseCRLs(tc.text, []*x509.Certificate{a.cert}, start)
		switch {
		case name == "flipped":
			if err == nil {
				t.Error("a flipped bit is not noticed")
			}
		case tc.want == "" && (err != nil || n != 1):
			t.Errorf("%s: %d, %v", name, n, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cert.ParseCRLs(good, []*x509.Certificate{a.cert}, start.Add(-2*time.Hour)); err == nil {
		t.Error("a list of the future is taken")
	}
}

func flip(data []byte) []byte {
	out := append([]byte{}, data...)
	out[len(out)/2] ^= 1
	return out
}

func FuzzCRLs(f *testing.F) {
	a := newAuthority(f, "a")
	leaf, _ := a.client("")
	good := a.crl(1, start.Add(time.Hour), leaf)
	f.Add(good)
	f.Add(pems("X509 CRL", good))
	f.Add(pems("X509 CRL", a.crl(2, start.Add(time.Hour)), good))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := cert.ParseCRLs(text, []*x509.Certificate{a.cert}, start); err != nil && n != 0 {
			t.Errorf("%d serial numbers beside %v", n, err)
		}
	})
}

// BenchmarkRefused is what each request on a connection with a client certificate
// pays.
func BenchmarkRefused(b *testing.B) {
	a := newAuthority(b, "clients")
	dir := b.TempDir()
	crt, key := a.server(dir, nil)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pems("CERTIFICATE", a.cert.Raw), 0o600); err != nil {
		b.Fatal(err)
	}
	now := newClock()
	k, err := cert.NewKeeper(cert.KeeperSettings{
		Source: cert.NewFiles(crt, key, now.Now), Clients: cert.ClientSettings{CAFile: ca},
	}, cert.KeeperOptions{Now: func() time.Time { return start }})
	if err != nil {
		b.Fatal(err)
	}
	leaf, _ := a.client("spiffe://example.org/ns/shop/sa/a")
	chains := [][]*x509.Certificate{{leaf, a.cert}}
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Refused(chains); err != nil {
			b.Fatal(err)
		}
	}
}

// TestListMissing: a file that lacks the list of an authority which had one leaves
// the old lists in force, until the list is back or the authority is gone.
func TestListMissing(t *testing.T) {
	c := newClients(t, nil, nil)
	second := newAuthority(t, "second")
	ca := filepath.Join(filepath.Dir(c.list), "ca.pem")
	leaf, _ := second.client("")
	chain := [][]*x509.Certificate{{leaf, second.cert}}
	ends := start.Add(100 * 24 * time.Hour)
	first := c.crl(1, ends)
	step := func(when string, authorities, lists []byte, want error, state string) {
		t.Helper()
		write(t, ca, authorities)
		write(t, c.list, lists)
		cert.Step(c.Keeper)
		c.records.want(t, when, cert.EventTrustChanged)
		if err := c.Refused(chain); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
		if s := c.Status(); s.State != state {
			t.Errorf("%s: %+v", when, s)
		}
	}
	both := pems("CERTIFICATE", c.authority.cert.Raw, second.cert.Raw)
	step("two lists", both, pems("X509 CRL", first, second.crl(1, ends, leaf)), cert.ErrRevoked, "ok")
	step("one is missing", both, pems("X509 CRL", first), cert.ErrRevoked, "degraded")
	step("it is back, empty", both, pems("X509 CRL", first, second.crl(2, ends)), nil, "ok")
	step("the authority is gone too", pems("CERTIFICATE", c.authority.cert.Raw), pems("X509 CRL", first), cert.ErrUnknownAuthority, "ok")
}
