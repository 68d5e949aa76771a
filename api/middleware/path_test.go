package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api/middleware"
)

func TestPaths(t *testing.T) {
	r := chi.NewRouter()
	show := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Tail", chi.URLParam(r, "*"))
		w.Header().Set("Path", r.URL.EscapedPath())
	})
	r.Method(http.MethodGet, "/", show)
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		r.Method(m, "/v1/data", show)
		r.Method(m, "/v1/data/*", show)
	}
	h := middleware.CleanPath()(r)

	for _, tc := range []struct {
		method, target string
		status         int
		want           string // Location or the tail
	}{
		{"GET", "/v1/data/a/b", 200, "a/b"},
		{"GET", "/v1/data/a%2Fb/c", 200, "a%2Fb/c"},
		{"GET", "/v1/data/a%2fb", 200, "a%2Fb"},
		{"GET", "/v1/d%61ta/x", 200, "x"},
		{"GET", "/v1/d%61ta/a%2Fb", 200, "a%2Fb"},
		{"GET", "/v1/data/a%20b", 200, "a b"},
		{"GET", "/v1/data/%22", 200, `"`},
		{"GET", "/v1/data/a%3Fb%2Fc", 200, "a%3Fb%2Fc"},
		{"GET", "/v1/data/%2E%2E/%2e", 200, "%2E%2E/%2E"},
		{"GET", "/v1/data/%00", 200, "\x00"},
		{"GET", "/v1%2Fdata/x", 404, ""},
		{"GET", "/v1/nope", 404, ""},
		{"GET", "/v1/nope/", 404, ""},
		{"GET", "/v1/data/.hidden", 200, ".hidden"},
		{"PUT", "/v1/data/x", 405, ""},
		{"GET", "/v1/data/", 200, ""},
		{"GET", "/v1/data/a%2Fb/", 200, "a%2Fb/"},
		{"GET", "/v1/data/x%2F", 200, "x%2F"},
		{"POST", "/v1/data/a//b?x=1", 307, "/v1/data/a/b?x=1"},
		{"GET", "/v1/data/a//b%2Fc/", 307, "/v1/data/a/b%2Fc/"},
		{"GET", "/v1/data/../data/./x", 307, "/v1/data/x"},
		{"GET", "//evil.example/", 307, "/evil.example/"},
		{"GET", `/\evil.example//`, 307, "/%5Cevil.example/"},
		{"GET", "/%2Fevil.example/", 404, ""},
		{"GET", "/", 200, ""},
	} {
		t.Run(tc.method+" "+tc.target, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tc.method, tc.target, nil))
			got := w.Header().Get("Location") + w.Header().Get("Tail")
			if w.Code != tc.status || got != tc.want {
				t.Errorf("%d %q, want %d %q", w.Code, got, tc.status, tc.want)
			}
			if w.Code == 405 && w.Body.Len() != 0 {
				t.Errorf("405 with body %q", w.Body)
			}
		})
	}
}

func TestCleanPathLeavesTheRequest(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/d%61ta", nil)
	middleware.CleanPath()(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), r)
	if r.URL.RawPath != "/d%61ta" {
		t.Errorf("RawPath %q", r.URL.RawPath)
	}
}
