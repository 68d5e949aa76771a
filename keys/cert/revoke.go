package cert

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	maxReason   = 200
	maxSerial   = 20 // bytes (RFC 5280, section 4.1.2.2)
	maxAttempts = 3  // of a write that another comes in between
)

// RevokeRequest asks to revoke a certificate.
type RevokeRequest struct {
	// Serial is as Info has it; colons and upper case are taken too.
	Serial string
	// Reason is for people; at most 200 bytes.
	Reason string
	// Certificate is the certificate itself, PEM: for one that was not issued
	// here. It must be of an authority of clients.
	Certificate string
	By          keys.By
}

// Revoke records the revocation, keeps it, has the certificate refused from its
// next request on, and then tells its authority. When that fails it is revoked
// here all the same, Info.Published is false, and revoking it again tells the
// authority again. The error is an *Error, or that of the log or the store.
func (r *Registry) Revoke(ctx context.Context, q RevokeRequest) (Info, error) {
	serial, err := parseSerial(q.Serial)
	if err != nil {
		return Info{}, err
	}
	if len(q.Reason) > maxReason {
		return Info{}, &Error{Code: CodeInvalid, Field: "reason", Message: fmt.Sprintf("reason has at most %d bytes", maxReason)}
	}
	var recorded bool
	for attempt := 1; ; attempt++ {
		info, err := r.tryRevoke(ctx, serial, q, &recorded)
		if attempt < maxAttempts && errors.Is(err, storage.ErrConflict) {
			continue
		}
		return info, err
	}
}

func (r *Registry) tryRevoke(ctx context.Context, serial string, q RevokeRequest, recorded *bool) (Info, error) {
	key := storage.Key(issuedPart, serial)
	e, c, revision, err := r.find(ctx, key, serial, q)
	if err != nil {
		return Info{}, err
	}
	if e.RevokedAt == nil {
		now := r.o.Now().UTC()
		e.RevokedAt, e.Reason = &now, q.Reason
		if !*recorded {
			if err := r.record(ctx, Event{Kind: EventRevoked, Certificate: r.info(e, c), Detail: q.Reason}, q.By); err != nil {
				return Info{}, err
			}
			*recorded = true
		}
		if revision, err = r.put(ctx, key, e, c, revision); err != nil {
			return Info{}, err
		}
		r.refuse(c)
	}
	if e.Authority == outside || r.o.Authority == nil || r.o.Authority.Name() != e.Authority || e.Published != nil && *e.Published {
		return r.info(e, c), nil
	}
	err = r.o.Authority.Revoke(ctx, c)
	if err != nil {
		r.o.Logger.Error().Err(err).Str("serial", serial).Msg("a certificate is revoked here, and its authority could not be told")
	}
	published := err == nil
	e.Published = &published
	if _, err := r.put(ctx, key, e, c, revision); err != nil {
		return Info{}, err
	}
	return r.info(e, c), nil
}

// outside is the authority of certificates that were not issued here.
const outside = "outside"

// find gives the entry, or makes one of the certificate that came along.
func (r *Registry) find(ctx context.Context, key, serial string, q RevokeRequest) (entry, *x509.Certificate, uint64, error) {
	stored, err := r.bucket.Get(ctx, key)
	if err == nil {
		e, c, _, err := decode(stored.Value)
		return e, c, stored.Revision, err
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return entry{}, nil, 0, fmt.Errorf("look up the certificate %s: %w", serial, err)
	}
	if q.Certificate == "" {
		return entry{}, nil, 0, &Error{Code: CodeUnknown, Field: "serial", Message: "no certificate with this serial number was issued here; give the certificate itself in the member certificate"}
	}
	c, err := r.outsider([]byte(q.Certificate), serial)
	if err != nil {
		return entry{}, nil, 0, err
	}
	return entry{Certificate: c.Raw, Authority: outside}, c, 0, nil
}

// outsider reads a certificate of an authority of clients.
func (r *Registry) outsider(text []byte, serial string) (*x509.Certificate, error) {
	bad := func(format string, args ...any) error {
		return &Error{Code: CodeInvalid, Field: "certificate", Message: fmt.Sprintf(format, args...)}
	}
	if len(text) > maxCSR {
		return nil, bad("a certificate has at most %d bytes", maxCSR)
	}
	chain, err := parseChain(text)
	if err != nil {
		return nil, bad("the certificate cannot be read: %v", err)
	}
	c := chain[0]
	if SerialText(c.SerialNumber) != serial {
		return nil, bad("the certificate has the serial number %s", SerialText(c.SerialNumber))
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	if r.o.Authorities != nil {
		pool = r.o.Authorities()
	}
	for _, x := range chain[1:] {
		between.AddCert(x)
	}
	// Its time does not matter: one that will be valid may be revoked before.
	_, err = c.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: c.NotBefore.Add(time.Second),
	})
	if err != nil {
		return nil, bad("the certificate is not of an authority of clients (server.tls.client_ca_file): %v", err)
	}
	return c, nil
}

// put writes an entry that has a revision; 0: that is absent.
func (r *Registry) put(ctx context.Context, key string, e entry, c *x509.Certificate, revision uint64) (uint64, error) {
	value, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("encode a certificate: %w", err)
	}
	op := storage.Replace(key, value, revision)
	if until := c.NotAfter.Add(keepFor); storage.CheckExpiry(until) == nil {
		op = op.Until(until)
	}
	revisions, err := r.bucket.Apply(ctx, op)
	if err != nil {
		return 0, fmt.Errorf("keep a revocation: %w", err)
	}
	return revisions[0], nil
}

// parseSerial reads a serial number in hexadecimal digits.
func parseSerial(text string) (string, error) {
	plain := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if len(plain)%2 == 1 {
		plain = "0" + plain
	}
	b, err := hex.DecodeString(plain)
	if err != nil || len(b) == 0 || len(b) > maxSerial+1 {
		return "", &Error{Code: CodeInvalid, Field: "serial", Message: "a serial number is 1 to 20 bytes in hexadecimal digits"}
	}
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return hex.EncodeToString(b), nil
}
