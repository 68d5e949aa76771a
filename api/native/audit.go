package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
)

const (
	maxPage      = 1000 // records of one listing
	defaultPage  = 100  // when the caller names no limit
	maxFollowers = 16   // streams that follow the log at one time
)

// decision answers the record of one decision: its bytes as they were stored.
func (s *Server) decision(w http.ResponseWriter, r *http.Request) {
	id := chi.URLParam(r, "id")
	if len(id) > 64 {
		fail(w, http.StatusBadRequest, "invalid_parameter", "a decision id is a UUID of 36 characters", "id")
		return
	}
	seq, rec, err := s.o.Log.Find(r.Context(), id)
	s.answerRecord(w, r, seq, rec, err, fmt.Sprintf("the log holds no decision %q", id))
}

// record answers one record by its sequence number.
func (s *Server) record(w http.ResponseWriter, r *http.Request) {
	seq, ok := number(w, chi.URLParam(r, "seq"), "seq")
	if !ok {
		return
	}
	rec, err := s.o.Log.Record(seq)
	s.answerRecord(w, r, seq, rec, err, fmt.Sprintf("the log holds no record %d; the next one will be %d", seq, s.o.Log.Status().Next))
}

func (s *Server) answerRecord(w http.ResponseWriter, r *http.Request, seq uint64, rec []byte, err error, missing string) {
	switch {
	case errors.Is(err, audit.ErrNotFound):
		fail(w, http.StatusNotFound, "not_found", missing, "")
		return
	case err != nil:
		s.internal(w, err, "read audit record")
		return
	}
	if !s.recordAccess(w, r, map[string]any{"seq": seq}, 1) {
		return
	}
	writeJSON(w, rec)
}

// records answers records as lines of JSON, in order from ?from= on: at most
// ?limit=, or with ?follow=true without end as they are written.
func (s *Server) records(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	next := s.o.Log.Status().Next
	from, limit, follow := uint64(0), uint64(defaultPage), false
	ok := true
	if v := query.Get("from"); v != "" {
		if from, ok = number(w, v, "from"); !ok {
			return
		}
	}
	if v := query.Get("limit"); v != "" {
		if limit, ok = number(w, v, "limit"); !ok {
			return
		}
		if limit == 0 || limit > maxPage {
			fail(w, http.StatusBadRequest, "invalid_parameter", fmt.Sprintf("limit is a number from 1 to %d", maxPage), "limit")
			return
		}
	}
	switch query.Get("follow") {
	case "true":
		follow = true
	case "", "false":
		if from >= next {
			limit = 0
		} else {
			limit = min(limit, next-from)
		}
	default:
		fail(w, http.StatusBadRequest, "invalid_parameter", "follow is true or false", "follow")
		return
	}
	if !s.recordAccess(w, r, map[string]any{"from": from, "follow": follow}, limit) {
		return
	}
	if follow {
		if s.following.Add(1) > maxFollowers {
			s.following.Add(-1)
			busy(w, "too many streams follow the log")
			return
		}
		defer s.following.Add(-1)
	}
	s.stream(w, r, from, limit, follow)
}

// busy refuses what may run only so many times at once.
func busy(w http.ResponseWriter, detail string) {
	w.Header().Set("Retry-After", "10")
	fail(w, http.StatusServiceUnavailable, "overloaded", detail, "")
}

// errStop ends a Tail that has shown enough.
var errStop = errors.New("stop")

func (s *Server) stream(w http.ResponseWriter, r *http.Request, from, limit uint64, follow bool) {
	out := newLines(w)
	defer out.end()
	if follow {
		if err := errors.Join(out.control.Flush(), out.rest()); err != nil { // the header, before there is a record
			return
		}
	}
	if limit == 0 {
		return
	}
	ctx, end := s.streaming(r)
	defer end(nil)
	sent := uint64(0)
	err := s.o.Log.Tail(ctx, from, func(_ uint64, rec []byte) error {
		if err := out.write(rec, follow); err != nil {
			return err
		}
		if sent++; !follow && sent == limit {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return
	}
	if err != nil && !errors.Is(err, errReader) && ctx.Err() == nil {
		s.o.Logger.Error().Err(err).Msg("stream audit records")
	}
	if !follow {
		panic(http.ErrAbortHandler) // a part must not look like the whole
	}
}

// verify verifies the live log and answers lines of JSON: progress, then the
// report as the last line.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	if !s.verifying.CompareAndSwap(false, true) {
		busy(w, "a verification is running already")
		return
	}
	defer s.verifying.Store(false)
	if !s.recordAccess(w, r, map[string]any{"verify": true}, s.o.Log.Status().Next) {
		return
	}
	out := newLines(w)
	defer out.end()
	ctx, end := s.streaming(r)
	defer end(nil)
	line := func(name string, v any) {
		if err := out.object(name, v); err != nil {
			s.ending(end, err, "stream verification")
		}
	}
	report, err := s.o.Verify(ctx, func(progress any) { line("progress", progress) })
	switch why := endedBy(ctx); {
	case err == nil:
		line("report", report)
	case why != "":
		line("error", why)
	case ctx.Err() == nil:
		s.o.Logger.Error().Err(err).Msg("verify audit log")
		line("error", "the log could not be verified; the server's log says why")
	}
}

// recordAccess records that somebody reads the log. When that cannot be
// recorded the reading is refused.
func (s *Server) recordAccess(w http.ResponseWriter, r *http.Request, filter map[string]any, count uint64) bool {
	details, err := json.Marshal(map[string]any{"filter": filter, "count": count})
	if err != nil {
		s.internal(w, err, "encode audit access")
		return false
	}
	rec := &audit.Record{
		Type: audit.TypeDataAccess, Event: audit.EventAuditLogAccess, Severity: audit.SeverityHigh,
		Outcome: audit.OutcomeSuccess, Edge: "native", Path: r.URL.Path, Details: details,
	}
	if x := api.FromContext(r.Context()); x != nil {
		rec.RequestedBy, rec.ClientIP, rec.CorrelationID, rec.TraceID = x.Caller.Name, x.Client.IP(), x.ID, x.TraceID
	}
	_, err = s.o.Log.Append(r.Context(), rec)
	if err == nil {
		return true
	}
	var unavailable *audit.UnavailableError
	if !errors.As(err, &unavailable) {
		s.internal(w, err, "record audit access")
		return false
	}
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(unavailable.RetryAfter.Seconds()))))
	fail(w, http.StatusServiceUnavailable, "audit_unavailable", "the log cannot be read while reading it cannot be recorded", "")
	return false
}

func number(w http.ResponseWriter, text, field string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		fail(w, http.StatusBadRequest, "invalid_parameter", field+" is a whole number, 0 or more", field)
		return 0, false
	}
	return n, true
}
