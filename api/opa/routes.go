package opa

import (
	"net"
	"net/http"
	"strings"
)

// hotPrefix is the path of the decisions that do not go through the router.
const hotPrefix = "/v1/data/"

// Handler returns the API's routes. Paths that are not OPA's are answered with
// 404, so it can stand behind everything else that is mounted.
func (s *Server) Handler(guard Guard) http.Handler {
	mux := http.NewServeMux()
	s.routeHealth(mux, guard)
	s.routeDecisions(mux, guard)
	s.routeWrites(mux, guard)
	s.route(mux, guard, ClassStatus, "v1/status", s.status, "GET /v1/status")
	s.route(mux, guard, ClassIndex, "index", s.index, "GET /{$}")
	for _, pattern := range []string{
		"/v0/data", "/v0/data/{path...}", "/v1/data", "/v1/data/{path...}",
		"/v1/batch/data", "/v1/batch/data/{path...}", "/v1/policies", "/v1/policies/{path...}",
	} {
		mux.Handle(pattern, s.metrics.instrument("catchall", orthodox(http.HandlerFunc(methodNotAllowed))))
	}
	hot := s.instrumented(guard, ClassDecide, "v1/data", s.dataPost)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if compressible(r) {
			s.vary(w.Header())
		}
		if r.Method == http.MethodPost && isPlain(r) {
			hot.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Diagnostic returns the routes of a diagnostic listener: health and metrics.
func (s *Server) Diagnostic(guard Guard) http.Handler {
	mux := http.NewServeMux()
	s.routeHealth(mux, guard)
	return mux
}

func (s *Server) routeHealth(mux *http.ServeMux, guard Guard) {
	s.route(mux, guard, ClassHealth, "health", s.health, "GET /health")
	s.route(mux, guard, ClassHealth, "health", s.healthPolicy, "GET /health/{path...}")
	if s.options.Metrics != nil {
		mux.Handle("GET /metrics", guard(ClassMetrics, s.options.Metrics))
		mux.Handle("GET /metrics/alloc_bytes", guard(ClassMetrics, http.HandlerFunc(allocBytes)))
	}
}

func (s *Server) routeDecisions(mux *http.ServeMux, guard Guard) {
	s.route(mux, guard, ClassDecide, "v0/data", s.v0Post, "POST /v0/data", "POST /v0/data/{path...}")
	s.route(mux, guard, ClassDecide, "v1/data", s.dataPost, "POST /v1/data", "POST /v1/data/{path...}")
	s.route(mux, guard, ClassDecide, "v1/data", s.dataGet, "GET /v1/data", "GET /v1/data/{path...}")
	s.route(mux, guard, ClassDecide, "v1/batch/data", s.batchPost, "POST /v1/batch/data", "POST /v1/batch/data/{path...}")
	s.route(mux, guard, ClassDecide, "index", s.defaultPost, "POST /{$}")
}

func (s *Server) routeWrites(mux *http.ServeMux, guard Guard) {
	data := func(h http.HandlerFunc, patterns ...string) {
		s.route(mux, guard, ClassDataWrite, "v1/data", s.ifWritable(h), patterns...)
	}
	data(s.dataPut, "PUT /v1/data", "PUT /v1/data/{path...}")
	data(s.dataPatch, "PATCH /v1/data", "PATCH /v1/data/{path...}")
	data(s.dataDelete, "DELETE /v1/data/{path...}")
	s.route(mux, guard, ClassPoliciesRead, "v1/policies", s.policyList, "GET /v1/policies")
	s.route(mux, guard, ClassPoliciesRead, "v1/policies", s.policyGet, "GET /v1/policies/{path...}")
	s.route(mux, guard, ClassPoliciesWrite, "v1/policies", s.ifWritable(s.policyPut), "PUT /v1/policies/{path...}")
	s.route(mux, guard, ClassPoliciesWrite, "v1/policies", s.ifWritable(s.policyDelete), "DELETE /v1/policies/{path...}")
}

func (s *Server) route(mux *http.ServeMux, guard Guard, class, label string, h http.HandlerFunc, patterns ...string) {
	wrapped := s.instrumented(guard, class, label, h)
	for _, pattern := range patterns {
		mux.Handle(pattern, wrapped)
	}
}

func (s *Server) instrumented(guard Guard, class, label string, h http.HandlerFunc) http.Handler {
	return s.metrics.instrument(label, guard(class, orthodox(h)))
}

// orthodox answers HEAD and paths that end in a slash as OPA does.
func orthodox(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case path != "/" && strings.HasSuffix(path, "/"):
			http.Redirect(w, r, strings.TrimSuffix(path, "/"), http.StatusMovedPermanently)
		default:
			next.ServeHTTP(w, r)
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

func peerIP(remoteAddr string) string {
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		return remoteAddr
	}
	return host
}
