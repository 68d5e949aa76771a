package keys

import (
	"context"
	"time"
)

// EventKind is what happened to a key; the words stand in records.
type EventKind string

// The events.
const (
	EventCreated        EventKind = "key_created"
	EventRotated        EventKind = "key_rotated"
	EventRotationFailed EventKind = "key_rotation_failed"
	// EventScheduled: a date was set on which the key is rotated, or removed.
	EventScheduled     EventKind = "key_rotation_scheduled"
	EventCompromised   EventKind = "key_compromised"
	EventRetired       EventKind = "key_retired"
	EventChangeFailed  EventKind = "key_change_failed"
	EventOpeningFailed EventKind = "key_opening_failed"
	// EventEscrowed: a version was made and wrapped to the escrow key.
	EventEscrowed EventKind = "key_escrowed"
	// EventEscrowExported: somebody reads the escrow packages of a key.
	EventEscrowExported EventKind = "key_escrow_exported"
	// EventRecoveryShares: somebody gave shares of the escrow key to recover a
	// key; EventRecoveryRefused: they were not taken; EventRecoveryCancelled:
	// the shares that were given are forgotten.
	EventRecoveryShares    EventKind = "key_recovery_shares"
	EventRecoveryRefused   EventKind = "key_recovery_refused"
	EventRecoveryCancelled EventKind = "key_recovery_cancelled"
	// EventRecovered: a key that was lost is brought back from escrow.
	EventRecovered EventKind = "key_recovered"
	// EventMasterRotated: the embedded ring gets another master key.
	EventMasterRotated EventKind = "master_key_rotated"
)

// Cause is why a key was rotated.
type Cause string

// The causes.
const (
	CauseRequest    Cause = "request"    // somebody asked
	CausePeriod     Cause = "period"     // the age that the policy allows
	CauseDate       Cause = "date"       // the date that somebody set
	CauseCompromise Cause = "compromise" // the version before is compromised
)

// By is who asked, for the record. The zero By is verdict itself.
type By struct {
	Caller, ClientIP, UserAgent, Edge, CorrelationID, TraceID string
	// DecisionID of the decision that allowed it.
	DecisionID string
}

// Event is one thing that happened to a key, or to values under it. It holds
// no value, no key material and no ciphertext.
type Event struct {
	Kind  EventKind
	KeyID string
	Class Class // zero for a key that belongs to none
	Type  Type
	// Version that is meant, or that comes; From is the one before it.
	Version, From uint32
	Cause         Cause
	// At is the date that was set (EventScheduled).
	At time.Time
	// Failures counts the values of a call that did not open, by the text of
	// the error (EventOpeningFailed), and Contexts are the first few of them.
	Failures map[string]int
	Contexts []Context
	// Digest is the SHA-256 of an escrow package in hex digits (EventEscrowed).
	Digest string
	// Shares of the escrow key that were given, and the Principals that gave
	// them (of a recovery).
	Shares     int
	Principals []string
	// Missing versions did not come back (EventRecovered).
	Missing []uint32
	// Failed is why a change came to nothing.
	Failed string
	By     By
}

// Recorder takes what happens to keys into the audit log.
type Recorder interface {
	// RecordKey returns when the event is recorded durably; with an error
	// nothing was, and what was to happen does not.
	RecordKey(ctx context.Context, e Event) error
}
