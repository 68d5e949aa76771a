package pdp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// errorHidden stands in a record for the message of a failure, which may quote a
// value that is masked.
const errorHidden = "not kept, since the input holds masked values"

// maxScratch is the largest buffer that is kept for the next decision.
const maxScratch = 1 << 20

// scratch is the memory of one decision: the bytes of its input, result and
// what else is encoded, and the record that refers to them.
type scratch struct {
	buf    []byte
	record audit.Record
}

func (s *scratch) release(p *PDP) {
	if cap(s.buf) > maxScratch {
		return
	}
	s.buf = s.buf[:0]
	s.record = audit.Record{}
	p.scratch.Put(s)
}

// encode appends v to the buffer and returns the bytes that were appended.
// They stay valid while the scratch is used, even when the buffer grows.
func (s *scratch) encode(v ast.Value) ([]byte, error) {
	start := len(s.buf)
	buf, err := eval.AppendJSON(s.buf, v)
	if err != nil {
		return nil, err
	}
	s.buf = buf
	return buf[start:len(buf):len(buf)], nil
}

// encodeMasked is encode with the values of masked keys hidden; hidden collects
// where, below prefix.
func (s *scratch) encodeMasked(v ast.Value, keys mask.Keys, prefix string, hidden *[]string) ([]byte, error) {
	start := len(s.buf)
	buf, err := eval.AppendMasked(s.buf, v, keys.Match, func(pointer string) {
		*hidden = append(*hidden, prefix+pointer)
	})
	if err != nil {
		return nil, err
	}
	s.buf = buf
	return buf[start:len(buf):len(buf)], nil
}

// fill writes the record of a decision and the encoded answer.
func (p *PDP) fill(ctx context.Context, q *Query, d *Decision, failure error, now time.Time, took time.Duration) error {
	s := d.scratch
	r := &s.record
	*r = audit.Record{
		Type: audit.TypeDecision, DecisionID: d.ID, BatchID: q.BatchID, Path: q.Path,
		ClientIP: q.ClientIP, UserAgent: q.UserAgent, RequestedBy: q.Caller, Edge: q.Edge,
		CorrelationID: q.CorrelationID, TraceID: q.TraceID,
		Bundles: d.Snapshot.RevisionsJSON(), Strict: d.Result.Strict, Duration: took,
		Undefined: d.Value == nil && failure == nil, Details: q.Details,
	}
	d.Allowed = p.names.allows(d.Value)
	if p.classify(r, d.Value, d.Allowed, failure); q.Ask != nil && failure == nil {
		r.Event, r.Severity, r.Outcome = audit.EventDecisionEvaluated, audit.SeverityInfo, audit.OutcomeSuccess
	}
	if q.previewOf != nil {
		r.Event, r.Severity = audit.EventDecisionPreviewed, audit.SeverityInfo
	}
	if failure != nil {
		r.ErrorCode, r.ErrorMessage = errorText(failure)
		if stale, ok := errors.AsType[*eval.StaleError](failure); ok {
			p.metrics.stale.Inc()
			r.Details = withMember(r.Details, staleMember(stale))
		}
	}
	if err := p.fillDocuments(ctx, q, d, now); err != nil {
		return err
	}
	if failure != nil && len(r.Masked)+len(r.Erased) > 0 && r.ErrorCode != eval.CodeStale && !denies(failure) {
		r.ErrorMessage = errorHidden
	}
	return p.fillAnswer(s, d)
}

// fillDocuments encodes the input, the result and the non-deterministic
// results as the log may keep them.
func (p *PDP) fillDocuments(ctx context.Context, q *Query, d *Decision, now time.Time) (err error) {
	s, r := d.scratch, &d.scratch.record
	docs := documents{input: q.Input, result: d.Value}
	if d.Result.ND != nil {
		docs.nd = d.Result.ND
	}
	docs = p.applyMasks(ctx, q, d, now, docs)
	p.names.describe(r, docs.input)
	if docs.input != nil {
		if err := p.fillInput(s, q.Copies, docs.input); err != nil {
			return fmt.Errorf("encode input: %w", err)
		}
	}
	if len(r.Masked)+len(r.Erased) > 0 {
		docs.nd = withoutArguments(docs.nd, &r.Erased)
		if q.previewOf != nil && docs.result != nil { // a policy that is tried may have copied what is hidden
			docs.result, r.Erased = nil, append(r.Erased, "/result")
		}
	}
	if docs.nd != nil {
		if r.ND, err = s.encodeMasked(docs.nd, p.options.MaskKeys, "/nd_builtin_cache", &r.Masked); err != nil {
			return fmt.Errorf("encode non-deterministic results: %w", err)
		}
	}
	if docs.result == nil {
		return nil
	}
	shown := len(r.Masked)
	if r.Result, err = s.encodeMasked(docs.result, p.options.MaskKeys, "/result", &r.Masked); err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if len(r.Masked) == shown && !docs.changed {
		d.JSON = r.Result // nothing is hidden: the answer is the same bytes
	}
	return p.fillResult(s, docs.result)
}

