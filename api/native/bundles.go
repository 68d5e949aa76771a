package native

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/bundles"
)

// mountBundles adds the routes of bundles.
func (s *Server) mountBundles(r chi.Router, require Require) {
	named := func(r *http.Request) string { return chi.URLParam(r, "name") }
	route := func(method, pattern string, class api.Class, name func(*http.Request) string, h http.HandlerFunc) {
		r.With(require(api.Route{Class: class, Handler: "api/v1", Bundle: name})).Method(method, pattern, h)
	}
	route(http.MethodGet, "/api/v1/bundles", api.ClassBundleRead, nil, s.bundleList)
	route(http.MethodGet, "/api/v1/activations", api.ClassBundleRead, nil, s.activationList)
	route(http.MethodPost, "/api/v1/activations", api.ClassBundleWrite, nil, s.activate)

	const one = "/api/v1/bundles/{name}"
	route(http.MethodPut, one, api.ClassBundleWrite, named, s.push)
	route(http.MethodGet, one, api.ClassBundleRead, named, s.bundle)
	route(http.MethodPost, one+"/rollback", api.ClassBundleWrite, named, s.rollback)
	route(http.MethodGet, one+"/diff", api.ClassBundleRead, named, s.bundleDiff)
	route(http.MethodGet, one+"/revisions", api.ClassBundleRead, named, s.revisionList)
	route(http.MethodGet, one+"/revisions/{rev}", api.ClassBundleRead, named, s.revision)
	route(http.MethodPost, one+"/revisions/{rev}/stage", api.ClassBundleWrite, named, s.stage)
	route(http.MethodGet, one+"/stage", api.ClassBundleRead, named, s.staged)
	route(http.MethodDelete, one+"/stage", api.ClassBundleWrite, named, s.unstage)
	route(http.MethodPost, one+"/stage/promote", api.ClassBundleWrite, named, s.promote)
	route(http.MethodGet, one+"/revisions/{rev}/archive", api.ClassBundleRead, named, s.archive)
	if s.o.Replayer != nil {
		route(http.MethodPost, one+"/revisions/{rev}/replay", api.ClassBundleRead, named, s.replay)
	}
}

// param is a part of the path, decoded once.
func param(r *http.Request, name string) string {
	value := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return value
	}
	if plain, err := url.PathUnescape(value); err == nil {
		return plain
	}
	return value
}

// push answers PUT /api/v1/bundles/{name}.
func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	if bad := otherParameter(r, "activate", "dry_run"); bad != nil {
		s.changeRefused(w, r, "push", refusal{http.StatusBadRequest, bundles.CodeRequest, bad.detail, bad.field})
		return
	}
	activate, ok := s.pushFlag(w, r, "activate", true)
	if !ok {
		return
	}
	dryRun, ok := s.pushFlag(w, r, "dry_run", false)
	if !ok {
		return
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		s.changeRefused(w, r, "push", refusal{http.StatusUnsupportedMediaType, "unsupported_coding", "the body is the tarball itself, without Content-Encoding", "Content-Encoding"})
		return
	}
	none := strings.TrimSpace(strings.Join(r.Header.Values("If-None-Match"), ","))
	if none != "" && none != "*" {
		s.changeRefused(w, r, "push", refusal{http.StatusBadRequest, bundles.CodeRequest, "If-None-Match is *, that no revision is active, or absent", "If-None-Match"})
		return
	}
	body := &patientBody{Reader: r.Body, w: w}
	result, err := s.o.Bundles.Push(r.Context(), bundles.PushRequest{
		Name: param(r, "name"), Body: body, ContentDigest: r.Header.Get("Content-Digest"),
		IfMatch: bundles.ParseETags(r.Header.Values("If-Match")), IfNone: none != "",
		Keep: !activate, DryRun: dryRun, By: originOf(r),
	})
	if err != nil {
		_, _ = io.Copy(io.Discard, body) // who is still sending would not see the answer
		s.bundleError(w, r, err, "push bundle")
		return
	}
	if result.ETag != "" && result.Active {
		w.Header().Set("ETag", result.ETag)
	}
	s.reply(w, result)
}

// patientBody takes the limit off the time to read once all is read: gates may
// take longer than a body may.
type patientBody struct {
	io.Reader
	w http.ResponseWriter
}

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{}) // not every writer can
	}
	return n, err
}

// pushFlag reads a parameter of a push that is true or false.
func (s *Server) pushFlag(w http.ResponseWriter, r *http.Request, name string, byDefault bool) (value, ok bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return byDefault, true
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		s.changeRefused(w, r, "push", refusal{http.StatusBadRequest, bundles.CodeRequest, name + " is true or false", name})
		return false, false
	}
	return value, true
}

// rollback answers POST /api/v1/bundles/{name}/rollback.
func (s *Server) rollback(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Revision string `json:"revision"`
	}
	if !s.decodeChange(w, r, &ask, "rollback") {
		return
	}
	done, err := s.o.Bundles.Rollback(r.Context(), bundles.RollbackRequest{
		Name: param(r, "name"), Revision: ask.Revision, By: originOf(r),
		IfMatch: bundles.ParseETags(r.Header.Values("If-Match")),
	})
	if err != nil {
		s.bundleError(w, r, err, "roll back")
		return
	}
	s.reply(w, done)
}

// activate answers POST /api/v1/activations.
func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Bundles map[string]*string `json:"bundles"`
	}
	if !s.decodeChange(w, r, &ask, "activate") {
		return
	}
	done, err := s.o.Bundles.Activate(r.Context(), bundles.ActivationRequest{Bundles: ask.Bundles, By: originOf(r)})
	if err != nil {
		s.bundleError(w, r, err, "activate")
		return
	}
	s.reply(w, done)
}

// activationList answers GET /api/v1/activations.
func (s *Server) activationList(w http.ResponseWriter, r *http.Request) {
	list, err := s.o.Bundles.History(r.Context())
	if err != nil {
		s.bundleError(w, r, err, "list activations")
		return
	}
	s.reply(w, map[string]any{"activations": list})
}
