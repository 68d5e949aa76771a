package problem_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/verdict-pdp/verdict/internal/problem"
)

func TestWrite(t *testing.T) {
	for _, tc := range []struct {
		name    string
		problem problem.Problem
		status  int
		body    string
	}{
		{
			"zero value",
			problem.Problem{},
			500,
			`{"type":"about:blank","title":"Internal Server Error","status":500}`,
		},
		{
			"members in order",
			problem.Problem{
				Status: 422, Detail: "name is too long", Instance: "/api/v1/x",
				Members: map[string]any{"field": "/name", "code": "too_long"},
			},
			422,
			`{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"name is too long",` +
				`"instance":"/api/v1/x","code":"too_long","field":"/name"}`,
		},
		{
			"values are escaped",
			problem.Problem{Status: 400, Detail: "</script>\"\n\x00\xff", Members: map[string]any{"a\"b": "<"}},
			400,
			`{"type":"about:blank","title":"Bad Request","status":400,` +
				`"detail":"\u003c/script\u003e\"\n\u0000` + "\\ufffd" + `","a\"b":"\u003c"}`,
		},
		{
			"reserved and impossible members are left out",
			problem.Problem{Status: 409, Members: map[string]any{"status": 200, "type": "x", "f": func() {}, "ok": 1}},
			409,
			`{"type":"about:blank","title":"Conflict","status":409,"ok":1}`,
		},
		{
			"a status that is no error",
			problem.Problem{Status: 200, Type: "/problems/x", Title: "X"},
			500,
			`{"type":"/problems/x","title":"X","status":500}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Retry-After", "1")
			tc.problem.Write(w)
			if w.Code != tc.status {
				t.Errorf("status %d, want %d", w.Code, tc.status)
			}
			if got := w.Body.String(); got != tc.body+"\n" {
				t.Errorf("body %q\nwant %q", got, tc.body+"\n")
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Error("the body is not JSON")
			}
			h := w.Result().Header
			if h.Get("Content-Type") != problem.ContentType || h.Get("Content-Encoding") != "" || h.Get("Retry-After") != "1" {
				t.Errorf("header %v", h)
			}
		})
	}
}

func TestWriteToClosedClient(t *testing.T) {
	problem.Problem{Status: http.StatusNotFound}.Write(brokenWriter{httptest.NewRecorder()})
}

type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, http.ErrHandlerTimeout }
