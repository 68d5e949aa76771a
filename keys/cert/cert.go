// Package cert keeps certificates: the one that the listeners serve, from
// files, from Vault's PKI engine or from a development authority; the
// authorities and revocation lists that client certificates are held against;
// and the inventory of certificates issued for other services.
//
// Keeper has what is in use, Registry what was issued and revoked. Both act on
// every request, so that a revoked certificate ends with its next request and
// not with its connection.
package cert

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"time"
)

// Bounds on what is read.
const (
	maxPEM   = 1 << 20  // bytes of a file with certificates or a key
	maxCRL   = 16 << 20 // bytes of a file with revocation lists
	maxChain = 100      // certificates in a file
)

// Type is what a certificate is for.
type Type string

// The types.
const (
	Server Type = "server"
	Client Type = "client"
	CA     Type = "ca"
)

// Status is whether a certificate is good.
type Status string

// The states.
const (
	Active  Status = "active"
	Expired Status = "expired"
	Revoked Status = "revoked"
)

// Uses of certificates that verdict itself has.
const (
	UseServing         = "serving"
	UseClientAuthority = "client_authority"
	UseAuthority       = "authority"
)

// SANs are the subject alternative names of a certificate, as text.
type SANs struct {
	DNS   []string `json:"dns,omitempty"`
	URI   []string `json:"uri,omitempty"`
	IP    []string `json:"ip,omitempty"`
	Email []string `json:"email,omitempty"`
}

// Info describes a certificate.
type Info struct {
	// Serial is in hexadecimal digits, two a byte; Fingerprint is SHA-256 over
	// the certificate, so too.
	Serial      string `json:"serial"`
	Fingerprint string `json:"fingerprint"`
	Subject     string `json:"subject"`
	Issuer      string `json:"issuer"`
	SANs        SANs   `json:"sans"`
	Type        Type   `json:"type"`
	Status      Status `json:"status"`
	// NotBefore and NotAfter are in UTC.
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Use is what verdict itself uses it for; empty: it is another's.
	Use string `json:"use,omitempty"`
	// Authority is who signed it: vault, dev, files, or outside for one that is
	// only known because it was revoked here.
	Authority string `json:"authority"`
	// RequestedBy is the caller that it was issued for.
	RequestedBy string `json:"requested_by,omitempty"`
	// RevokedAt and Reason are those of the revocation. Published says whether
	// its authority knows of it.
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Published *bool      `json:"published,omitempty"`
}

// Describe gives what the certificate says of itself; now decides whether it
// has expired.
func Describe(c *x509.Certificate, now time.Time) Info {
	sum := sha256.Sum256(c.Raw)
	i := Info{
		Serial: SerialText(c.SerialNumber), Fingerprint: hex.EncodeToString(sum[:]),
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), SANs: sansOf(c), Type: typeOf(c),
		Status: Active, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}
	if now.After(c.NotAfter) {
		i.Status = Expired
	}
	return i
}

// SerialText is a serial number as this package writes it.
func SerialText(n *big.Int) string {
	if n.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(n.Bytes())
}

func sansOf(c *x509.Certificate) SANs {
	s := SANs{DNS: slices.Clone(c.DNSNames), Email: slices.Clone(c.EmailAddresses)}
	for _, u := range c.URIs {
		s.URI = append(s.URI, u.String())
	}
	for _, ip := range c.IPAddresses {
		s.IP = append(s.IP, ip.String())
	}
	return s
}

// typeOf tells what the certificate is for; one that may be both, a server.
func typeOf(c *x509.Certificate) Type {
	switch {
	case c.IsCA:
		return CA
	case slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		return Client
	}
	return Server
}

// extKeyUsage is what a certificate of the type must be good for.
func (t Type) extKeyUsage() x509.ExtKeyUsage {
	if t == Client {
		return x509.ExtKeyUsageClientAuth
	}
	return x509.ExtKeyUsageServerAuth
}

// goodFor tells whether the extended key usage of a certificate, absent or not,
// allows it to be used as t (RFC 5280, section 4.2.1.12).
func goodFor(c *x509.Certificate, t Type) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, t.extKeyUsage()) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// readFile reads a file of at most most bytes.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return data, nil
}

// parseChain reads the certificates of a PEM text; other blocks are passed over.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		if chain = append(chain, c); len(chain) > maxChain {
			return nil, fmt.Errorf("there are more than %d certificates", maxChain)
		}
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate (PEM)")
	}
	return chain, nil
}

// checkChain tells whether every certificate was issued by the one after it, as
// a server sends them (RFC 8446, section 4.4.2).
func checkChain(chain []*x509.Certificate) error {
	for i := range len(chain) - 1 {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return fmt.Errorf("certificate %d was not issued by certificate %d, which follows it: %w", i+1, i+2, err)
		}
	}
	return nil
}

// encode writes certificates as PEM.
func encode(chain ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	return b.Bytes()
}