// fillInput encodes the input. What is hidden of a part of it is hidden in its
// copies.
func (p *PDP) fillInput(s *scratch, copies []Copy, input ast.Value) (err error) {
	r := &s.record
	start, masked := len(s.buf), r.Masked
	if r.Input, err = s.encodeMasked(input, p.options.MaskKeys, "/input", &r.Masked); err != nil {
		return err
	}
	var places []*ast.Term
	for _, c := range copies {
		within := func(place string) bool {
			rest, ok := strings.CutPrefix(place, c.Of)
			return ok && (rest == "" || rest[0] == '/')
		}
		if c.Of == "" || slices.ContainsFunc(r.Masked, within) || slices.ContainsFunc(r.Erased, within) {
			for _, at := range c.At {
				places = append(places, ast.StringTerm(at))
			}
		}
	}
	if len(places) == 0 {
		return nil
	}
	rules, err := mask.ParseRules(ast.NewArray(places...))
	if err != nil {
		return err
	}
	rest, erased, _, err := mask.Apply(rules, ast.NewObject(ast.Item(ast.StringTerm("input"), ast.NewTerm(input))))
	if err != nil || len(erased) == 0 {
		return err
	}
	obj, _ := rest.(ast.Object)
	s.buf, r.Masked, r.Erased = s.buf[:start], masked, append(r.Erased, erased...)
	r.Input, err = s.encodeMasked(member(obj, p.names.input), p.options.MaskKeys, "/input", &r.Masked)
	return err
}

// fillAnswer encodes the answer, unless the record's bytes serve.
func (p *PDP) fillAnswer(s *scratch, d *Decision) (err error) {
	if d.Value == nil || d.JSON != nil {
		return nil
	}
	if d.JSON, err = s.encode(d.Value); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return nil
}

// fillResult copies from a result, as the log may keep it, what the record
// tells beside it. What is hidden there is hidden here; the record names the
// place once.
func (p *PDP) fillResult(s *scratch, result ast.Value) (err error) {
	obj, ok := result.(ast.Object)
	if !ok {
		return nil
	}
	var named []string
	if reasons, ok := member(obj, p.names.reasons).(*ast.Array); ok {
		if s.record.Reasons, err = s.encodeMasked(reasons, p.options.MaskKeys, "", &named); err != nil {
			return fmt.Errorf("encode reasons: %w", err)
		}
	}
	if trust, ok := member(obj, p.names.trust).(ast.Object); ok {
		if s.record.Trust, err = s.encodeMasked(trust, p.options.MaskKeys, "", &named); err != nil {
			return fmt.Errorf("encode trust: %w", err)
		}
		if risk, ok := member(trust, p.names.risk).(ast.Number); ok {
			if f, ok := risk.Float64(); ok {
				s.record.RiskScore = &f
			}
		}
	}
	return nil
}

// classify sets event, severity and outcome. A result that is neither a boolean
// nor says whether it allows is an answer, not a permission.
func (p *PDP) classify(r *audit.Record, value ast.Value, allowed bool, failure error) {
	switch {
	case denies(failure):
		r.Event, r.Severity, r.Outcome = audit.EventPermissionDenied, audit.SeverityLow, audit.OutcomeFailure
	case failure != nil:
		r.Event, r.Severity, r.Outcome = audit.EventDecisionError, audit.SeverityHigh, audit.OutcomeError
	case allowed:
		r.Event, r.Severity, r.Outcome = audit.EventPermissionGranted, audit.SeverityInfo, audit.OutcomeSuccess
	case value == nil || p.names.decides(value):
		r.Event, r.Severity, r.Outcome = audit.EventPermissionDenied, audit.SeverityLow, audit.OutcomeFailure
	default:
		r.Event, r.Severity, r.Outcome = audit.EventDecisionEvaluated, audit.SeverityInfo, audit.OutcomeSuccess
	}
}

// denies tells whether a failure is a fault that is an answer.
func denies(failure error) bool {
	f, ok := errors.AsType[*Fault](failure)
	return ok && f.Denies
}

func errorText(err error) (code, message string) {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.Code, f.Message
	}
	if stale, ok := errors.AsType[*eval.StaleError](err); ok {
		return eval.CodeStale, stale.Error()
	}
	if code = eval.ErrorCode(err); code == "" {
		code = eval.OtherCode
	}
	return code, err.Error()
}
