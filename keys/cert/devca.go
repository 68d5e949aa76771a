package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/verdict-pdp/verdict/internal/durable"
)

// The life of a development authority and of what it signs.
const (
	devCALife   = 90 * 24 * time.Hour
	devCALeast  = 30 * 24 * time.Hour // left, or another is made
	devLeafLife = 24 * time.Hour
	devBackdate = time.Minute // for clocks that are behind
)

// The files of a development authority.
const (
	// DevCAFile has the authority's certificates, for those who should believe
	// it.
	DevCAFile = "dev-ca.crt"
	devKeys   = "dev-ca.pem" // they, and the key of the first
)

// DevCA is an authority for development: one key in a file. What it signs lives
// for 24 hours at most and bears names of this machine and reserved ones only
// (RFC 6761, RFC 6762); its own certificate says so too. It lives for 90 days
// and is replaced when a third of them is left; the one before stays known.
type DevCA struct {
	dir   string
	o     DevCAOptions
	known atomic.Pointer[[]*x509.Certificate] // chain, for those who must not wait

	mu    sync.Mutex
	chain []*x509.Certificate // the authority, and those before it; owned by mu
	key   *ecdsa.PrivateKey   // of the first; owned by mu
}

// DevCAOptions are the optional parts of a DevCA.
type DevCAOptions struct {
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Made is told of an authority before it is kept and used; with an error it
	// is neither. nil: nobody is told.
	Made func(ctx context.Context, ca *x509.Certificate) error
	// Changed is told when Certificates has changed; it must not block. nil:
	// nobody is told.
	Changed func()
}

// OpenDevCA opens the authority in a folder. One that is not there is made with
// the first Sign.
func OpenDevCA(dir string, o DevCAOptions) (*DevCA, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &DevCA{dir: dir, o: o}
	path := filepath.Join(dir, devKeys)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the development authority: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("open the development authority: %s can be read by others (mode %04o); chmod it to 0600, or delete it", path, info.Mode().Perm())
	}
	text, err := readFile(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("open the development authority: %w", err)
	}
	if err := d.parse(text); err != nil {
		return nil, fmt.Errorf("open the development authority in %s: %w", path, err)
	}
	d.known.Store(&d.chain)
	return d, nil
}

func (d *DevCA) parse(text []byte) (err error) {
	if d.chain, err = parseChain(text); err != nil {
		return err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PRIVATE KEY" {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return errors.New("the key cannot be read")
		}
		d.key, _ = key.(*ecdsa.PrivateKey)
	}
	if d.key == nil || !samePublicKey(d.chain[0].PublicKey, d.key.Public()) {
		return errors.New("the key is not that of the certificate")
	}
	return nil
}

// Name implements Authority.
func (d *DevCA) Name() string { return "dev" }

// Certificates are the authority and those before it that have not ended.
func (d *DevCA) Certificates() []*x509.Certificate {
	if known := d.known.Load(); known != nil {
		return slices.Clone(*known)
	}
	return nil
}

// Revoke implements Authority: there is nobody to tell.
func (d *DevCA) Revoke(context.Context, *x509.Certificate) error { return nil }

// Sign implements Authority.
func (d *DevCA) Sign(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	if name := devRefused(sansOfCSR(r.CSR)); name != "" {
		return nil, &Error{Code: CodeIssuerRefused, Field: "csr", Message: fmt.Sprintf(
			"the development authority signs names at localhost, test, example and local, and loopback addresses, not %q", name)}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	if err := d.ensure(ctx, now); err != nil {
		return nil, err
	}
	ca := d.chain[0]
	ends := now.Add(min(r.TTL, devLeafLife))
	if ends.After(ca.NotAfter) {
		ends = ca.NotAfter
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.CSR.Subject.CommonName},
		NotBefore: now.Add(-devBackdate), NotAfter: ends, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{r.Type.extKeyUsage()},
		DNSNames: r.CSR.DNSNames, URIs: r.CSR.URIs, IPAddresses: r.CSR.IPAddresses,
	}
	leaf, err := create(template, ca, r.CSR.PublicKey, d.key)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{leaf}, nil
}

// ensure makes another authority when there is none that lives long enough. The
// caller holds mu.
func (d *DevCA) ensure(ctx context.Context, now time.Time) error {
	if len(d.chain) > 0 && now.Add(devCALeast).Before(d.chain[0].NotAfter) && !now.Before(d.chain[0].NotBefore) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the key of a development authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// Of two authorities with one name nobody could tell whose a certificate is.
		Subject:   pkix.Name{CommonName: "verdict development authority " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore: now.Add(-devBackdate), NotAfter: now.Add(devCALife),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         devDomains(), PermittedURIDomains: devDomains(),
	}
	for _, n := range devNetworks() {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{
			IP: n.Addr().AsSlice(), Mask: net.CIDRMask(n.Bits(), n.Addr().BitLen()),
		})
	}
	ca, err := create(template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if d.o.Made != nil {
		if err := d.o.Made(ctx, ca); err != nil {
			return err
		}
	}
	chain := []*x509.Certificate{ca}
	for _, c := range d.chain {
		if now.Before(c.NotAfter) && len(chain) < maxChain {
			chain = append(chain, c)
		}
	}
	if err := d.keep(chain, key); err != nil {
		return err
	}
	d.chain, d.key = chain, key
	d.known.Store(&chain)
	if d.o.Changed != nil {
		d.o.Changed()
	}
	return nil
}

// keep writes the authority: the key and its certificate at once.
func (d *DevCA) keep(chain []*x509.Certificate, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the key of a development authority: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("keep the development authority: %w", err)
	}
	certs := encode(chain...)
	whole := append(slices.Clone(certs), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	if err := durable.WriteFile(filepath.Join(d.dir, devKeys), whole, 0o600); err != nil {
		return fmt.Errorf("keep the development authority: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(d.dir, DevCAFile), certs, 0o644); err != nil {
		return fmt.Errorf("keep the development authority: %w", err)
	}
	return nil
}

func create(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read our own certificate: %w", err)
	}
	return c, nil
}

// newSerial is a random positive number of 128 bits (RFC 5280, section 4.1.2.2).
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40 // always of the same length
	return new(big.Int).SetBytes(b[:]), nil
}

// devDomains are the domains that a development authority signs for, and all
// below them.
func devDomains() []string { return []string{"localhost", "test", "example", "local"} }

// devNetworks are the networks of its addresses.
func devNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// devRefused gives the first name that a development authority does not sign.
func devRefused(s SANs) string {
	allowed := Allowed{Networks: devNetworks()}
	for _, domain := range devDomains() {
		for _, name := range s.DNS {
			if name == domain || strings.HasSuffix(name, "."+domain) {
				allowed.DNS = append(allowed.DNS, name)
			}
		}
		for _, name := range s.URI {
			if id, err := ParseID(name); err == nil && (id.TrustDomain == domain || strings.HasSuffix(id.TrustDomain, "."+domain)) {
				allowed.SPIFFE = append(allowed.SPIFFE, name)
			}
		}
	}
	_, name := allowed.refused(s)
	return name
}
