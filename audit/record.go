package audit

import (
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// Type is the coarse class of a record.
type Type string

// The classes of records.
const (
	TypeDecision       Type = "decision"
	TypeAuthentication Type = "authentication"
	TypeSession        Type = "session"
	TypeDataAccess     Type = "data_access"
	TypeAdministrative Type = "administrative"
	TypeSecurity       Type = "security"
	TypeKey            Type = "key"
	TypeBundle         Type = "bundle"
	TypeSystem         Type = "system"
)

// Valid tells whether the class is one of those above.
func (t Type) Valid() bool {
	switch t {
	case TypeDecision, TypeAuthentication, TypeSession, TypeDataAccess, TypeAdministrative,
		TypeSecurity, TypeKey, TypeBundle, TypeSystem:
		return true
	}
	return false
}

// Severity is how much a record matters to whoever watches the log.
type Severity string

// The severities, lowest first.
const (
	SeverityInfo     Severity = "info"
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Valid tells whether the severity is one of those above.
func (s Severity) Valid() bool {
	switch s {
	case SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical:
		return true
	}
	return false
}

// Outcome is how what is recorded ended.
type Outcome string

// The outcomes. Of a decision: allowed, or a result that is no boolean, is a
// success; denied or undefined a failure; an evaluation error an error.
const (
	OutcomeSuccess Outcome = "success"
	OutcomeFailure Outcome = "failure"
	OutcomeWarning Outcome = "warning"
	OutcomeError   Outcome = "error"
)

// Valid tells whether the outcome is one of those above.
func (o Outcome) Valid() bool {
	switch o {
	case OutcomeSuccess, OutcomeFailure, OutcomeWarning, OutcomeError:
		return true
	}
	return false
}

// Record is one entry of the log before it is numbered. The fields stand in the
// order in which they are encoded. Fields of type []byte hold encoded JSON
// without insignificant white space, already masked; empty means absent. Append
// does not keep them after it has returned.
//
// A record of TypeDecision always has decision_id, path, input and result (null
// when absent), reasons ([]), bundles ({}) and duration_ns; everything else is
// left out when it is absent.
type Record struct {
	Type     Type
	Event    string // one of the Event constants
	Severity Severity
	Outcome  Outcome

	DecisionID string // UUIDv7: Find derives the time of the record from it
	BatchID    string // "batch_decision_id"
	Path       string

	Subject       string
	Action        string
	Resource      string
	Tenant        string
	Organization  string
	Session       string
	Device        string
	Location      string
	ClientIP      string
	UserAgent     string
	RequestedBy   string
	Edge          string
	CorrelationID string
	TraceID       string

	Input        []byte
	Result       []byte
	Undefined    bool // "undefined": true beside a null result
	ErrorCode    string
	ErrorMessage string // with ErrorCode: "error": {"code", "message"}
	Reasons      []byte // JSON array
	Trust        []byte // JSON object
	RiskScore    *float64
	Bundles      []byte // JSON object: name to revision
	Strict       bool   // built-in errors were strict, which a replay must know
	Duration     time.Duration
	ND           []byte   // results of non-deterministic built-ins
	Erased       []string // JSON pointers of what masking removed
	Masked       []string // JSON pointers of what masking replaced

	OldValues      []byte
	NewValues      []byte
	AffectedFields []string
	ApprovalID     string
	Frameworks     []string
	Message        string
	Details        []byte // JSON object of system and administrative events
}

// validate checks the closed vocabularies. The JSON of decisions comes from our
// own encoder and is not parsed again.
func (r *Record) validate() error {
	switch {
	case !r.Type.Valid():
		return fmt.Errorf("type %q: %w", r.Type, ErrRecord)
	case !KnownEvent(r.Event):
		return fmt.Errorf("event %q: %w", r.Event, ErrRecord)
	case !r.Severity.Valid():
		return fmt.Errorf("severity %q: %w", r.Severity, ErrRecord)
	case !r.Outcome.Valid():
		return fmt.Errorf("outcome %q: %w", r.Outcome, ErrRecord)
	}
	return nil
}

// Receipt tells where a record stands in the log.
type Receipt struct {
	Seq  uint64
	Leaf chain.Hash
	Time time.Time
}
