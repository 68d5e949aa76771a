package cert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Authority signs certificates: Vault's PKI engine, or a development authority.
// Its methods may be called by several goroutines at once.
type Authority interface {
	// Name is vault or dev.
	Name() string
	// Sign signs what a request asks for and gives the chain, the leaf first and
	// without the root. An *Error with CodeIssuerRefused says that it never
	// will; any other error, that it may later.
	Sign(ctx context.Context, r Request) ([]*x509.Certificate, error)
	// Revoke tells the authority that a certificate of its own is not good any
	// more. It may be called again.
	Revoke(ctx context.Context, leaf *x509.Certificate) error
}

// Source gives the certificate that is served.
type Source interface {
	// Name is files, vault or dev.
	Name() string
	// Next gives the certificate that takes the place of current, which is nil
	// at first, or current itself while that stays. With an error current stays.
	Next(ctx context.Context, current *tls.Certificate) (*tls.Certificate, error)
	// Due is when Next will have another one; zero: it cannot be told.
	Due(current *tls.Certificate) time.Time
	// Waits says that a server may start without a certificate: there will be
	// one as soon as somebody else is well.
	Waits() bool
}

// OwnOptions describe the certificate that verdict has signed for itself.
type OwnOptions struct {
	// CommonName may be empty.
	CommonName string
	// Names are DNS names, IP addresses and URIs; one at least.
	Names []string
	// TTL is how long each lives; 0: DefaultTTL.
	TTL time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// DefaultTTL is how long certificates live that are issued.
const DefaultTTL = 24 * time.Hour

// Issued is the Source of a certificate that an authority signs, with a key that
// is made here, for each anew, and is kept in memory only. It is renewed at two
// thirds of its life, give or take a thirtieth of it, so that many servers that
// started together do not come at once.
type Issued struct {
	authority Authority
	o         OwnOptions
	template  x509.CertificateRequest
}

// NewIssued makes a source over an authority, which is not asked yet.
func NewIssued(a Authority, o OwnOptions) (*Issued, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TTL <= 0 {
		o.TTL = DefaultTTL
	}
	s := &Issued{authority: a, o: o, template: x509.CertificateRequest{Subject: pkix.Name{CommonName: o.CommonName}}}
	if len(o.Names) == 0 || len(o.Names) > maxNames {
		return nil, fmt.Errorf("a certificate has 1 to %d names", maxNames)
	}
	for _, name := range o.Names {
		if err := addName(&s.template, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// addName puts a DNS name, an IP address or a URI into a request.
func addName(r *x509.CertificateRequest, name string) error {
	if ip := net.ParseIP(name); ip != nil {
		r.IPAddresses = append(r.IPAddresses, ip)
		return nil
	}
	if strings.Contains(name, "://") {
		if _, err := ParseID(name); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		u, err := url.Parse(name)
		if err != nil {
			return fmt.Errorf("%q is not a URI", name)
		}
		r.URIs = append(r.URIs, u)
		return nil
	}
	if !isDNSName(strings.TrimPrefix(name, "*.")) {
		return fmt.Errorf("%q is neither a DNS name in lower case nor an IP address nor a SPIFFE id", name)
	}
	r.DNSNames = append(r.DNSNames, name)
	return nil
}

// Name implements Source.
func (s *Issued) Name() string { return s.authority.Name() }

// Waits implements Source.
func (s *Issued) Waits() bool { return true }

// Due implements Source.
func (s *Issued) Due(current *tls.Certificate) time.Time {
	if current == nil || current.Leaf == nil {
		return s.o.Now()
	}
	return renewAt(current.Leaf)
}

// renewAt is at two thirds of the certificate's life, moved by what its
// signature happens to be.
func renewAt(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	var chance int64
	if n := len(leaf.Signature); n >= 2 {
		chance = int64(binary.BigEndian.Uint16(leaf.Signature[n-2:])) - 1<<15
	}
	return leaf.NotBefore.Add(life/3*2 + life/30*time.Duration(chance)>>15)
}

// Next implements Source.
func (s *Issued) Next(ctx context.Context, current *tls.Certificate) (*tls.Certificate, error) {
	if current != nil && s.o.Now().Before(s.Due(current)) {
		return current, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := s.template
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate signing request: %w", err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("read our own certificate signing request: %w", err)
	}
	r := Request{CSR: csr, Type: Server, TTL: s.o.TTL}
	chain, err := s.authority.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := checkAnswer(r, chain, s.o.Now()); err != nil {
		return nil, errors.Join(errors.New("the authority did not sign what was asked for"), err)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, nil
}
