package authzen

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

const (
	// defaultRetryAfter is used when the log does not say when to come back.
	defaultRetryAfter = time.Second
	// serverBuffer is the size up to which net/http buffers an answer and gives
	// it a Content-Length by itself.
	serverBuffer = 2048
)

// WriteAPIError writes in this protocol's shape what is refused before a handler
// is reached.
func WriteAPIError(w http.ResponseWriter, r *http.Request, e *api.Error) {
	echoID(w, r)
	writeError(w, e.Status, e.Message)
}

// writeError writes a status and a message, which is the whole body.
func writeError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(quote(message), '\n')) // the client may be gone
}

// reply writes an answer.
func (s *Server) reply(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h["Content-Type"] = s.contentJSON
	if len(body) >= serverBuffer {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	_, _ = w.Write(body) // the client may be gone
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	status, message := s.classify(w.Header(), err)
	writeError(w, status, message)
}

// classify finds the status and message of an error. It is the only place that
// does, and sets Retry-After where the client should come back.
func (s *Server) classify(h http.Header, err error) (status int, message string) {
	if request, ok := errors.AsType[*requestError](err); ok {
		return request.status, request.message
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		h.Set("Connection", "close") // the rest of the body is not read
		return e.Status, e.Message
	}
	switch {
	case errors.Is(err, pdp.ErrUnrecorded), errors.Is(err, audit.ErrUnavailable):
		retry, message := defaultRetryAfter, "audit_unavailable: the audit log cannot take the record"
		if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
			retry = max(retry, unavailable.RetryAfter)
			message += ": " + string(unavailable.Reason)
		}
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retry.Seconds()))))
		return http.StatusServiceUnavailable, message
	case errors.Is(err, pdp.ErrBatchTooLarge):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, errResult):
		return http.StatusInternalServerError, errResult.Error()
	}
	if stale, ok := errors.AsType[*eval.StaleError](err); ok {
		return http.StatusServiceUnavailable, eval.CodeStale + ": " + stale.Error()
	}
	if status, message, ok := classifySearch(h, err); ok {
		return status, message
	}
	if message, ok := evaluationError(err); ok {
		return http.StatusInternalServerError, message
	}
	s.options.Logger.Error().Err(err).Msg("request failed")
	return http.StatusInternalServerError, "internal error"
}

// evaluationError names a failure of the policy, whose text is in the record.
func evaluationError(err error) (message string, ok bool) {
	switch code := eval.ErrorCode(err); {
	case code != "":
		return "the policy could not be evaluated: " + code, true
	case errors.Is(err, eval.ErrPath):
		return "authzen.path cannot be asked: " + err.Error(), true
	}
	return "", false
}

func classifySearch(h http.Header, err error) (status int, message string, ok bool) {
	if _, ok := errors.AsType[*search.LimitError](err); ok {
		return http.StatusBadRequest, err.Error() + " (authzen.search_limit); ask for pages with page.limit", true
	}
	if _, ok := errors.AsType[*search.TimeoutError](err); ok {
		h.Set("Retry-After", "1")
		return http.StatusServiceUnavailable, err.Error() + " (authzen.search_timeout); ask for pages with page.limit", true
	}
	if candidate, ok := errors.AsType[*search.CandidateError](err); ok {
		message, known := evaluationError(candidate.Err)
		if !known {
			message = errResult.Error()
		}
		return http.StatusInternalServerError, "candidate " + string(quote(candidate.Key)) + ": " + message, true
	}
	if errors.Is(err, search.ErrData) {
		return http.StatusInternalServerError, err.Error(), true
	}
	return 0, "", false
}
