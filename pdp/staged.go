package pdp

import (
	"context"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maskedSize is what a decision is taken to have, in bytes, when a policy may have
// removed something from its record.
const maskedSize = 64 << 10

// answered is what a snapshot said to a query.
type answered struct {
	snapshot *eval.Snapshot // the one that said it
	res      eval.Result
	err      error

	active *eval.Snapshot // beside which it was staged
	tried  *eval.Staged   // is staged beside the active snapshot; nil: nothing
	canary bool           // and answered
	failed error          // and failed to, so that the active one answered
}

// ask evaluates the query on the snapshot, or, for those that it has a share of,
// on what is staged beside it.
func (p *PDP) ask(ctx context.Context, q *Query, s *eval.Snapshot, now time.Time) answered {
	a := answered{snapshot: s, active: s}
	st := s.Staged()
	if st == nil || q.Fault != nil || q.Ask != nil {
		a.res, a.err = q.eval(ctx, s, now)
		return a
	}
	a.tried = st
	if st.Share != nil && st.Share.Has(q.Input) {
		if a.canaryAnswers(ctx, q, st, now) {
			return a
		}
	}
	a.res, a.err = q.eval(ctx, s, now)
	return a
}

// canaryAnswers asks what is staged. It is false when that failed in a way that
// the active snapshot may not: a staged policy that is broken must not deny
// anybody what the active one allows, before it is taken back.
func (a *answered) canaryAnswers(ctx context.Context, q *Query, st *eval.Staged, now time.Time) bool {
	res, err := q.eval(ctx, st.Snapshot, now)
	if err != nil && ctx.Err() == nil {
		a.failed = err
		return false
	}
	a.snapshot, a.res, a.err, a.canary = st.Snapshot, res, err, true
	return true
}

// mark marks the record of a decision that the canary had to do with, and keeps
// for who watches it what to tell once the record is appended.
func (a *answered) mark(ctx context.Context, q *Query, d *Decision, now time.Time, took time.Duration) {
	r := &d.scratch.record
	switch {
	case a.canary:
		r.Details = withMember(r.Details, a.tried.Mark)
	case a.failed != nil && !isStale(a.err): // else both are too old, by no fault of the canary's
		code, _ := errorText(a.failed)
		r.Details = withMember(r.Details, []byte(`"canary_failed":`+strconv.Quote(code)))
	}
	if isStale(a.err) || ctx.Err() != nil {
		return // neither was asked, or nobody waits for what was said
	}
	size := len(d.scratch.buf)
	if d.Snapshot.Masks() || a.active.Masks() {
		size = max(size, maskedSize) // the record may have less than there was
	}
	// Who asked for a trace gets it; it would take more memory than all else.
	result := eval.Result{Value: a.res.Value, Strict: a.res.Strict, ND: a.res.ND}
	d.watched = &watched{a.tried.Watcher, eval.Served{
		ID: d.ID, Path: q.Path, Input: q.Input, Size: size, Now: now, Strict: q.Strict,
		Staged: a.canary, Failed: a.failed, Result: result, Err: a.err, Took: took,
	}}
}

// watched is a decision that somebody watches.
type watched struct {
	by     eval.Watcher
	served eval.Served
}

// recorded tells who watches the decision that its record is appended. What
// could not be recorded was not answered, and counts for nothing.
func (d *Decision) recorded(receipt audit.Receipt) {
	d.Receipt = receipt
	if d.watched != nil {
		d.watched.by.Served(&d.watched.served)
		d.watched = nil
	}
}
