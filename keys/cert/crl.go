package cert

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// revocationList is a list that an authority of clients has signed.
type revocationList struct {
	issuer  string // RawSubject of the authority
	number  *big.Int
	ends    time.Time // nextUpdate
	serials map[string]struct{}
}

// parseCRLs reads revocation lists (RFC 5280, section 5), PEM or one in DER, of
// which each must be signed by one of the authorities. What is not understood is
// refused: a list that is passed over revokes nothing.
func parseCRLs(text []byte, authorities []*x509.Certificate, now time.Time) ([]*revocationList, error) {
	var lists []*revocationList
	seen := map[string]bool{}
	add := func(der []byte) error {
		l, err := parseCRL(der, authorities, now)
		if err != nil {
			return fmt.Errorf("revocation list %d: %w", len(lists)+1, err)
		}
		if seen[l.issuer] {
			return fmt.Errorf("revocation list %d: there is another of the same authority before it", len(lists)+1)
		}
		seen[l.issuer] = true
		lists = append(lists, l)
		return nil
	}
	block, rest := pem.Decode(text)
	if block == nil {
		if err := add(text); err != nil {
			return nil, err
		}
		return lists, nil
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("there is a PEM block of the type %q, not X509 CRL", block.Type)
		}
		if len(lists) == maxChain {
			return nil, fmt.Errorf("there are more than %d revocation lists", maxChain)
		}
		if err := add(block.Bytes); err != nil {
			return nil, err
		}
	}
	return lists, nil
}

func parseCRL(der []byte, authorities []*x509.Certificate, now time.Time) (*revocationList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if len(crl.Raw) != len(der) {
		return nil, errors.New("something follows it")
	}
	// Delta lists, lists of some certificates only, and lists for other
	// authorities mark themselves so.
	for _, e := range crl.Extensions {
		if e.Critical {
			return nil, fmt.Errorf("it has the critical extension %s, which is not supported", e.Id)
		}
	}
	if err := signedByOne(crl, authorities); err != nil {
		return nil, err
	}
	switch {
	case crl.NextUpdate.IsZero():
		return nil, errors.New("it does not say when the next one comes (nextUpdate)")
	case now.Before(crl.ThisUpdate):
		return nil, fmt.Errorf("it is of the future: %s", crl.ThisUpdate.UTC().Format(time.RFC3339))
	}
	l := &revocationList{
		issuer: string(crl.RawIssuer), number: crl.Number, ends: crl.NextUpdate,
		serials: make(map[string]struct{}, len(crl.RevokedCertificateEntries)),
	}
	for _, e := range crl.RevokedCertificateEntries {
		for _, x := range e.Extensions {
			if x.Critical {
				return nil, fmt.Errorf("an entry has the critical extension %s, which is not supported", x.Id)
			}
		}
		l.serials[string(e.SerialNumber.Bytes())] = struct{}{}
	}
	return l, nil
}

func signedByOne(crl *x509.RevocationList, authorities []*x509.Certificate) error {
	err := errors.New("none of the authorities in client_ca_file has its issuer's name")
	for _, a := range authorities {
		if string(a.RawSubject) != string(crl.RawIssuer) {
			continue
		}
		if err = crl.CheckSignatureFrom(a); err == nil {
			return nil
		}
	}
	return fmt.Errorf("it is not signed by an authority of clients: %w", err)
}

// sorted gives the lists in an order that stays.
func (t *trust) sorted() []*revocationList {
	names := slices.Sorted(maps.Keys(t.lists))
	lists := make([]*revocationList, 0, len(names))
	for _, name := range names {
		lists = append(lists, t.lists[name])
	}
	return lists
}
