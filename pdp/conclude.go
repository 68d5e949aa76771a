package pdp

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Granted reads a result as a decision: true or false themselves, or an object
// whose member allow or decision is a boolean. ok is false for any other result,
// and for an object whose booleans contradict one another.
func (p *PDP) Granted(result ast.Value) (granted, ok bool) {
	switch v := result.(type) {
	case ast.Boolean:
		return bool(v), true
	case ast.Object:
		allow, hasAllow := member(v, p.names.allow).(ast.Boolean)
		decision, hasDecision := member(v, p.names.decision).(ast.Boolean)
		allowed, hasAllowed := member(v, p.names.allowed).(ast.Boolean) // what records read
		switch {
		case hasAllow && hasDecision && allow != decision:
			return false, false
		case hasAllow:
			granted, ok = bool(allow), true
		default:
			granted, ok = bool(decision), hasDecision
		}
		if hasAllowed && bool(allowed) != granted {
			return false, false
		}
	}
	return granted, ok
}

// Conclusion is an answer made of many evaluations, which are recorded as one.
type Conclusion struct {
	Value ast.Value // the result in the log; nil with Err
	// Err is why there is no answer, and Code names it; an empty Code leaves that
	// to the error.
	Err     error
	Code    string
	Took    time.Duration
	Details []byte // JSON object: what the record is about, since it is no single decision
}

// Conclude records an answer that the caller has put together from evaluations
// of q.Snapshot, which must be set, and returns it with its id and receipt. The
// input of q stands in the record as the question. Errors wrap ErrUnrecorded.
func (p *PDP) Conclude(ctx context.Context, q *Query, c *Conclusion) (*Decision, error) {
	now := p.options.Now()
	id, err := p.ids.next(now)
	if err != nil {
		return nil, fmt.Errorf("%w: make decision id: %w", ErrUnrecorded, err)
	}
	d := &Decision{ID: id, Value: c.Value, Snapshot: q.Snapshot, pdp: p, scratch: p.scratch.Get().(*scratch)}
	err = p.fill(ctx, q, d, c.Err, now, c.Took)
	if err == nil {
		r := &d.scratch.record
		r.Details = c.Details
		if c.Err != nil && c.Code != "" {
			r.ErrorCode = c.Code
		}
		d.Receipt, err = p.recorder.Append(ctx, r)
	}
	if err != nil {
		d.Release()
		p.metrics.unrecorded.Inc()
		return nil, fmt.Errorf("%w: %w", ErrUnrecorded, err)
	}
	p.metrics.decisions.WithLabelValues(q.Edge, string(d.scratch.record.Outcome)).Inc()
	return d, nil
}
