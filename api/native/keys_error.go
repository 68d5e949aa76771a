package native

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/escrow"
)

const (
	keysRetry     = 5 * time.Second // when nothing better is known
	keyBusyDetail = "another node is rotating the key or retiring versions of it"
)

// keyProblem is what an error of keys is answered with.
type keyProblem struct {
	is     error
	status int
	code   string // empty: the text of is
	detail string // empty: the error
	field  string
}

// keyProblems is the one place where errors of keys become statuses.
func keyProblems() []keyProblem {
	return []keyProblem{
		{is: keys.ErrKeyLost, status: http.StatusConflict, code: "key_lost"},
		{is: keys.ErrKeyUnknown, status: http.StatusNotFound, detail: "there is no such key", field: "id"},
		{is: keys.ErrVersionDisallowed, status: http.StatusUnprocessableEntity, field: "version"},
		{is: keys.ErrHeld, status: http.StatusConflict},
		{is: keys.ErrBusy, status: http.StatusConflict, detail: keyBusyDetail},
		{is: keys.ErrKeyPresent, status: http.StatusConflict, detail: "the key is not lost"},
		{is: keys.ErrNoEscrow, status: http.StatusConflict},
		{is: keys.ErrKeyMismatch, status: http.StatusConflict},
		{is: keys.ErrUnsupported, status: http.StatusUnprocessableEntity},
		{is: ErrNoMaster, status: http.StatusConflict, code: "master_key_elsewhere", detail: "the master key is not in a file that verdict writes: put the new key before the old one where it is, and start again"},
		{is: escrow.ErrShare, status: http.StatusUnprocessableEntity, field: "shares"},
		{is: escrow.ErrSamePrincipal, status: http.StatusForbidden},
		{is: escrow.ErrRelated, status: http.StatusForbidden},
		{is: escrow.ErrNone, status: http.StatusNotFound, detail: "nothing of the key is in escrow"},
		{is: escrow.ErrNoRecovery, status: http.StatusNotFound, detail: "nobody has given shares for the key"},
		{is: escrow.ErrTooMany, status: http.StatusServiceUnavailable},
		{is: escrow.ErrPackage, status: http.StatusConflict},
	}
}

// keyError answers an error of the key ring.
func (s *Server) keyError(w http.ResponseWriter, r *http.Request, err error, doing string) {
	if unavailable, ok := errors.AsType[*audit.UnavailableError](err); ok {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(unavailable.RetryAfter.Seconds()))))
		fail(w, http.StatusServiceUnavailable, "audit_unavailable", "nothing has changed, since it could not be recorded", "")
		return
	}
	for _, p := range keyProblems() {
		if !errors.Is(err, p.is) {
			continue
		}
		code, detail := p.code, p.detail
		if code == "" {
			code = p.is.Error()
		}
		if detail == "" {
			detail = err.Error()
		}
		if p.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", strconv.Itoa(int(keysRetry.Seconds())))
		}
		fail(w, p.status, code, detail, p.field)
		return
	}
	if errors.Is(err, keys.ErrUnavailable) {
		s.keysUnavailable(w, err, doing)
		return
	}
	if known := api.AsError(err); known.Code != api.CodeInternal {
		api.WriteProblem(w, r, known)
		return
	}
	s.internal(w, err, doing)
}

// keysUnavailable answers that the holder of the keys cannot be used now.
func (s *Server) keysUnavailable(w http.ResponseWriter, err error, doing string) {
	s.o.Logger.Warn().Err(err).Msg(doing)
	detail, wait := "the keys cannot be used now", keysRetry
	if unavailable, ok := errors.AsType[*keys.UnavailableError](err); ok {
		detail += ": " + string(unavailable.Reason)
		wait = max(unavailable.RetryAfter, time.Second)
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
	fail(w, http.StatusServiceUnavailable, keys.ErrUnavailable.Error(), detail, "")
}
