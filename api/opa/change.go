package opa

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxFields bounds the paths that one record names; a longer patch is known by
// its digest.
const maxFields = 64

// msgWritesDisabled tells how writes would be possible.
const msgWritesDisabled = "writes of data and policies are off (api.policy_writes)"

// change describes a write for the log. The values stand in it by size and
// digest: a document may be larger than any record.
type change struct {
	event    string // of package audit
	action   string // put, patch or delete
	resource string // data:/path or policy:id
	fields   []string
	old, new []byte // nil: there is none, or it is not known
}

// fingerprint is what a record keeps of a value.
type fingerprint struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func digest(b []byte) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	sum := sha256.Sum256(b)
	return json.Marshal(fingerprint{Bytes: len(b), SHA256: hex.EncodeToString(sum[:])})
}

// ifWritable refuses writes while the configuration does not allow them.
func (s *Server) ifWritable(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.options.PolicyWrites {
			s.replyErrorV1(w, r, http.StatusForbidden, types.NewErrorV1(CodeWritesDisabled, "%s", msgWritesDisabled))
			return
		}
		next(w, r)
	}
}

// write changes the snapshot by fn. The change is recorded when everything is
// known to be right and before it takes effect: what was acknowledged is in the
// log, and what could not be recorded has not happened. A record without effect
// is possible only when the process ends between the two, and then the memory
// that it speaks of is gone as well.
func (s *Server) write(r *http.Request, c *change, fn func(*eval.Draft) error) error {
	_, err := s.pdp.Engine().WriteThen(fn, func(next *eval.Snapshot) error {
		return s.record(r, c, next)
	})
	return err
}

// record appends the administrative record of a change.
func (s *Server) record(r *http.Request, c *change, next *eval.Snapshot) error {
	rec := &audit.Record{
		Type: audit.TypeAdministrative, Event: c.event,
		Severity: audit.SeverityMedium, Outcome: audit.OutcomeSuccess,
		Action: c.action, Resource: c.resource, Edge: Edge,
		AffectedFields: c.fields, Bundles: next.RevisionsJSON(),
		Message: "a write through OPA's API",
	}
	signRecord(rec, r)
	if len(rec.AffectedFields) > maxFields {
		rec.AffectedFields = rec.AffectedFields[:maxFields]
	}
	var err error
	if rec.OldValues, err = digest(c.old); err != nil {
		return fmt.Errorf("digest of old value: %w", err)
	}
	if rec.NewValues, err = digest(c.new); err != nil {
		return fmt.Errorf("digest of new value: %w", err)
	}
	if _, err := s.recorder.Append(r.Context(), rec); err != nil {
		if errors.Is(err, audit.ErrUnavailable) {
			return fmt.Errorf("record the write: %w", err)
		}
		return fmt.Errorf("record the write: %w: %w", audit.ErrUnavailable, err)
	}
	return nil
}
