package keys

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrMalformed is returned when a text is not a ciphertext of this format:
	// prefix, encoding, lengths, an unknown version, class, algorithm or flag.
	ErrMalformed = errors.New("ciphertext_malformed")
	// ErrKeyUnknown is returned when a key does not exist, or is none that
	// this ring encrypts with.
	ErrKeyUnknown = errors.New("key_unknown")
	// ErrVersionDisallowed is returned when a version of a key may not be
	// used: it does not exist or is below the minimum.
	ErrVersionDisallowed = errors.New("key_version_disallowed")
	// ErrInvalid is returned for every failure of authentication: wrong
	// context, changed bits, another tenant's value, a forged one. It never
	// says which.
	ErrInvalid = errors.New("ciphertext_invalid")
	// ErrNotEncrypted is returned for a value of class public, which is not
	// encrypted.
	ErrNotEncrypted = errors.New("classification_not_encrypted")
	// ErrTooLarge is returned when a value or a part of its context is longer
	// than the limit.
	ErrTooLarge = errors.New("value_too_large")
	// ErrUnavailable is what every *UnavailableError is (errors.Is).
	ErrUnavailable = errors.New("keys_unavailable")
	// ErrKeyMismatch is returned when a key exists and is of another type, or
	// another origin, than asked for.
	ErrKeyMismatch = errors.New("key_mismatch")
	// ErrNoEscrow is returned when a key must be escrowed, which is enforced,
	// and no escrow is configured.
	ErrNoEscrow = errors.New("key_escrow_missing")
	// ErrKeyLost is returned when a key existed, the backend does not hold it
	// any more, and its material is in escrow: it is recovered, not made anew.
	// It is ErrUnavailable.
	ErrKeyLost error = &lostError{}
	// ErrKeyPresent is returned when a key that is to be recovered is not lost.
	ErrKeyPresent = errors.New("key_present")
	// ErrHeld is returned when old versions of a key are still needed by a job.
	ErrHeld = errors.New("key_held")
	// ErrBusy is returned when another node is rotating the key or retiring versions
	// of it.
	ErrBusy = errors.New("key_busy")
	// ErrInvalidMaterial is returned when key material to import does not fit
	// the key's type.
	ErrInvalidMaterial = errors.New("key_material_invalid")
	// ErrUnsupported is returned when a key cannot do what was asked, because
	// of its type or the backend's abilities or limits.
	ErrUnsupported = errors.New("key_operation_unsupported")
)

// lostError is ErrKeyLost.
type lostError struct{}

func (*lostError) Error() string { return "key_lost: recover it from escrow" }

func (*lostError) Is(target error) bool { return target == ErrUnavailable }

// Reason is why a backend cannot be used now; the words stand in metrics and
// answers.
type Reason string

// The reasons.
const (
	ReasonSealed      Reason = "sealed"       // the server holds no master key now
	ReasonStandby     Reason = "standby"      // the server is not the active one
	ReasonUnreachable Reason = "unreachable"  // no connection
	ReasonTimeout     Reason = "timeout"      // connected, no answer in time
	ReasonRateLimited Reason = "rate_limited" // the server asks to slow down
	ReasonDenied      Reason = "denied"       // not logged in, or not allowed
	ReasonFailed      Reason = "failed"       // an answer that makes no sense, or the disk's error
	ReasonClosed      Reason = "closed"       // shut down
)

// UnavailableError says that keys cannot be used now. It is ErrUnavailable.
type UnavailableError struct {
	Reason Reason
	// RetryAfter is when it makes sense to ask again; 0: unknown.
	RetryAfter time.Duration
	// Err is the cause, without secrets; may be nil.
	Err error
}

// Error names the reason and the cause.
func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%v: %s", ErrUnavailable, e.Reason)
	}
	return fmt.Sprintf("%v: %s: %v", ErrUnavailable, e.Reason, e.Err)
}

// Is tells that the error is ErrUnavailable.
func (e *UnavailableError) Is(target error) bool { return target == ErrUnavailable }

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
