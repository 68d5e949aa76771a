package opa

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/server/types"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Codes that OPA does not have.
const (
	// CodeAuditUnavailable: what was asked for could not be recorded, so it was
	// neither answered nor done.
	CodeAuditUnavailable = "audit_unavailable"
	// CodeWritesDisabled: the server takes no writes through this API.
	CodeWritesDisabled = "writes_disabled"
	// CodeBusy: too much of what costs a lot is asked for at once.
	CodeBusy = "busy"
)

// defaultRetryAfter is used when the log does not say when to come back.
const defaultRetryAfter = time.Second

// WriteAPIError writes in OPA's shape what is refused before a handler is
// reached. OPA answers bodies that are too large with 400.
func WriteAPIError(w http.ResponseWriter, _ *http.Request, e *api.Error) {
	status, code, message := e.Status, e.Code, e.Message
	if own, ok := errors.AsType[*types.ErrorV1](e.Cause); ok {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(append(own.Bytes(), '\n')) // the client may be gone
		return
	}
	if code == api.CodeTooLarge {
		status, code = http.StatusBadRequest, types.CodeInvalidParameter
		message = types.MsgDecodingLimitError + ": " + message
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(types.NewErrorV1(code, "%s", message).Bytes(), '\n')) // the client may be gone
}

func retrySeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// replyError writes the answer to an error that came from below.
func (s *Server) replyError(w http.ResponseWriter, r *http.Request, err error) {
	status, e := s.classify(w.Header(), err)
	s.replyErrorV1(w, r, status, e)
}

// badRequest writes an invalid_parameter error.
func (s *Server) badRequest(w http.ResponseWriter, r *http.Request, message string) {
	s.replyErrorV1(w, r, http.StatusBadRequest, types.NewErrorV1(types.CodeInvalidParameter, "%s", message))
}

func (s *Server) replyErrorV1(w http.ResponseWriter, r *http.Request, status int, e *types.ErrorV1) {
	s.reply(w, r, status, append(e.Bytes(), '\n'))
}

// classify finds the status and body of an error. It is the only place that
// does, and sets Retry-After where the client should come back.
func (s *Server) classify(h http.Header, err error) (int, *types.ErrorV1) {
	var (
		owned *eval.OwnedError
		store *storage.Error
		parse ast.Errors
		stale *eval.StaleError
	)
	switch {
	case errors.Is(err, pdp.ErrUnrecorded), errors.Is(err, audit.ErrUnavailable):
		retry := defaultRetryAfter
		var unavailable *audit.UnavailableError
		message := "the audit log cannot take the record"
		if errors.As(err, &unavailable) {
			retry = max(retry, unavailable.RetryAfter)
			message += ": " + string(unavailable.Reason)
		}
		h.Set("Retry-After", retrySeconds(retry))
		return http.StatusServiceUnavailable, types.NewErrorV1(CodeAuditUnavailable, "%s", message)
	case errors.As(err, &stale):
		return http.StatusServiceUnavailable, types.NewErrorV1(eval.CodeStale, "%s", stale.Error())
	case errors.Is(err, pdp.ErrBatchTooLarge):
		return http.StatusBadRequest, types.NewErrorV1(types.CodeInvalidParameter, "%s", err.Error())
	case errors.As(err, &owned):
		return http.StatusBadRequest, types.NewErrorV1(types.CodeInvalidParameter, "%s", owned.Error())
	case eval.ErrorCode(err) != "":
		return http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, types.MsgEvaluationError).WithError(err)
	case errors.As(err, &store):
		return classifyStore(store)
	case errors.Is(err, eval.ErrPath):
		// OPA wraps its own 400 into a 500 here, and clients know it that way.
		return http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%s: %s", types.CodeInvalidParameter, err.Error())
	case errors.As(err, &parse):
		return http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%s", parse.Error())
	}
	s.options.Logger.Error().Err(err).Msg("request failed")
	return http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "internal error")
}

func classifyStore(err *storage.Error) (int, *types.ErrorV1) {
	switch err.Code {
	case storage.WriteConflictErr:
		return http.StatusNotFound, types.NewErrorV1(types.CodeResourceConflict, "%s", err.Error())
	case storage.InvalidPatchErr:
		return http.StatusBadRequest, types.NewErrorV1(types.CodeInvalidParameter, "%s", err.Error())
	case storage.NotFoundErr:
		return http.StatusNotFound, types.NewErrorV1(types.CodeResourceNotFound, "%s", err.Error())
	}
	return http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%s", err.Error())
}
