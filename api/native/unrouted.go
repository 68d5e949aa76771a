package native

import (
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
)

// Unrouted is the pattern that takes what no route of /api does: it answers 404,
// or 405 where there is a route for another method.
const Unrouted = "/api/*"

// unrouted answers such a request with a problem, as all errors here.
func unrouted(w http.ResponseWriter, r *http.Request) {
	methods := []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut}
	routes, path := chi.RouteContext(r.Context()).Routes, r.URL.EscapedPath()
	methods = slices.DeleteFunc(methods, func(method string) bool {
		found := routes.Find(chi.NewRouteContext(), method, path)
		return found == "" || found == Unrouted
	})
	if len(methods) == 0 {
		fail(w, http.StatusNotFound, "not_found", "there is no such path; /api/v1/openapi.json has those that there are", "")
		return
	}
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "the methods of this path are "+allowed, "")
}
