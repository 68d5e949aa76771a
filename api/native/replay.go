package native

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/pdp/replay"
)

// replayQuestion is the body of a replay. All members may be left out.
type replayQuestion struct {
	From  *time.Time `json:"from"`
	To    *time.Time `json:"to"`
	Limit *int       `json:"limit"`
	Paths []string   `json:"paths"`
	// Detail is how many flips the report lists.
	Detail *int `json:"detail"`
}

// replayAnswer is the outcome of a replay.
type replayAnswer struct {
	Name     string         `json:"name"`
	Revision string         `json:"revision"`
	Digest   string         `json:"digest"`
	SHA256   string         `json:"sha256"` // of the report
	Millis   float64        `json:"duration_ms"`
	Report   *replay.Report `json:"report"`
}

// replay answers POST /api/v1/bundles/{name}/revisions/{rev}/replay: what the
// revision would have decided. Who accepts application/x-ndjson gets lines with
// the progress first.
func (s *Server) replay(w http.ResponseWriter, r *http.Request) {
	q, ok := s.replayRequest(w, r)
	if !ok {
		return
	}
	if !s.replaying.CompareAndSwap(false, true) {
		busy(w, "a replay is running already")
		return
	}
	defer s.replaying.Store(false)
	name := param(r, "name")
	revision, candidate, err := s.o.Bundles.Stage(r.Context(), name, param(r, "rev"))
	if err != nil {
		s.bundleError(w, r, err, "stage revision")
		return
	}
	filter := map[string]any{"replay": name, "revision": revision.Revision, "digest": revision.Digest, "paths": q.Paths}
	for key, at := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !at.IsZero() {
			filter[key] = at
		}
	}
	if !s.recordAccess(w, r, filter, uint64(q.Limit)) {
		return
	}
	ctx, end := s.streaming(r)
	defer end(nil)
	out := &replayStream{s: s, w: w, ctx: ctx, end: end}
	if strings.Contains(r.Header.Get("Accept"), "application/x-ndjson") {
		out.lines = newLines(w)
		defer out.lines.end()
		q.Progress = func(p replay.Progress) { out.line("progress", p) }
	}
	start := time.Now()
	report, err := s.o.Replayer.Run(ctx, candidate, q)
	if err == nil {
		answer := replayAnswer{Name: name, Revision: revision.Revision, Digest: revision.Digest, Report: report, Millis: float64(time.Since(start).Microseconds()) / 1000}
		if answer.SHA256, err = report.Sum(); err == nil {
			out.done(answer)
			return
		}
	}
	out.failed(err)
}

// replayRequest reads the body, which may be empty.
func (s *Server) replayRequest(w http.ResponseWriter, r *http.Request) (q replay.Request, ok bool) {
	var body replayQuestion
	if r.ContentLength != 0 && !decode(w, r, &body) {
		return q, false
	}
	q = replay.Request{Limit: replay.DefaultLimit, Paths: body.Paths}
	if body.From != nil {
		q.From = body.From.UTC()
	}
	if body.To != nil {
		q.To = body.To.UTC()
	}
	if body.Limit != nil {
		if q.Limit = *body.Limit; q.Limit < 1 {
			q.Limit = -1 // none is no limit
		}
	}
	if body.Detail != nil {
		if q.List = *body.Detail; q.List < 1 {
			q.List = -1
		}
	}
	if err := q.Validate(); err != nil {
		fail(w, http.StatusBadRequest, "invalid_parameter", "the body: "+err.Error(), "")
		return q, false
	}
	return q, true
}

// replayStream writes the answer of a replay in the form that was asked for.
type replayStream struct {
	s     *Server
	w     http.ResponseWriter
	ctx   context.Context // of the replay
	end   context.CancelCauseFunc
	lines *lines // nil: one JSON object
}

// line writes a line; a reader that is gone ends the replay.
func (o *replayStream) line(name string, v any) {
	if err := o.lines.object(name, v); err != nil {
		o.s.ending(o.end, err, "stream replay")
	}
}

func (o *replayStream) done(a replayAnswer) {
	if o.lines == nil {
		o.s.reply(o.w, a)
		return
	}
	o.line("result", a)
}

func (o *replayStream) failed(err error) {
	why := endedBy(o.ctx)
	switch {
	case o.lines == nil && why != "":
		fail(o.w, http.StatusServiceUnavailable, "ended", "the decisions were not replayed: "+why, "")
	case why != "":
		o.line("error", why)
	case o.ctx.Err() != nil: // nobody waits for it
	case o.lines == nil && errors.Is(err, replay.ErrRequest):
		fail(o.w, http.StatusBadRequest, "invalid_parameter", "the body: "+err.Error(), "")
	case o.lines == nil:
		o.s.internal(o.w, err, "replay decisions")
	default:
		o.s.o.Logger.Error().Err(err).Msg("replay decisions")
		o.line("error", "the decisions could not be replayed; the server's log says why")
	}
}
