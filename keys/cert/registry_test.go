package cert_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/cert"
	"github.com/verdict-pdp/verdict/storage"
	"github.com/verdict-pdp/verdict/storage/state"
)

// inventory is a registry over a store and a development authority.
type inventory struct {
	*cert.Registry
	ca      *cert.DevCA
	now     *clock
	records *log
	bucket  storage.Bucket
}

var allowed = cert.Allowed{
	DNS: []string{"api.test", "*.svc.test"}, SPIFFE: []string{"spiffe://shop.test/one", "spiffe://shop.test/ns/*"},
	Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
}

func newInventory(t *testing.T, change func(*cert.RegistryOptions)) *inventory {
	t.Helper()
	i := &inventory{now: newClock(), records: &log{}}
	store, err := state.Open(t.TempDir(), state.Options{Now: i.now.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }() // ended below
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
	if i.bucket, err = store.Bucket(cert.BucketName); err != nil {
		t.Fatal(err)
	}
	if i.ca, err = cert.OpenDevCA(t.TempDir(), cert.DevCAOptions{Now: i.now.Now}); err != nil {
		t.Fatal(err)
	}
	i.Registry = i.open(t, change)
	return i
}

func (i *inventory) open(t *testing.T, change func(*cert.RegistryOptions)) *cert.Registry {
	t.Helper()
	o := cert.RegistryOptions{Authority: i.ca, Allowed: allowed, Now: i.now.Now, Authorities: func() *x509.CertPool {
		pool := x509.NewCertPool()
		for _, c := range i.ca.Certificates() {
			pool.AddCert(c)
		}
		return pool
	}}
	if change != nil {
		change(&o)
	}
	r, err := cert.OpenRegistry(t.Context(), i.bucket, i.records, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("not PEM: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// names puts names into a request.
func names(dns, uris, ips string) func(*x509.CertificateRequest) {
	return func(r *x509.CertificateRequest) {
		r.DNSNames = strings.Fields(dns)
		for _, text := range strings.Fields(uris) {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			r.URIs = append(r.URIs, u)
		}
		for _, text := range strings.Fields(ips) {
			r.IPAddresses = append(r.IPAddresses, net.ParseIP(text))
		}
	}
}

// TestIssue asks for certificates with all kinds of names.
func TestIssue(t *testing.T) {
	i := newInventory(t, nil)
	for name, tc := range map[string]struct {
		csr  string
		kind cert.Type
		ttl  time.Duration
		code string // empty: issued
	}{
		"a name":              {csr(t, nil), cert.Server, 0, ""},
		"below a pattern":     {csr(t, names("a.svc.test", "", "")), cert.Server, time.Hour, ""},
		"an id":               {csr(t, names("", "spiffe://shop.test/one", "")), cert.Client, 0, ""},
		"an id below":         {csr(t, names("", "spiffe://shop.test/ns/a/sa/b", "")), cert.Client, 0, ""},
		"an address":          {csr(t, names("", "", "127.0.0.9")), cert.Server, 0, ""},
		"all":                 {csr(t, names("api.test b.svc.test", "spiffe://shop.test/one", "127.0.0.1")), cert.Client, 0, ""},
		"with a common name":  {csr(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "api.test" }), cert.Server, 0, ""},
		"another common name": {csr(t, func(r *x509.CertificateRequest) { r.Subject.CommonName = "admin" }), cert.Server, 0, cert.CodeInvalidCSR},
		"another name":        {csr(t, names("api.test www.test", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"two labels below":    {csr(t, names("a.b.svc.test", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"the domain itself":   {csr(t, names("svc.test", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"a wildcard":          {csr(t, names("*.svc.test", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"upper case":          {csr(t, names("API.test", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"a trailing dot":      {csr(t, names("api.test.", "", "")), cert.Server, 0, cert.CodeNotAllowed},
		"another id":          {csr(t, names("", "spiffe://shop.test/two", "")), cert.Client, 0, cert.CodeNotAllowed},
		"the prefix itself":   {csr(t, names("", "spiffe://shop.test/ns", "")), cert.Client, 0, cert.CodeNotAllowed},
		"climbing":            {csr(t, names("", "spiffe://shop.test/ns/../two", "")), cert.Client, 0, cert.CodeNotAllowed},
		"another domain":      {csr(t, names("", "spiffe://other.test/ns/a", "")), cert.Client, 0, cert.CodeNotAllowed},
		"another URI":         {csr(t, names("", "https://api.test/", "")), cert.Client, 0, cert.CodeNotAllowed},
		"two ids":             {csr(t, names("", "spiffe://shop.test/one spiffe://shop.test/ns/a", "")), cert.Client, 0, cert.CodeInvalidCSR},
		"another address":     {csr(t, names("", "", "192.0.2.1")), cert.Server, 0, cert.CodeNotAllowed},
		"a mail address":      {csr(t, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@api.test"} }), cert.Client, 0, cert.CodeNotAllowed},
		"no name":             {csr(t, names("", "", "")), cert.Server, 0, cert.CodeInvalidCSR},
		"many names":          {csr(t, names(strings.Repeat("api.test ", 33), "", "")), cert.Server, 0, cert.CodeInvalidCSR},
		"too long":            {csr(t, nil), cert.Server, 25 * time.Hour, cert.CodeInvalid},
		"too short":           {csr(t, nil), cert.Server, time.Second, cert.CodeInvalid},
		"an authority":        {csr(t, nil), cert.CA, 0, cert.CodeInvalid},
		"nothing":             {"", cert.Server, 0, cert.CodeInvalidCSR},
		"two requests":        {csr(t, nil) + csr(t, nil), cert.Server, 0, cert.CodeInvalidCSR},
		"a flipped bit":       {flipCSR(t), cert.Server, 0, cert.CodeInvalidCSR},
	} {
		issued, err := i.Issue(t.Context(), cert.IssueRequest{CSR: tc.csr, Type: tc.kind, TTL: tc.ttl, By: keys.By{Caller: "ops"}})
		if tc.code != "" {
			e, ok := errors.AsType[*cert.Error](err)
			if !ok || e.Code != tc.code || e.Field == "" {
				t.Errorf("%s: %v, want %s", name, err, tc.code)
			}
			i.records.want(t, name, cert.EventIssueRefused)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		i.records.want(t, name, cert.EventIssued)
		c := parse(t, issued.Certificate)
		usage := x509.ExtKeyUsageServerAuth
		if tc.kind == cert.Client {
			usage = x509.ExtKeyUsageClientAuth
		}
		roots := x509.NewCertPool()
		roots.AddCert(i.ca.Certificates()[0])
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.IsCA || len(c.ExtKeyUsage) != 1 || issued.Type != tc.kind || issued.RequestedBy != "ops" || issued.Serial != cert.SerialText(c.SerialNumber) {
			t.Errorf("%s: %+v", name, issued.Info)
		}
		if ours, err := i.Issued(t.Context(), c); !ours || err != nil {
			t.Errorf("%s is not ours: %v", name, err)
		}
	}
	if ours, err := i.Issued(t.Context(), i.ca.Certificates()[0]); ours || err != nil {
		t.Errorf("the authority is taken for issued: %v", err)
	}
}

func flipCSR(t *testing.T) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr(t, nil)))
	block.Bytes[len(block.Bytes)-3] ^= 1
	return string(pem.EncodeToMemory(block))
}

// TestKeysOfRequests takes strong keys only.
func TestKeysOfRequests(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key  any
		good bool
	}{"Ed25519": {ed, true}, "RSA 2048": {strong, true}, "P-224": {weak, false}} {
		if _, err := cert.ParseCSR([]byte(csrOf(t, tc.key, nil))); (err == nil) != tc.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	f.Add(csr(f, nil))
	f.Add(csr(f, names("api.test", "spiffe://a/b", "127.0.0.1")))
	f.Add(csr(f, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: "x"} }))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := cert.ParseCSR([]byte(text))
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
		if e, ok := errors.AsType[*cert.Error](err); err != nil && (!ok || e.Code != cert.CodeInvalidCSR) {
			t.Errorf("%v", err)
		}
	})
}

// TestRevoke revokes what was issued here and what was not, and opens the
// inventory again.
func TestRevoke(t *testing.T) {
	i := newInventory(t, nil)
	issue := func() (*cert.IssuedCertificate, *x509.Certificate) {
		t.Helper()
		issued, err := i.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: cert.Client})
		if err != nil {
			t.Fatal(err)
		}
		return issued, parse(t, issued.Certificate)
	}
	one, oneCert := issue()
	_, twoCert := issue()
	i.records.kinds()
	i.records.fail(errDown)
	if _, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: one.Serial}); !errors.Is(err, errDown) || i.Revoked(oneCert) {
		t.Errorf("revoked without a record: %v", err)
	}
	i.records.fail(nil)
	info, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: strings.ToUpper(one.Serial), Reason: "lost"})
	if err != nil || info.Status != cert.Revoked || info.Reason != "lost" || info.RevokedAt == nil || info.Published == nil || !*info.Published {
		t.Errorf("%+v, %v", info, err)
	}
	i.records.want(t, "revoked", cert.EventRevoked)
	if !i.Revoked(oneCert) || i.Revoked(twoCert) {
		t.Error("the wrong certificate is refused")
	}
	i.now.add(time.Minute)
	again, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: one.Serial, Reason: "other"})
	if err != nil || !again.RevokedAt.Equal(*info.RevokedAt) || again.Reason != "lost" {
		t.Errorf("again: %+v, %v", again, err)
	}
	i.records.want(t, "again")
	if r := i.open(t, nil); !r.Revoked(oneCert) || r.Revoked(twoCert) {
		t.Error("forgotten when it is opened again")
	}
	outsiders(t, i, twoCert)
}

// outsiders revokes certificates that were not issued here.
func outsiders(t *testing.T, i *inventory, known *x509.Certificate) {
	t.Helper()
	request, err := cert.ParseCSR([]byte(csr(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	chain, err := i.ca.Sign(t.Context(), cert.Request{CSR: request, Type: cert.Client, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	text, serial := string(pems("CERTIFICATE", chain[0].Raw)), cert.SerialText(chain[0].SerialNumber)
	stranger, _ := newAuthority(t, "strangers").client("")
	for name, tc := range map[string]struct {
		q    cert.RevokeRequest
		code string
	}{
		"unknown":              {cert.RevokeRequest{Serial: "0123"}, cert.CodeUnknown},
		"no serial":            {cert.RevokeRequest{Serial: ""}, cert.CodeInvalid},
		"not a serial":         {cert.RevokeRequest{Serial: "../../x"}, cert.CodeInvalid},
		"a huge serial":        {cert.RevokeRequest{Serial: strings.Repeat("ab", 30)}, cert.CodeInvalid},
		"another serial":       {cert.RevokeRequest{Serial: "01", Certificate: text}, cert.CodeInvalid},
		"not a certificate":    {cert.RevokeRequest{Serial: "01", Certificate: "x"}, cert.CodeInvalid},
		"of another authority": {cert.RevokeRequest{Serial: cert.SerialText(stranger.SerialNumber), Certificate: string(pems("CERTIFICATE", stranger.Raw))}, cert.CodeInvalid},
		"a long reason":        {cert.RevokeRequest{Serial: cert.SerialText(known.SerialNumber), Reason: strings.Repeat("x", 201)}, cert.CodeInvalid},
	} {
		_, err := i.Revoke(t.Context(), tc.q)
		if e, ok := errors.AsType[*cert.Error](err); !ok || e.Code != tc.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i.Revoked(known) || i.Revoked(stranger) {
		t.Error("revoked by a request that was refused")
	}
	i.records.kinds()
	info, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: serial, Certificate: text})
	if err != nil || info.Authority != "outside" || info.Published != nil || !i.Revoked(chain[0]) {
		t.Errorf("%+v, %v", info, err)
	}
	i.records.want(t, "an outsider", cert.EventRevoked)
}

// failing is an authority that cannot be told.
type failing struct {
	*cert.DevCA
	err error
}

func (f *failing) Revoke(context.Context, *x509.Certificate) error { return f.err }

// TestUnpublished revokes while the authority cannot be told.
func TestUnpublished(t *testing.T) {
	f := &failing{err: errors.New("away")}
	i := newInventory(t, nil)
	f.DevCA = i.ca
	r := i.open(t, func(o *cert.RegistryOptions) { o.Authority = f })
	issued, err := r.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: cert.Client})
	if err != nil {
		t.Fatal(err)
	}
	for _, published := range []bool{false, true} {
		info, err := r.Revoke(t.Context(), cert.RevokeRequest{Serial: issued.Serial})
		if err != nil || info.Published == nil || *info.Published != published || !r.Revoked(parse(t, issued.Certificate)) {
			t.Errorf("%+v, %v", info, err)
		}
		f.err = nil
	}
}

// TestFollow revokes in one process what another refuses.
func TestFollow(t *testing.T) {
	i := newInventory(t, nil)
	other := i.open(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- other.Run(ctx) }() // ended below
	issued, err := i.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: cert.Client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: issued.Serial}); err != nil {
		t.Fatal(err)
	}
	c := parse(t, issued.Certificate)
	for deadline := time.Now().Add(time.Minute); !other.Revoked(c); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not refused by the other")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestList pages through an inventory and filters it.
func TestList(t *testing.T) {
	i := newInventory(t, func(o *cert.RegistryOptions) {
		o.InUse = func() []cert.Info {
			return []cert.Info{{Serial: "00", Type: cert.CA, Status: cert.Active, Use: cert.UseClientAuthority, NotAfter: start.Add(1000 * time.Hour)}}
		}
	})
	var serials []string
	for n := range 7 {
		kind := cert.Server
		if n%2 == 1 {
			kind = cert.Client
		}
		issued, err := i.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: kind, TTL: time.Duration(n+1) * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, issued.Serial)
	}
	if _, err := i.Revoke(t.Context(), cert.RevokeRequest{Serial: serials[6]}); err != nil {
		t.Fatal(err)
	}
	i.now.add(90 * time.Minute) // the first has ended
	for name, tc := range map[string]struct {
		q    cert.ListRequest
		want int
	}{
		"all":                {cert.ListRequest{}, 8},
		"in pages":           {cert.ListRequest{Limit: 2}, 8},
		"in pages of one":    {cert.ListRequest{Limit: 1}, 8},
		"clients":            {cert.ListRequest{Type: cert.Client, Limit: 2}, 3},
		"authorities":        {cert.ListRequest{Type: cert.CA}, 1},
		"revoked":            {cert.ListRequest{Status: cert.Revoked, Limit: 1}, 1},
		"expired":            {cert.ListRequest{Status: cert.Expired}, 1},
		"soon":               {cert.ListRequest{ExpiresWithin: 2 * time.Hour}, 2},
		"within a long time": {cert.ListRequest{ExpiresWithin: 9999 * time.Hour}, 6},
	} {
		seen := map[string]bool{}
		for pages := 0; ; pages++ {
			list, err := i.List(t.Context(), tc.q)
			if err != nil || pages > 20 {
				t.Fatalf("%s: page %d: %v", name, pages, err)
			}
			for _, info := range list.Certificates {
				if seen[info.Serial] {
					t.Errorf("%s: %s twice", name, info.Serial)
				}
				seen[info.Serial] = true
			}
			if tc.q.Cursor = list.Cursor; list.Cursor == "" {
				break
			}
		}
		if len(seen) != tc.want {
			t.Errorf("%s: %d, want %d", name, len(seen), tc.want)
		}
	}
	if _, err := i.List(t.Context(), cert.ListRequest{Cursor: "\x00"}); err == nil {
		t.Error("any cursor is taken")
	}
}

// TestNoAuthority refuses to issue where nobody signs.
func TestNoAuthority(t *testing.T) {
	i := newInventory(t, func(o *cert.RegistryOptions) { o.Authority = nil })
	_, err := i.Issue(t.Context(), cert.IssueRequest{CSR: csr(t, nil), Type: cert.Server})
	if e, ok := errors.AsType[*cert.Error](err); !ok || e.Code != cert.CodeNoIssuer {
		t.Error(err)
	}
}

func TestAllowedPatterns(t *testing.T) {
	for text, good := range map[string]bool{
		"api.test": true, "*.svc.test": true, "localhost": true,
		"": false, "*": false, "*.test": false, "*.*.test": false, "a.*.test": false, "API.test": false, "a..b": false, "-a.b": false,
	} {
		if err := (cert.Allowed{DNS: []string{text}}).Check(); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, good := range map[string]bool{
		"spiffe://a/b": true, "spiffe://a/b/*": true, "spiffe://a/*": true, "spiffe://a": true,
		"": false, "*": false, "spiffe://*": false, "spiffe://a/b*": false, "spiffe://*/b": false, "https://a/b": false,
	} {
		if err := (cert.Allowed{SPIFFE: []string{text}}).Check(); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
