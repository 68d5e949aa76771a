package cert

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// ClientError is why a client certificate is not accepted.
type ClientError struct{ reason, text string }

// Error says it in words.
func (e *ClientError) Error() string { return e.text }

// Reason is one word of a few, for metrics.
func (e *ClientError) Reason() string { return e.reason }

// The reasons, each with what the error that holds it may say more of.
var (
	// ErrRevoked is returned when the certificate, or one that it depends on,
	// was revoked, here or by its authority's list.
	ErrRevoked = &ClientError{"revoked", "the certificate is revoked"}
	// ErrUnknownAuthority is returned when its authority is not believed any
	// more.
	ErrUnknownAuthority = &ClientError{"unknown_authority", "the certificate's authority is not trusted"}
	// ErrOutOfTime is returned when it, or one that it depends on, is not valid
	// now.
	ErrOutOfTime = &ClientError{"expired", "the certificate is not valid now"}
	// ErrStaleList is returned when its authority's revocation list is older
	// than it says it may be: what was revoked since cannot be known.
	ErrStaleList = &ClientError{"revocation_stale", "the revocation list of the certificate's authority is out of date"}
	// ErrIdentity is returned when it has a SPIFFE id and is not as the standard
	// wants it, or of another trust domain.
	ErrIdentity = &ClientError{"spiffe_id", "the certificate's SPIFFE id is not acceptable"}
)

// ClientSettings are what client certificates are held against.
type ClientSettings struct {
	// CAFile has the authorities, PEM; empty: none. CRLFile has their revocation
	// lists, PEM or DER; empty: none.
	CAFile, CRLFile string
	// TrustDomains are those that a SPIFFE id may be of; empty: all.
	TrustDomains []string
}

// trust is what ClientSettings come to at some time. It does not change.
type trust struct {
	settings    ClientSettings
	sum         [sha256.Size]byte // of the files
	authorities []*x509.Certificate
	pool        *x509.CertPool
	roots       map[string]struct{} // Raw of each authority
	lists       map[string]*revocationList
}

// loadTrust reads the files, and gives old back where they say what it says.
// More are authorities that are in no file.
func loadTrust(s ClientSettings, more []*x509.Certificate, now time.Time, old *trust) (*trust, error) {
	var authorities, lists []byte
	var err error
	h := sha256.New()
	if s.CAFile != "" {
		if authorities, err = readFile(s.CAFile, maxPEM); err != nil {
			return nil, fmt.Errorf("read client_ca_file: %w", err)
		}
	}
	if s.CRLFile != "" {
		if lists, err = readFile(s.CRLFile, maxCRL); err != nil {
			return nil, fmt.Errorf("read client_crl_file: %w", err)
		}
	}
	fmt.Fprintf(h, "%q %q %d %d:", s, s.TrustDomains, len(authorities), len(lists)) // a hash takes all
	h.Write(authorities)
	h.Write(lists)
	for _, a := range more {
		h.Write(a.Raw)
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	if old != nil && old.sum == sum {
		return old, nil
	}
	t := &trust{settings: s, sum: sum, pool: x509.NewCertPool(), roots: map[string]struct{}{}, lists: map[string]*revocationList{}}
	if err := t.parse(authorities, lists, more, now); err != nil {
		return nil, err
	}
	return t, old.checkSuccessor(t)
}

func (t *trust) parse(authorities, lists []byte, more []*x509.Certificate, now time.Time) (err error) {
	if t.settings.CAFile != "" {
		if t.authorities, err = parseChain(authorities); err != nil {
			return fmt.Errorf("client_ca_file %s: %w", t.settings.CAFile, err)
		}
	}
	t.authorities = append(t.authorities, more...)
	for _, a := range t.authorities {
		t.pool.AddCert(a)
		t.roots[string(a.Raw)] = struct{}{}
	}
	if t.settings.CRLFile == "" {
		return nil
	}
	parsed, err := parseCRLs(lists, t.authorities, now)
	if err != nil {
		return fmt.Errorf("client_crl_file %s: %w", t.settings.CRLFile, err)
	}
	for _, l := range parsed {
		t.lists[l.issuer] = l
	}
	return nil
}

// checkSuccessor refuses lists that are older than those in use, and a file that
// lacks the list of an authority which is still one: either would undo revocations.
func (t *trust) checkSuccessor(next *trust) error {
	if t == nil {
		return nil
	}
	for issuer, old := range t.lists {
		l := next.lists[issuer]
		if l == nil && next.settings.CRLFile != "" && next.hasAuthority(issuer) {
			return fmt.Errorf("client_crl_file %s: it has no list of an authority that has one in use; add its list, or take the authority out of client_ca_file", next.settings.CRLFile)
		}
		if l != nil && l.number != nil && old.number != nil && l.number.Cmp(old.number) < 0 {
			return fmt.Errorf("client_crl_file %s: the list has the number %s, older than %s, which is in use", next.settings.CRLFile, l.number, old.number)
		}
	}
	return nil
}

// hasAuthority tells whether there is an authority with that name (RawSubject).
func (t *trust) hasAuthority(name string) bool {
	return slices.ContainsFunc(t.authorities, func(a *x509.Certificate) bool { return string(a.RawSubject) == name })
}

// any tells whether client certificates are asked for.
func (t *trust) any() bool { return len(t.authorities) > 0 }

// stale gives the first list that is out of date.
func (t *trust) stale(now time.Time) *revocationList {
	for _, l := range t.lists {
		if now.After(l.ends) {
			return l
		}
	}
	return nil
}

// refused tells why none of the verified chains of a client certificate is good
// now, or nil. revoked asks the inventory.
func (t *trust) refused(chains [][]*x509.Certificate, revoked func(*x509.Certificate) bool, now time.Time) error {
	var err error = ErrUnknownAuthority
	for _, chain := range chains {
		if err = t.refusedChain(chain, revoked, now); err == nil {
			return nil
		}
	}
	return err
}

func (t *trust) refusedChain(chain []*x509.Certificate, revoked func(*x509.Certificate) bool, now time.Time) error {
	if len(chain) == 0 {
		return ErrUnknownAuthority
	}
	if _, ok := t.roots[string(chain[len(chain)-1].Raw)]; !ok {
		return ErrUnknownAuthority
	}
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return ErrOutOfTime
		}
		if revoked != nil && revoked(c) {
			return ErrRevoked
		}
		if len(t.lists) == 0 {
			continue
		}
		if l := t.lists[string(c.RawIssuer)]; l != nil {
			if _, listed := l.serials[string(c.SerialNumber.Bytes())]; listed {
				return ErrRevoked
			}
			if now.After(l.ends) {
				return ErrStaleList
			}
		}
	}
	return t.refusedID(chain[0])
}

// refusedID checks the SPIFFE id of a leaf, when it has one.
func (t *trust) refusedID(leaf *x509.Certificate) error {
	if len(leaf.URIs) == 0 {
		return nil
	}
	id, ok, err := IDOf(leaf)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	if ok && len(t.settings.TrustDomains) > 0 && !slices.Contains(t.settings.TrustDomains, id.TrustDomain) {
		return fmt.Errorf("%w: its trust domain is not one of those configured", ErrIdentity)
	}
	return nil
}
