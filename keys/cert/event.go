package cert

import (
	"context"
	"time"

	"github.com/verdict-pdp/verdict/keys"
)

// EventKind is what happened to a certificate; the words stand in records.
type EventKind string

// The events.
const (
	// EventIssued: a certificate was signed for another service, or an authority
	// was made.
	EventIssued EventKind = "certificate_issued"
	// EventIssueRefused: what was asked for is not allowed, or came to nothing.
	EventIssueRefused EventKind = "certificate_issue_refused"
	// EventRenewed: another certificate is about to be served.
	EventRenewed EventKind = "certificate_renewal"
	// EventRenewalFailed: there is none to take the place of the one served.
	EventRenewalFailed EventKind = "certificate_renewal_failed"
	// EventExpiring: the certificate served has less than a third of its life left.
	EventExpiring EventKind = "certificate_expiring"
	EventRevoked  EventKind = "certificate_revoked"
	// EventTrustChanged: other authorities or revocation lists hold for clients;
	// with Failed they could not be taken.
	EventTrustChanged EventKind = "certificate_trust_changed"
)

// Event is one thing that happened to a certificate. It holds no private key.
type Event struct {
	Kind EventKind
	// Certificate is what it is about; its zero value: none.
	Certificate Info
	// Failed is why something came to nothing, Code the word for it.
	Failed, Code string
	// Detail says more, in one line.
	Detail string
	By     keys.By
}

// Recorder takes what happens to certificates into the audit log.
type Recorder interface {
	// RecordCertificate returns when the event is recorded durably; with an
	// error nothing was, and what was to happen does not.
	RecordCertificate(ctx context.Context, e Event) error
}

// Error is a request that is refused.
type Error struct {
	// Code is one of the Code constants, Field the part of the request that is
	// wrong, and Message says what would be right.
	Code, Field, Message string
	// RetryAfter is when it makes sense to ask again; 0: unknown.
	RetryAfter time.Duration
}

// The codes of errors.
const (
	CodeInvalidCSR    = "csr_invalid"
	CodeNotAllowed    = "name_not_allowed"
	CodeInvalid       = "invalid_parameter"
	CodeUnknown       = "certificate_unknown"
	CodeNoIssuer      = "issuer_off"
	CodeUnavailable   = "issuer_unavailable"
	CodeIssuerRefused = "issuer_refused"
)

// Error gives the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }
