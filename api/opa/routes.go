package opa

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
)

// hotPrefix is the path of the decisions that do not go through the router.
const hotPrefix = "/v1/data/"

// routes takes the routes of the API; an http.ServeMux does.
type routes interface {
	Handle(pattern string, h http.Handler)
}

// table is the router of the API. What it answers with 405 names the methods of
// the path (RFC 9110, section 15.5.6).
type table struct {
	mux     *http.ServeMux
	methods map[string][]string // by path; complete before a request comes
}

func newTable() *table { return &table{mux: http.NewServeMux(), methods: map[string][]string{}} }

// Handle implements routes. A pattern without a method is for the methods that
// the path does not have.
func (t *table) Handle(pattern string, h http.Handler) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "", pattern
	} else {
		t.methods[path] = append(t.methods[path], method)
	}
	t.mux.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if method == "" || r.Method == http.MethodHead {
			w.Header().Set("Allow", strings.Join(t.methods[path], ", "))
		}
		h.ServeHTTP(w, r)
	}))
}

// patterns are routes by their names alone.
type patterns []string

// Handle implements routes.
func (p *patterns) Handle(pattern string, _ http.Handler) { *p = append(*p, pattern) }

// Patterns lists the routes as http.ServeMux writes them, each with its method.
func (s *Server) Patterns(require Require) []string {
	var all patterns
	s.routeAll(&all, require)
	return all
}

// Mount puts the API behind everything else that a router has: what no other
// route takes is OPA's, or is answered with 404.
func (s *Server) Mount(r chi.Router, require Require) { r.NotFound(s.Handler(require).ServeHTTP) }

// MountDiagnostic puts on a router what a diagnostic listener shows: health and
// metrics.
func (s *Server) MountDiagnostic(r chi.Router, require Require) {
	t := newTable()
	s.routeHealth(t, require)
	r.NotFound(s.guard(require, t.mux).ServeHTTP)
}

// Handler returns the API's routes.
func (s *Server) Handler(require Require) http.Handler {
	t := newTable()
	s.routeAll(t, require)
	for _, pattern := range []string{
		"/v0/data", "/v0/data/{path...}", "/v1/data", "/v1/data/{path...}",
		"/v1/batch/data", "/v1/batch/data/{path...}", "/v1/policies", "/v1/policies/{path...}",
		"/v1/query", "/v1/query/{path...}",
	} {
		t.Handle(pattern, orthodox(methodNotAllowed))
	}
	// OPA redirects it to the path with a slash, and that back.
	t.mux.Handle("GET /v1/compile", orthodox(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		methodNotAllowed(w, r)
	}))
	hot := s.guarded(require, api.ClassDecide, "v1/data", s.explained(s.dataPost))
	guarded := s.guard(require, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && isPlain(r) {
			hot.ServeHTTP(w, r)
			return
		}
		t.mux.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if compressible(r) {
			s.vary(w.Header())
		}
		guarded.ServeHTTP(w, r)
	})
}

func (s *Server) routeAll(mux routes, require Require) {
	s.routeHealth(mux, require)
	s.routeDecisions(mux, require)
	s.routeWrites(mux, require)
	s.routeQuestions(mux, require)
	s.route(mux, require, api.ClassStatus, "v1/config", s.config, "GET /v1/config")
	s.route(mux, require, api.ClassStatus, "v1/status", s.status, "GET /v1/status")
	s.route(mux, require, api.ClassQuery, "index", s.index, "GET /{$}")
}

func (s *Server) routeHealth(mux routes, require Require) {
	s.route(mux, require, api.ClassHealth, "health", s.health, "GET /health")
	s.route(mux, require, api.ClassHealth, "health", s.healthPolicy, "GET /health/{path...}")
	if s.options.Metrics != nil {
		guard := require(s.routeOf(api.ClassMetrics, "metrics"))
		mux.Handle("GET /metrics", guard(s.options.Metrics))
		mux.Handle("GET /metrics/alloc_bytes", guard(http.HandlerFunc(allocBytes)))
	}
}

func (s *Server) routeDecisions(mux routes, require Require) {
	decide := func(label string, h http.HandlerFunc, patterns ...string) {
		s.route(mux, require, api.ClassDecide, label, h, patterns...)
	}
	decide("v0/data", s.v0Post, "POST /v0/data", "POST /v0/data/{path...}")
	decide("v1/data", s.explained(s.dataPost), "POST /v1/data", "POST /v1/data/{path...}")
	decide("v1/data", s.explained(s.dataGet), "GET /v1/data", "GET /v1/data/{path...}")
	decide("v1/batch/data", s.batchPost, "POST /v1/batch/data", "POST /v1/batch/data/{path...}")
	decide("index", s.defaultPost, "POST /{$}")
}

func (s *Server) routeQuestions(mux routes, require Require) {
	s.route(mux, require, api.ClassQuery, "v1/query", s.explained(s.queryGet), "GET /v1/query")
	s.route(mux, require, api.ClassQuery, "v1/query", s.explained(s.queryPost), "POST /v1/query")
	s.route(mux, require, api.ClassQuery, "v1/compile", s.explained(s.compilePost), "POST /v1/compile")
	s.route(mux, require, api.ClassDecide, "v1/compile", s.compileFilters,
		"POST /v1/compile/{path...}", "GET /v1/compile/{path...}")
}

func (s *Server) routeWrites(mux routes, require Require) {
	data := func(h http.HandlerFunc, patterns ...string) {
		s.route(mux, require, api.ClassDataWrite, "v1/data", s.ifWritable(h), patterns...)
	}
	data(s.dataPut, "PUT /v1/data", "PUT /v1/data/{path...}")
	data(s.dataPatch, "PATCH /v1/data", "PATCH /v1/data/{path...}")
	data(s.dataDelete, "DELETE /v1/data/{path...}")
	policies := func(class api.Class, h http.HandlerFunc, pattern string) {
		s.route(mux, require, class, "v1/policies", h, pattern)
	}
	policies(api.ClassPolicyRead, s.policyList, "GET /v1/policies")
	policies(api.ClassPolicyRead, s.policyGet, "GET /v1/policies/{path...}")
	policies(api.ClassPolicyWrite, s.ifWritable(s.policyPut), "PUT /v1/policies/{path...}")
	policies(api.ClassPolicyWrite, s.ifWritable(s.policyDelete), "DELETE /v1/policies/{path...}")
}

func (s *Server) route(mux routes, require Require, class api.Class, label string, h http.HandlerFunc, patterns ...string) {
	wrapped := s.guarded(require, class, label, h)
	for _, pattern := range patterns {
		mux.Handle(pattern, wrapped)
	}
}

func (s *Server) guarded(require Require, class api.Class, label string, h http.HandlerFunc) http.Handler {
	return require(s.routeOf(class, label))(orthodox(h))
}

func (s *Server) routeOf(class api.Class, label string) api.Route {
	return api.Route{Class: class, Handler: label, Error: WriteAPIError, Admitted: s.admission != nil}
}

// guard puts OPA's own modes, where they are on, in front of all routes, also
// of those that do not exist.
func (s *Server) guard(require Require, routes http.Handler) http.Handler {
	if s.admission == nil {
		return routes
	}
	rt := api.Route{Handler: "authz", Error: WriteAPIError, Admission: s.admission}
	return orthodox(require(rt)(routes).ServeHTTP)
}

// orthodox answers HEAD and paths that end in a slash as OPA does.
func orthodox(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case path != "/" && strings.HasSuffix(path, "/"):
			w.Header().Del("Allow")
			http.Redirect(w, r, strings.TrimSuffix(path, "/"), http.StatusMovedPermanently)
		default:
			next(w, r)
		}
	})
}

func methodNotAllowed(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusMethodNotAllowed)
}

// isPlain tells whether the router would pass the path to the data handler as
// it is: nothing to clean, nothing encoded, no redirect.
func isPlain(r *http.Request) bool {
	path := r.URL.Path
	return len(path) > len(hotPrefix) && strings.HasPrefix(path, hotPrefix) && r.URL.RawPath == "" &&
		path[len(path)-1] != '/' && !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

// pathBelow returns the part of the request's path behind its first n
// segments, still percent-encoded, so that %2F stays inside its segment.
func pathBelow(r *http.Request, n int) string {
	path := r.URL.EscapedPath()
	for range n + 1 {
		i := strings.IndexByte(path, '/')
		if i < 0 {
			return ""
		}
		path = path[i+1:]
	}
	return path
}
