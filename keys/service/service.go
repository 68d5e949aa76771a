// Package service encrypts and opens values for callers: single ones, batches
// and the fields of JSON documents. Whether values may be opened is a decision
// of the policy, recorded before a key is used. It counts re-encryption jobs
// too, which keep the old versions of a key from being retired.
//
// docs/encryption.md describes it from the outside.
package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/pdp"
)

// DecisionPath is the decision that is asked before values are opened.
const DecisionPath = "verdict/keys/decision"

// Edge names the service in the records of its decisions.
const Edge = "keys"

// MaxItems is the number of values in one call, and of fields in one document.
const MaxItems = 10_000

var (
	// ErrSealed is returned when a value to encrypt is a ciphertext already.
	ErrSealed = errors.New("already_encrypted")
	// ErrNotJSON is returned when a field opens to what is no JSON, since it was
	// not encrypted as a field.
	ErrNotJSON = errors.New("field_not_json")
	// ErrClass is returned when a field has another classification than the
	// caller says.
	ErrClass = errors.New("classification_mismatch")
	// ErrOverlap is returned when two patterns name one value, or one inside
	// another.
	ErrOverlap = errors.New("fields_overlap")
	// ErrTooMany is returned for more than MaxItems fields.
	ErrTooMany = errors.New("too_many_fields")
)

// Decider is the decision point. A decision that it returns is recorded
// durably; pdp.PDP is one.
type Decider interface {
	Decide(ctx context.Context, q *pdp.Query) (*pdp.Decision, error)
}

// Options are what a Service can do without. The zero value is the default.
type Options struct {
	// Timeout bounds the use of keys in one call; 0: the context alone does.
	Timeout time.Duration
	// Now is the clock of jobs; nil: time.Now.
	Now func() time.Time
}

// Service is safe for use by many goroutines.
type Service struct {
	ring    *keys.Ring
	decider Decider
	o       Options
	metrics *metrics
}

// New returns a service over a ring, whose decisions decider makes.
func New(ring *keys.Ring, decider Decider, o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{ring: ring, decider: decider, o: o, metrics: newMetrics()}
}

// Asker is who asks, and on whose behalf.
type Asker struct {
	// Caller, its Kind and Scopes, as the policy gets them.
	Caller, Kind string
	Scopes       []string

	ClientIP, UserAgent, CorrelationID, TraceID string

	// Subject on whose behalf the caller asks, as AuthZEN has it; nil: the
	// caller itself.
	Subject ast.Value
	// Facts about the moment, the context of the question; nil: none.
	Facts ast.Value
}

func (a *Asker) by(decision string) keys.By {
	return keys.By{
		Caller: a.Caller, ClientIP: a.ClientIP, UserAgent: a.UserAgent, Edge: Edge,
		CorrelationID: a.CorrelationID, TraceID: a.TraceID, DecisionID: decision,
	}
}

// FieldError says which field of a document is wrong. Nothing of the document
// was given out.
type FieldError struct {
	Pointer string
	Err     error
}

// Error names the field and what is wrong; it quotes no value.
func (e *FieldError) Error() string { return fmt.Sprintf("field %q: %v", e.Pointer, e.Err) }

// Unwrap gives what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// bounded gives ctx the time that keys may take.
func (s *Service) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.o.Timeout <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.o.Timeout)
}

// inTime makes the end of the service's own time an unavailable key; parent is
// the context of the call.
func inTime(parent context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && parent.Err() == nil && !errors.Is(err, keys.ErrUnavailable) {
		return &keys.UnavailableError{Reason: keys.ReasonTimeout, RetryAfter: time.Second}
	}
	return err
}

// Encrypt encrypts values and gives one result for each, in their order; Err of
// one may be ErrSealed too.
func (s *Service) Encrypt(ctx context.Context, a *Asker, values []keys.Value) ([]keys.Encrypted, error) {
	results := make([]keys.Encrypted, len(values))
	sound, at := make([]keys.Value, 0, len(values)), make([]int, 0, len(values))
	for i, v := range values {
		if sealed(v.Data) {
			results[i].Err = ErrSealed
			continue
		}
		sound, at = append(sound, v), append(at, i)
	}
	limited, cancel := s.bounded(ctx)
	defer cancel()
	got, err := s.ring.Encrypt(limited, a.by(""), sound)
	if err != nil {
		return nil, inTime(ctx, err)
	}
	for n, i := range at {
		results[i] = got[n]
		results[i].Err = inTime(ctx, got[n].Err)
	}
	s.metrics.count("encrypt", len(values), func(i int) (keys.Class, error) { return values[i].Class, results[i].Err })
	return results, nil
}

// sealed tells whether a value is a ciphertext of this format.
func sealed(data []byte) bool {
	if len(data) < len(keys.Prefix) || string(data[:len(keys.Prefix)]) != keys.Prefix {
		return false
	}
	_, err := keys.Inspect(string(data))
	return err == nil
}

// Opened is what a decision let be opened.
type Opened struct {
	DecisionID string
	Results    []keys.Decrypted // in the order of the ciphertexts
}

// Decrypt decides whether the values may be opened, and opens them: a
// *DeniedError when they may not, pdp.ErrUnrecorded when the decision could not
// be recorded. A key is used only when the decision is durable.
func (s *Service) Decrypt(ctx context.Context, a *Asker, items []keys.Ciphertext) (*Opened, error) {
	id, err := s.decide(ctx, a, &question{action: "decrypt", items: items})
	if err != nil {
		return nil, err
	}
	results, err := s.open(ctx, a, id, items)
	if err != nil {
		return nil, err
	}
	return &Opened{DecisionID: id, Results: results}, nil
}

// open uses the keys, after the decision.
func (s *Service) open(ctx context.Context, a *Asker, id string, items []keys.Ciphertext) ([]keys.Decrypted, error) {
	limited, cancel := s.bounded(ctx)
	defer cancel()
	results, err := s.ring.Decrypt(limited, a.by(id), items)
	if err != nil {
		return nil, inTime(ctx, err)
	}
	for i := range results {
		results[i].Err = inTime(ctx, results[i].Err)
	}
	s.metrics.count("decrypt", len(items), func(i int) (keys.Class, error) { return results[i].Class, results[i].Err })
	return results, nil
}

// Reencrypted is what a decision let be encrypted anew.
type Reencrypted struct {
	DecisionID string
	Results    []keys.Encrypted // in the order of the items
}

// Reencrypt decides whether the values may be encrypted anew, as Decrypt does,
// and gives the new ciphertexts. Plaintexts do not leave it.
func (s *Service) Reencrypt(ctx context.Context, a *Asker, items []keys.Reencryption) (*Reencrypted, error) {
	q := &question{action: "reencrypt"}
	for i := range items {
		q.items = append(q.items, items[i].Ciphertext)
		q.to = append(q.to, items[i].Class)
	}
	id, err := s.decide(ctx, a, q)
	if err != nil {
		return nil, err
	}
	limited, cancel := s.bounded(ctx)
	defer cancel()
	results, err := s.ring.Reencrypt(limited, a.by(id), items)
	if err != nil {
		return nil, inTime(ctx, err)
	}
	for i := range results {
		results[i].Err = inTime(ctx, results[i].Err)
	}
	s.metrics.count("reencrypt", len(items), func(i int) (keys.Class, error) { return q.class(i), results[i].Err })
	return &Reencrypted{DecisionID: id, Results: results}, nil
}

// Rule says how the values that a pattern names are classified.
type Rule struct {
	Pattern jsondoc.Pattern
	Class   keys.Class
	// Optional: the values may be absent and, when they are opened, not
	// encrypted.
	Optional bool
}
