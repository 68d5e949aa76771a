package cert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Bounds of the SPIFFE ID specification, sections 2.1 and 2.3.
const (
	maxSPIFFE      = 2048
	maxTrustDomain = 255
)

const spiffeScheme = "spiffe://"

// ID is a SPIFFE id: spiffe://TRUST_DOMAIN/PATH.
type ID struct {
	// TrustDomain is in lower case.
	TrustDomain string
	// Path begins with a slash, or is empty.
	Path string
}

// String gives the id as a URI.
func (id ID) String() string { return spiffeScheme + id.TrustDomain + id.Path }

// ParseID reads a SPIFFE id. It is compared as it is written: there is no
// percent-encoding, no port, no query, no empty or dot segment, and no trailing
// slash (SPIFFE ID, section 2).
func ParseID(text string) (ID, error) {
	if len(text) > maxSPIFFE {
		return ID{}, fmt.Errorf("a SPIFFE id has at most %d bytes", maxSPIFFE)
	}
	rest, ok := strings.CutPrefix(text, spiffeScheme)
	if !ok {
		return ID{}, errors.New("a SPIFFE id begins with spiffe://")
	}
	domain, path, _ := strings.Cut(rest, "/")
	if err := checkTrustDomain(domain); err != nil {
		return ID{}, err
	}
	id := ID{TrustDomain: domain, Path: rest[len(domain):]}
	if id.Path == "" {
		return id, nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return ID{}, errors.New("the path of a SPIFFE id has no empty or dot segments and no trailing slash")
		}
		if strings.IndexFunc(segment, func(r rune) bool { return !isIDRune(r) && (r < 'A' || r > 'Z') }) >= 0 {
			return ID{}, errors.New("the path of a SPIFFE id has letters, digits, dots, dashes and underscores only")
		}
	}
	return id, nil
}

func checkTrustDomain(domain string) error {
	if domain == "" || len(domain) > maxTrustDomain || strings.IndexFunc(domain, func(r rune) bool { return !isIDRune(r) }) >= 0 {
		return fmt.Errorf("a trust domain has 1 to %d lower-case letters, digits, dots, dashes and underscores", maxTrustDomain)
	}
	return nil
}

func isIDRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_'
}

// IDOf gives the SPIFFE id of a leaf certificate; ok is false when it has none.
// A certificate with a URI of that scheme is an X.509-SVID and must be a whole
// one: exactly one URI, no authority, no key that signs certificates
// (X509-SVID, sections 2 and 4).
func IDOf(c *x509.Certificate) (id ID, ok bool, err error) {
	has := false
	for _, u := range c.URIs {
		has = has || strings.EqualFold(u.Scheme, "spiffe")
	}
	if !has {
		return ID{}, false, nil
	}
	switch {
	case len(c.URIs) != 1:
		err = errors.New("a certificate with a SPIFFE id has exactly one URI")
	case c.IsCA:
		err = errors.New("an authority's certificate is none to log in with")
	case c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		err = errors.New("the key of a certificate with a SPIFFE id must not sign certificates")
	default:
		id, err = ParseID(c.URIs[0].String())
	}
	return id, err == nil, err
}
