package api

import "net/http"

// Standing tells whether a request that was let in would be let in now, for
// answers that have no end of their own: a token is revoked or ends, so does a
// certificate, and settings and the caller policy change. The refusal is
// recorded as those at the door are; nil: it would, or nobody waits for it any
// more. It may be called beside the handler, and not once that has returned.
func Standing(r *http.Request) *Error {
	req := FromContext(r.Context())
	if req == nil || req.gate == nil {
		return nil
	}
	again := *req // what the handler reads stays as it is
	challenge, refused := req.gate.check(r, &again, req.rule, req.bundle)
	if refused == nil || r.Context().Err() != nil { // the caller policy is cut off by the latter
		return nil
	}
	if req.gate.o.Refusals != nil {
		req.gate.o.Refusals.Record(r.Context(), refusalOf(r, req, refused))
	}
	told := *refused
	told.challenge = challenge
	return &told
}
