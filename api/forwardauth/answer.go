package forwardauth

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"golang.org/x/net/http/httpguts"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// What the answer tells about the check. The subject is there in every answer,
// empty when nobody is known, so that a gateway that copies it onto the request
// overwrites what the client sent under that name.
const (
	headerDecision = "X-Decision-Id"
	headerSubject  = "X-Verdict-Subject"
)

const (
	codeUndefined   = "undefined_decision"
	codeResult      = "result_invalid"
	codeEvaluation  = "evaluation_error"
	codeUnavailable = "audit_unavailable"

	defaultRetry = time.Second
)

// exchange is a check with what came of it.
type exchange struct {
	check    *httpcheck.Check
	decision *pdp.Decision // nil when there is none
	fault    *pdp.Fault    // nil when the check could be read
	err      error
}

// answer writes 200, 401, 403 or 503, and 400 for a check that names no path.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, x *exchange) {
	h := w.Header()
	h[headerSubject] = []string{httpcheck.Subject(x.check)}
	if x.decision != nil {
		h[headerDecision] = []string{x.decision.ID}
	}
	switch {
	case x.decision == nil:
		s.unavailable(w, r, x.err)
	case x.fault != nil:
		status := http.StatusForbidden
		switch x.fault.Code {
		case codeNoPath:
			status = http.StatusBadRequest
		case httpcheck.CodeToken:
			status = http.StatusUnauthorized
			h.Set("WWW-Authenticate", httpcheck.Challenge)
		}
		api.WriteProblem(w, r, &api.Error{Status: status, Code: x.fault.Code, Message: x.fault.Message})
	case x.err != nil:
		if stale, ok := errors.AsType[*eval.StaleError](x.err); ok {
			undecided(w, r, eval.CodeStale, stale.Error())
			return
		}
		undecided(w, r, codeEvaluation, "the policy could not be evaluated")
	case x.decision.Value == nil:
		undecided(w, r, codeUndefined, "the decision is undefined")
	default:
		s.result(w, r, x, x.decision.Value)
	}
}

// unavailable answers a check that has no decision.
func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if !errors.Is(err, pdp.ErrUnrecorded) {
		s.o.Logger.Error().Err(err).Msg("a check failed")
		undecided(w, r, api.CodeInternal, "internal error")
		return
	}
	retry := defaultRetry
	if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
		retry = max(retry, unavailable.RetryAfter)
	}
	w.Header().Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	undecided(w, r, codeUnavailable, "the decision could not be recorded")
}

func undecided(w http.ResponseWriter, r *http.Request, code, message string) {
	api.WriteProblem(w, r, &api.Error{Status: http.StatusServiceUnavailable, Code: code, Message: message})
}

// result writes what the policy said.
func (s *Server) result(w http.ResponseWriter, r *http.Request, x *exchange, v ast.Value) {
	result, err := httpcheck.ParseResult(v)
	if err != nil {
		undecided(w, r, codeResult, err.Error())
		return
	}
	h := w.Header()
	status := http.StatusOK
	if !result.Allowed {
		status = denial(result, x.check)
		if h.Set("Content-Type", "text/plain; charset=utf-8"); status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", `Bearer realm="verdict"`)
		}
	}
	if !addHeaders(h, result.Headers) || !addHeaders(h, result.ResponseHeaders) {
		undecided(w, r, codeResult, "a header of the result is not one of HTTP")
		return
	}
	w.WriteHeader(status)
	if !result.Allowed {
		_, _ = w.Write([]byte(result.Body)) // the gateway may be gone
	}
}

// denial is 401 or 403: as the policy says, or by whether authentication could
// help.
func denial(r *httpcheck.Result, c *httpcheck.Check) int {
	switch {
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden:
		return r.Status
	case credential(c):
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// addHeaders puts a policy's headers on the answer, the first of a name instead
// of what stands there. What frames the answer or names the decision is not the
// policy's to say. It tells whether all of them are headers.
func addHeaders(h http.Header, pairs []httpcheck.Pair) bool {
	set := map[string]bool{}
	for _, p := range pairs {
		if !httpguts.ValidHeaderFieldName(p.Name) || !httpguts.ValidHeaderFieldValue(p.Value) {
			return false
		}
		name := http.CanonicalHeaderKey(p.Name)
		switch name {
		case "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Trailer", "Te", "Keep-Alive", headerDecision, headerSubject:
			continue
		}
		if !set[name] {
			h.Del(name)
			set[name] = true
		}
		h.Add(name, p.Value)
	}
	return true
}

// writeRefusal writes what is refused before a check is made, with a status that
// gateways take for what it is.
func writeRefusal(w http.ResponseWriter, r *http.Request, e *api.Error) {
	refusal := *e
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable, http.StatusNotFound:
	case http.StatusInternalServerError:
		refusal.Status = http.StatusServiceUnavailable
	default: // a body that is too large or too slow
		refusal.Status = http.StatusForbidden
	}
	api.WriteProblem(w, r, &refusal)
}
