package native_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const door = `package door

default answer := {"allow": false, "reasons": [{"code": "closed"}]}
answer := {"allow": true, "reasons": []} if input.context.key == data.keys[_]
broken := 1 if input.x
broken := 2 if input.x
`

// previewSite is the API over a real decision point.
func previewSite(t testing.TB, previews native.Previewer, l native.Limits) http.Handler {
	t.Helper()
	s := native.New(native.Options{Previews: previews, Limits: l})
	r := chi.NewRouter()
	s.Mount(r, func(rt api.Route) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return h }
	})
	return r
}

func postPreview(t testing.TB, h http.Handler, body string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/preview", strings.NewReader(body)))
	resp := w.Result()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestPreview(t *testing.T) {
	point := pointtest.New(t, door)
	h := previewSite(t, point, native.Limits{})
	for _, tt := range []struct{ name, body, want string }{
		{"nothing changed", `{"path": "door/answer"}`, `"preview":true,"result":{"allow":false,"reasons":[{"code":"closed"}]},"reasons":[{"code":"closed"}],"active":{"result":{"allow":false,"reasons":[{"code":"closed"}]}},"same":true,"overlay":{}}`},
		{"data and facts", `{"path": "door/answer", "input": {}, "overlay": {"data": {"keys": ["k"]}, "facts": {"key": "k"}}}`, `"result":{"allow":true,"reasons":[]},"reasons":[],"active":{"result":{"allow":false,"reasons":[{"code":"closed"}]}},"same":false,"overlay":{}}`},
		{"module", `{"path": "door/answer", "overlay": {"modules": {"m0.rego": "package door\nanswer := 7"}}}`, `"result":7,"active":{"result":{"allow":false,"reasons":[{"code":"closed"}]}},"same":false,"overlay":{"replaced":["m0.rego"]}}`},
		{"module removed", `{"path": "door/answer", "overlay": {"modules": {"m0.rego": null}}}`, `"preview":true,"active":{"result":{"allow":false,"reasons":[{"code":"closed"}]}},"same":false,"overlay":{"removed":["m0.rego"]}}`},
		{"error", `{"path": "door/broken", "input": {"x": 1}}`, `"error":{"code":"eval_conflict_error"`},
		{"explained", `{"path": "door/answer", "explain": "full"}`, `"explanation":["query:1`},
		{"not explained", `{"path": "door/answer", "explain": "off", "strict_builtin_errors": true}`, `"overlay":{}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := postPreview(t, h, tt.body)
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %s, want %s", resp.StatusCode, body, tt.want)
			}
			if rec := point.Record(t, resp.Header.Get("X-Decision-Id")); rec["edge"] != pdp.EdgePreview {
				t.Errorf("record %v", rec)
			}
		})
	}
}

func TestPreviewProblems(t *testing.T) {
	h := previewSite(t, pointtest.New(t, door), native.Limits{Members: 50, Answer: 100})
	for _, tt := range []struct {
		body              string
		status            int
		code, field, want string
	}{
		{``, 400, "invalid_parameter", "", "the body: "},
		{`{`, 400, "invalid_parameter", "", "the body: "},
		{`[]`, 400, "invalid_parameter", "", "must be an object"},
		{`{"path": "a"} {}`, 400, "invalid_parameter", "", "something follows"},
		{`{}`, 400, "invalid_parameter", "path", "such as app/allow"},
		{`{"path": 1}`, 400, "invalid_parameter", "path", "such as app/allow"},
		{`{"path": "a\"b"}`, 400, "invalid_parameter", "path", "such as app/allow"},
		{`{"path": "a", "pat": 1}`, 400, "invalid_parameter", "pat", "no such member"},
		{`{"path": "a", "explain": "all"}`, 400, "invalid_parameter", "explain", "off, notes"},
		{`{"path": "a", "strict_builtin_errors": "yes"}`, 400, "invalid_parameter", "strict_builtin_errors", "true or false"},
		{`{"path": "a", "overlay": []}`, 400, "invalid_parameter", "overlay", "is an object"},
		{`{"path": "a", "overlay": {"data": 1}}`, 400, "invalid_parameter", "overlay.data", "is an object"},
		{`{"path": "a", "overlay": {"facts": []}}`, 400, "invalid_parameter", "overlay.facts", "is an object"},
		{`{"path": "a", "overlay": {"modules": {"a": 1}}}`, 400, "invalid_parameter", "overlay.modules", "its text"},
		{`{"path": "a", "overlay": {"input": {}}}`, 400, "invalid_parameter", "overlay.input", "no such member"},
		{`{"path": "a", "input": [` + strings.Repeat("1,", 60) + `1]}`, 400, "invalid_parameter", "", "the body: "},
		{`{"path": "a", "overlay": {"facts": {"a": 1}}}`, 422, "overlay_invalid", "overlay.facts", "need an input"},
		{`{"path": "a", "overlay": {"modules": {"a": null}}}`, 422, "overlay_invalid", "overlay.modules", "no such module"},
		{`{"path": "a", "overlay": {"modules": {"a": "` + strings.Repeat("#", 300<<10) + `"}}}`, 422, "overlay_too_large", "overlay.modules", "262144"},
		{`{"path": "a", "overlay": {"modules": {"a.rego": "package a\n  p if x"}}}`, 422, "compile_failed", "overlay.modules", `"errors":[{"code":"rego_unsafe_var_error","message":"var x is unsafe","file":"a.rego","row":2,"col":8}]`},
		{`{"path": "a", "overlay": {"data": {"door": {"answer": {"a": 1}}}}}`, 422, "compile_failed", "overlay.data", "conflicting rule for data path door/answer"},
		{`{"path": "a/b", "overlay": {"data": {"a": {"b": "` + strings.Repeat("x", 200) + `"}}}}`, 422, "answer_too_large", "", "limits.answer"},
	} {
		resp, body := postPreview(t, h, tt.body)
		var p struct{ Code, Field string }
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%.80s: %v in %s", tt.body, err, body)
		}
		if resp.StatusCode != tt.status || p.Code != tt.code || p.Field != tt.field || !strings.Contains(body, tt.want) || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.80s: got %d %s", tt.body, resp.StatusCode, body)
		}
	}
}

// TestPreviewStale names a stale bundle as every other protocol does.
func TestPreviewStale(t *testing.T) {
	point := pointtest.New(t)
	keys := &eval.Bundle{Name: "keys", Revision: "1", Roots: []string{"keys"}, Data: ast.MustParseTerm(`{"keys": ["k"]}`).Value.(ast.Object)}
	if _, err := point.Engine().Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{keys}) }); err != nil {
		t.Fatal(err)
	}
	point.Engine().SetExpiry([]eval.Expiring{{Name: "keys", Revision: "1", Confirmed: time.Now().Add(-2 * time.Hour), MaxAge: time.Hour}})
	resp, body := postPreview(t, previewSite(t, point, native.Limits{}), `{"path": "keys"}`)
	if resp.StatusCode != http.StatusOK || strings.Count(body, `"error":{"code":"policy_stale","message":"bundle keys, revision 1, `) != 2 {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

func TestPreviewUnavailable(t *testing.T) {
	lost := pdp.New(pointtest.New(t, door).Engine(), pointtest.Lost{}, pdp.Options{})
	resp, body := postPreview(t, previewSite(t, lost, native.Limits{}), `{"path": "door/answer"}`)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":"audit_unavailable"`) {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

func FuzzPreview(f *testing.F) {
	for _, seed := range []string{
		`{"path": "door/answer", "input": {}, "overlay": {"data": {"keys": ["k"]}, "facts": {"key": "k"}}}`,
		`{"path": "a", "overlay": {"modules": {"m0.rego": "package door", "b": null}}, "explain": "full"}`,
	} {
		f.Add([]byte(seed))
	}
	h := previewSite(f, pdp.New(pointtest.New(f, door).Engine(), pointtest.Nowhere{}, pdp.Options{}), native.Limits{})
	f.Fuzz(func(t *testing.T, body []byte) {
		resp, text := postPreview(t, h, string(body))
		if resp.StatusCode >= http.StatusInternalServerError || !json.Valid([]byte(text)) {
			t.Errorf("got %d %s", resp.StatusCode, text)
		}
	})
}
