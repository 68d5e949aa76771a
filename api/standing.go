package api

import "net/http"

// Standing tells whether a request that was let in would be let in now, for
// answers that have no end of their own: a token is revoked or ends, so does a
// certificate, and settings and the caller policy change. The refusal is
// recorded as those at the door are; nil: it would. It may be called beside the
// handler, and not once that has returned.
func Standing(r *http.Request) *Error {
	req := FromContext(r.Context())
	if req == nil || req.gate == nil {
		return nil
	}
	again := *req // what the handler reads stays as it is
	_, err := req.gate.check(r, &again, req.rule, req.bundle)
	if err != nil && req.gate.o.Refusals != nil {
		req.gate.o.Refusals.Record(r.Context(), refusalOf(r, req, err))
	}
	return err
}
