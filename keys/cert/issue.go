package cert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage"
)

// leastTTL is the shortest life of what is issued.
const leastTTL = time.Minute

// IssueRequest asks for a certificate for another service.
type IssueRequest struct {
	// CSR is a certificate signing request, PEM.
	CSR string
	// Type is Server or Client.
	Type Type
	// TTL is how long it shall live; 0: as long as it may.
	TTL time.Duration
	By  keys.By
}

// IssuedCertificate is what was issued.
type IssuedCertificate struct {
	Info
	// Certificate is the leaf, PEM, and Chain what a server sends: the leaf and
	// the authorities between it and the root.
	Certificate string `json:"certificate"`
	Chain       string `json:"chain"`
}

// Issue has a certificate signed, records it and gives it out. The error is an
// *Error, or that of the log or the store.
func (r *Registry) Issue(ctx context.Context, q IssueRequest) (*IssuedCertificate, error) {
	done, err := r.issue(ctx, q)
	kind := q.Type
	if kind != Server && kind != Client {
		kind = "unknown"
	}
	if err == nil {
		r.issued.WithLabelValues(string(kind), "success").Inc()
		return done, nil
	}
	r.issued.WithLabelValues(string(kind), "failure").Inc()
	if refused, ok := errors.AsType[*Error](err); ok {
		e := Event{Kind: EventIssueRefused, Code: refused.Code, Failed: refused.Message}
		if failed := r.record(context.WithoutCancel(ctx), e, q.By); failed != nil {
			return nil, failed
		}
	}
	return nil, err
}

func (r *Registry) issue(ctx context.Context, q IssueRequest) (*IssuedCertificate, error) {
	signed, err := r.checkIssue(q)
	if err != nil {
		return nil, err
	}
	chain, err := r.o.Authority.Sign(ctx, signed)
	if err != nil {
		return nil, r.unavailable(ctx, err)
	}
	if err := checkAnswer(signed, chain, r.o.Now()); err != nil {
		return nil, &Error{Code: CodeIssuerRefused, Message: "the authority did not sign what was asked for: " + err.Error()}
	}
	leaf := chain[0]
	e := entry{Certificate: leaf.Raw, Authority: r.o.Authority.Name(), RequestedBy: q.By.Caller}
	info := r.info(e, leaf)
	if err := r.record(ctx, Event{Kind: EventIssued, Certificate: info}, q.By); err != nil {
		return nil, err
	}
	value, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode a certificate: %w", err)
	}
	op := storage.Create(storage.Key(issuedPart, info.Serial), value).Until(leaf.NotAfter.Add(keepFor))
	if _, err := r.bucket.Apply(ctx, op); err != nil {
		return nil, fmt.Errorf("keep the certificate %s: %w", info.Serial, err)
	}
	return &IssuedCertificate{Info: info, Certificate: string(encode(leaf)), Chain: string(encode(chain...))}, nil
}

// checkIssue tells what an authority is to sign, or why nothing is.
func (r *Registry) checkIssue(q IssueRequest) (Request, error) {
	if r.o.Authority == nil {
		return Request{}, &Error{Code: CodeNoIssuer, Message: "no certificates are issued here; set certificates.issuer to vault or dev"}
	}
	if q.Type != Server && q.Type != Client {
		return Request{}, &Error{Code: CodeInvalid, Field: "type", Message: "type is server or client"}
	}
	if q.TTL == 0 {
		q.TTL = r.o.MaxTTL
	}
	if q.TTL < leastTTL || q.TTL > r.o.MaxTTL {
		return Request{}, &Error{Code: CodeInvalid, Field: "ttl", Message: fmt.Sprintf("ttl is a duration from %s to %s", leastTTL, r.o.MaxTTL)}
	}
	csr, err := ParseCSR([]byte(q.CSR))
	if err != nil {
		return Request{}, err
	}
	if kind, name := r.o.Allowed.refused(sansOfCSR(csr)); kind != "" {
		return Request{}, &Error{Code: CodeNotAllowed, Field: "csr", Message: fmt.Sprintf(
			"the %s name %.200q may not be issued; certificates.allowed lists what may", kind, name)}
	}
	return Request{CSR: csr, Type: q.Type, TTL: q.TTL}, nil
}

// unavailable makes an error of an authority that cannot sign now one that says
// so.
func (r *Registry) unavailable(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*Error](err); ok || ctx.Err() != nil {
		return err
	}
	if e, ok := errors.AsType[*vault.Error](err); ok {
		return &Error{Code: CodeUnavailable, Message: "the authority cannot sign now: " + e.Error(), RetryAfter: max(e.RetryAfter, 5*time.Second)}
	}
	return err
}
