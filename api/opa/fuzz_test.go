package opa_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/opa"
)

// sound checks what holds for every answer: a status that OPA knows, and a body
// that is JSON, of OPA's shape when it is an error.
func sound(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if strings.Contains(w.Body.String(), "internal error") {
		t.Fatalf("an error that nobody expected: %s", w.Body)
	}
	switch w.Code {
	case http.StatusOK, http.StatusNoContent, http.StatusNotModified, http.StatusMultiStatus, http.StatusBadRequest,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusInternalServerError,
		http.StatusMovedPermanently, http.StatusTemporaryRedirect:
	default:
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if w.Header().Get("Content-Type") != "application/json" {
		return
	}
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil && w.Code != http.StatusOK {
		t.Fatalf("body of %d: %v: %s", w.Code, err, w.Body)
	}
	if w.Code >= 400 && w.Code != http.StatusMultiStatus && v["responses"] == nil && (v["code"] == nil || v["message"] == nil) && v["error"] == nil {
		t.Fatalf("shape of %d: %s", w.Code, w.Body)
	}
}

func FuzzBody(f *testing.F) {
	s := newStand(f, opa.Options{PolicyWrites: true})
	s.must(f, 200, "PUT", "/v1/policies/lab", lab)
	for _, p := range bodyProbes() {
		if !p.chunked {
			f.Add(p.target, p.body, strings.TrimPrefix(strings.Join(p.headers, ""), "Content-Type: "), "")
		}
	}
	f.Add("/v1/data/lab/echo", gzipped(f, []byte(`{"input":1}`)), "", "gzip")
	f.Add("/v1/batch/data/lab/echo", `{"inputs":{"a":1},"common_input":{}}`, "", "")
	f.Fuzz(func(t *testing.T, target, body, contentType, encoding string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(u.Path, "/v") || strings.Contains(contentType+encoding, "\n") {
			return
		}
		for _, method := range []string{http.MethodPost, http.MethodPatch} {
			r := httptest.NewRequest(method, "/", strings.NewReader(body))
			r.URL = u
			r.Header.Set("Authorization", bearer)
			r.Header.Set("Content-Type", contentType)
			r.Header.Set("Content-Encoding", encoding)
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			sound(t, w)
		}
	})
}

func FuzzParameters(f *testing.F) {
	s := newStand(f, opa.Options{PolicyWrites: true})
	s.must(f, 200, "PUT", "/v1/policies/lab", lab)
	for i, p := range append(pathProbes(), parameterProbes()...) {
		if i%4 != 0 {
			continue // seeds run with every test: the rest is found soon enough
		}
		path, query, _ := strings.Cut(p.target, "?")
		f.Add(path, query)
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		u.RawQuery = query
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := httptest.NewRequest(method, "/", strings.NewReader(`{"input":{"user":"alice"}}`))
			r.URL = u
			r.Header.Set("Authorization", bearer)
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			sound(t, w)
		}
	})
}
