package native

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/internal/problem"
)

// maxAsk bounds the JSON of a request about bundles.
const maxAsk = 64 << 10

// decode reads a request's JSON object.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := strictJSON(http.MaxBytesReader(w, r.Body, maxAsk), into); err != nil {
		failBody(w, r, err)
		return false
	}
	return true
}

// decodeChange reads the body of a request to change what is active or tried.
func (s *Server) decodeChange(w http.ResponseWriter, r *http.Request, into any, action string) bool {
	err := strictJSON(http.MaxBytesReader(w, r.Body, maxAsk), into)
	if err == nil {
		return true
	}
	why := refusal{http.StatusBadRequest, bundles.CodeRequest, "the body could not be read", ""}
	if bad, ok := errors.AsType[*fieldError](err); ok {
		why.detail, why.field = bad.detail, bad.field
	} else if known := api.AsError(err); known.Code != api.CodeInternal {
		why = refusal{known.Status, bundles.Code(known.Code), known.Message, ""}
	}
	s.changeRefused(w, r, action, why)
	return false
}

// refusal is why a request is not even handed to the service of bundles.
type refusal struct {
	status        int
	code          bundles.Code
	detail, field string
}

// changeRefused records a refusal as the service records its own, and answers it.
func (s *Server) changeRefused(w http.ResponseWriter, r *http.Request, action string, why refusal) {
	_, _ = io.Copy(io.Discard, r.Body) // who is still sending would not see the answer
	err := s.o.Bundles.Refused(r.Context(), bundles.Attempt{Action: action, Name: param(r, "name"), Revision: param(r, "rev"), By: originOf(r)},
		&bundles.Error{Code: why.code, Message: why.detail})
	if errors.Is(err, audit.ErrUnavailable) {
		s.bundleError(w, r, err, action)
		return
	}
	fail(w, why.status, string(why.code), why.detail, why.field)
}

func (s *Server) reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.internal(w, err, "encode answer")
		return
	}
	writeJSON(w, append(body, '\n'))
}

// bundleError answers an error of the bundle service.
func (s *Server) bundleError(w http.ResponseWriter, r *http.Request, err error, doing string) {
	if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(unavailable.RetryAfter.Seconds()))))
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "nothing has changed, since it could not be recorded", "")
		return
	}
	refused, ok := errors.AsType[*bundles.Error](err)
	if !ok {
		if known := api.AsError(err); known.Code != api.CodeInternal {
			api.WriteProblem(w, r, known)
			return
		}
		if r.Context().Err() == nil {
			s.o.Logger.Error().Err(err).Msg(doing)
		}
		fail(w, http.StatusInternalServerError, "internal_error", "the request could not be served; the server's log says why", "")
		return
	}
	status := bundleStatus(refused.Code)
	if status >= http.StatusInternalServerError {
		s.o.Logger.Error().Err(err).AnErr("cause", refused.Err).Msg(doing)
	}
	if refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(refused.RetryAfter.Seconds()))))
	}
	failBundle(w, status, refused)
}

// bundleStatus is the one place where the codes of bundles become statuses.
func bundleStatus(code bundles.Code) int {
	switch code {
	case bundles.CodeName, bundles.CodeArchive, bundles.CodeDigest, bundles.CodeRequest:
		return http.StatusBadRequest
	case bundles.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case bundles.CodeGate:
		return http.StatusUnprocessableEntity
	case bundles.CodeUsed, bundles.CodePast, bundles.CodeSerial, bundles.CodeStaged:
		return http.StatusConflict
	case bundles.CodePrecondition:
		return http.StatusPreconditionFailed
	case bundles.CodeNotFound:
		return http.StatusNotFound
	case bundles.CodeBusy, bundles.CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// failBundle writes the refusal of a bundle, with the gate and all results.
func failBundle(w http.ResponseWriter, status int, e *bundles.Error) {
	members := map[string]any{"code": e.Code}
	for name, value := range map[string]string{"field": e.Field, "gate": e.Gate, "revision": e.Revision, "digest": e.Digest} {
		if value != "" {
			members[name] = value
		}
	}
	if len(e.Gates) > 0 {
		members["gates"] = e.Gates
	}
	problem.Problem{Status: status, Detail: e.Message, Members: members}.Write(w)
}
