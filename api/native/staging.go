package native

import (
	"net/http"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// stage answers POST /api/v1/bundles/{name}/revisions/{rev}/stage.
func (s *Server) stage(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Mode    bundles.Mode `json:"mode"`
		Percent float64      `json:"percent"`
		Limits  trial.Limits `json:"limits"`
	}
	if !s.decodeChange(w, r, &ask, "stage") {
		return
	}
	st, err := s.o.Bundles.Try(r.Context(), bundles.StageRequest{
		Name: param(r, "name"), Revision: param(r, "rev"), Mode: ask.Mode, Percent: ask.Percent, Limits: ask.Limits,
		IfMatch: bundles.ParseETags(r.Header.Values("If-Match")), By: originOf(r),
	})
	if err != nil {
		s.bundleError(w, r, err, "stage")
		return
	}
	s.reply(w, st)
}

// staged answers GET /api/v1/bundles/{name}/stage.
func (s *Server) staged(w http.ResponseWriter, r *http.Request) {
	st, err := s.o.Bundles.Staged(param(r, "name"))
	if err != nil {
		s.bundleError(w, r, err, "read what is staged")
		return
	}
	s.reply(w, st)
}

// unstage answers DELETE /api/v1/bundles/{name}/stage.
func (s *Server) unstage(w http.ResponseWriter, r *http.Request) {
	st, err := s.o.Bundles.Unstage(r.Context(), bundles.UnstageRequest{Name: param(r, "name"), By: originOf(r)})
	if err != nil {
		s.bundleError(w, r, err, "end what is staged")
		return
	}
	s.reply(w, st)
}

// promote answers POST /api/v1/bundles/{name}/stage/promote.
func (s *Server) promote(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Revision string `json:"revision"`
	}
	if !s.decodeChange(w, r, &ask, "promote") {
		return
	}
	done, err := s.o.Bundles.Promote(r.Context(), bundles.PromoteRequest{
		Name: param(r, "name"), Revision: ask.Revision, IfMatch: bundles.ParseETags(r.Header.Values("If-Match")), By: originOf(r),
	})
	if err != nil {
		s.bundleError(w, r, err, "promote")
		return
	}
	s.reply(w, done)
}
