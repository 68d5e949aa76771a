package bundles

import (
	"fmt"
	"time"
)

// Code says what kind of refusal an Error is.
type Code string

// The codes of refusals.
const (
	CodeName         Code = "name_invalid"        // the bundle's name cannot be one, or is taken
	CodeArchive      Code = "archive_invalid"     // what came is no bundle
	CodeTooLarge     Code = "archive_too_large"   // a limit on archives
	CodeDigest       Code = "digest_mismatch"     // Content-Digest is not that of what came
	CodeGate         Code = "gate_failed"         // a gate that is not about the past
	CodeUsed         Code = "revision_used"       // the revision has another digest
	CodePast         Code = "revision_past"       // it was active before; there is a call for that
	CodeSerial       Code = "serial_not_higher"   // verdict.serial must increase
	CodePrecondition Code = "precondition_failed" // another revision is active
	CodeStaged       Code = "staged_already"      // another bundle's revision is staged
	CodeNotFound     Code = "not_found"
	CodeRequest      Code = "invalid_parameter"
	CodeBusy         Code = "busy"              // too many uploads, or something else goes first
	CodeUnavailable  Code = "store_unavailable" // the change could not be written down
)

// Error is a refusal: what was asked for has not happened, and the policy that
// answers is what it was.
type Error struct {
	Code    Code
	Gate    string // the gate that refused; empty: none
	Message string
	// Field is the part of the request that is wrong: a member, a parameter or a
	// header; empty: none, or not one.
	Field string
	// Gates are the results until then, for a push that came so far.
	Gates []GateResult
	// Revision and Digest are those of the refused bundle, where known.
	Revision, Digest string
	// RetryAfter is when to try again; 0: unsaid.
	RetryAfter time.Duration
	// Err is the cause, for logs; it may be nil.
	Err error
}

func (e *Error) Error() string {
	if e.Gate != "" {
		return fmt.Sprintf("gate %s: %s", e.Gate, e.Message)
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(code Code, gate, format string, args ...any) *Error {
	return &Error{Code: code, Gate: gate, Message: fmt.Sprintf(format, args...)}
}

// about names the part of the request that is wrong.
func (e *Error) about(field string) *Error {
	e.Field = field
	return e
}
