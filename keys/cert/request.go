package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// maxCSR bounds a certificate signing request in bytes.
const maxCSR = 64 << 10

// Request is what an authority is asked to sign.
type Request struct {
	// CSR is of ParseCSR, or made by this package.
	CSR *x509.CertificateRequest
	// Type is Server or Client.
	Type Type
	// TTL is how long it lives from now on.
	TTL time.Duration
}

// ParseCSR reads a certificate signing request (RFC 2986), PEM, and checks that
// whoever made it has the key, that the key is strong enough, and the names: one
// DNS name, SPIFFE id or IP address at least, and a common name only where it is
// one of the DNS names. What else it asks for is not given. The error is an
// *Error.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	bad := func(format string, args ...any) (*x509.CertificateRequest, error) {
		return nil, &Error{Code: CodeInvalidCSR, Field: "csr", Message: fmt.Sprintf(format, args...)}
	}
	if len(text) > maxCSR {
		return bad("a certificate signing request has at most %d bytes", maxCSR)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return bad("give one certificate signing request, PEM (-----BEGIN CERTIFICATE REQUEST-----)")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return bad("the certificate signing request cannot be read: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return bad("the certificate signing request is not signed by its own key: %v", err)
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return bad("%v", err)
	}
	names := sansOfCSR(csr)
	count := len(names.DNS) + len(names.URI) + len(names.IP) + len(names.Email)
	switch {
	case count == 0 || count > maxNames:
		return bad("the certificate signing request asks for %d names; ask for 1 to %d subject alternative names", count, maxNames)
	case len(names.URI) > 1:
		return bad("the certificate signing request asks for %d URIs; ask for one SPIFFE id at most", len(names.URI))
	case csr.Subject.CommonName != "" && !slices.Contains(names.DNS, csr.Subject.CommonName):
		return bad("the common name is none of the DNS names; leave it out or make it one of them")
	}
	return csr, nil
}

// checkKey refuses public keys that are too weak, and those so large that using
// them is an attack.
func checkKey(key any) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return errors.New("the key is too short; make one on P-256 or a larger curve")
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("the RSA key has %d bits; make one of 2048 to 8192 bits", n)
		}
		return nil
	}
	return errors.New("the key is of a kind that is not taken; make an ECDSA, Ed25519 or RSA key")
}

func sansOfCSR(csr *x509.CertificateRequest) SANs {
	return sansOf(&x509.Certificate{
		DNSNames: csr.DNSNames, URIs: csr.URIs, IPAddresses: csr.IPAddresses, EmailAddresses: csr.EmailAddresses,
	})
}

// checkAnswer tells whether the chain is what was asked for: an authority may be
// configured to sign something else.
func checkAnswer(r Request, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate in the answer")
	}
	leaf, asked := chain[0], sansOfCSR(r.CSR)
	got := sansOf(leaf)
	switch {
	case !samePublicKey(leaf.PublicKey, r.CSR.PublicKey):
		return errors.New("the certificate is for another key")
	case leaf.IsCA:
		return errors.New("the certificate is an authority's")
	case !sameNames(asked.DNS, got.DNS) || !sameNames(asked.URI, got.URI) || !sameNames(asked.IP, got.IP) || !sameNames(asked.Email, got.Email):
		return fmt.Errorf("the certificate has other names (%v) than those asked for (%v)", got, asked)
	case len(leaf.ExtKeyUsage) == 0 || !goodFor(leaf, r.Type):
		return fmt.Errorf("the certificate is not for use as %s", r.Type)
	case !now.Before(leaf.NotAfter):
		return errors.New("the certificate has ended already")
	}
	return checkChain(chain)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
