package opa_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

func TestBadInput(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	wide := func(n int) string { return "[" + strings.Repeat("1,", n-1) + "1]" }
	bomb := gzipped(t, bytes.Repeat([]byte(" "), 8<<20))
	yamlBomb := "a: &a " + strings.Repeat("x", 100_000) + "\ninput: [" + strings.Repeat("*a,", 100_000) + "]\n"
	for _, tc := range []struct {
		name, method, target, body string
		headers                    []string
		status                     int
		message                    string
	}{
		{"depth at the limit", "POST", "/v1/data/b/echo", `{"input":` + deep(64) + `}`, nil, 200, ""},
		{"depth above", "POST", "/v1/data/b/echo", `{"input":` + deep(65) + `}`, nil, 400, "body contains malformed input document: "},
		{"depth 10,000", "POST", "/v1/data/b/echo", `{"input":` + deep(10_000) + `}`, nil, 400, "body contains malformed input document: "},
		{"depth of v0 at the limit", "POST", "/v0/data/b/echo", deep(64), nil, 200, ""},
		{"depth of v0 above", "POST", "/v0/data/b/echo", deep(65), nil, 400, "unexpected parse error for input: "},
		{"depth of a query", "GET", "/v1/data/b/echo?input=" + deep(65), "", nil, 400, "parameter contains malformed input document: "},
		{"depth of a batch at the limit", "POST", "/v1/batch/data/b/echo", `{"inputs":{"a":` + deep(64) + `}}`, nil, 200, ""},
		{"depth of a batch above", "POST", "/v1/batch/data/b/echo", `{"inputs":{"a":` + deep(65) + `}}`, nil, 400, "malformed"},
		{"members at the limit", "POST", "/v1/data/b/echo", `{"input":` + wide(10_000) + `}`, nil, 200, ""},
		{"members above", "POST", "/v1/data/b/echo", `{"input":` + wide(10_001) + `}`, nil, 400, "malformed"},
		{"body above", "POST", "/v1/data/b/echo", `{"input":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 400, "request body too large"},
		{"body of v0 above", "POST", "/v0/data/b/echo", `"` + strings.Repeat("x", 1<<20) + `"`, nil, 400, "request body too large"},
		{"body at the limit", "POST", "/v1/data/b/echo", `{"input":"` + strings.Repeat("x", 1<<20-12) + `"}`, nil, 200, ""},
		{"gzip bomb", "POST", "/v1/data/b/echo", bomb, []string{"Content-Encoding", "gzip"}, 400, "request body too large: decompressed size exceeds limit of 1048576 bytes (limits.request_body)"},
		{"no gzip", "POST", "/v1/data/b/echo", "not gzip at all", []string{"Content-Encoding", "gzip"}, 400, "could not decompress the body: gzip: invalid header"},
		{"no gzip for v0", "POST", "/v0/data/b/echo", "{}", []string{"Content-Encoding", "gzip"}, 400, "could not decompress the body: unexpected EOF"},
		{"no gzip in a batch", "POST", "/v1/batch/data/b/echo", strings.Repeat("x", 99), []string{"Content-Encoding", "gzip"}, 400, "could not decompress"},
		{"empty gzip", "POST", "/v1/data/b/echo", "", []string{"Content-Encoding", "gzip"}, 400, "could not decompress the body: EOF"},
		{"cut gzip", "POST", "/v1/data/b/echo", gzipped(t, []byte(`{"input":1}`))[:20], []string{"Content-Encoding", "gzip"}, 400, "could not decompress the body: unexpected EOF"},
		{"yaml bomb", "POST", "/v1/data/b/echo", yamlBomb, []string{"Content-Type", "application/yaml"}, 400, "document with its aliases exceeds limit"},
		{"yaml that names itself", "POST", "/v1/data/b/echo", "input: &a [*a]\n", []string{"Content-Type", "application/yaml"}, 400, "malformed"},
		{"deep yaml", "POST", "/v1/data/b/echo", "input: " + deep(5000), []string{"Content-Type", "application/yaml"}, 400, "malformed"},
		{"number of 1,000 digits", "POST", "/v0/data/b/echo", strings.Repeat("9", 1000), nil, 200, ""},
		{"number of 10,000 digits", "POST", "/v0/data/b/echo", strings.Repeat("9", 10_000), nil, 400, "malformed"},
		{"NUL in the path", "POST", "/v1/data/a%00b", `{}`, nil, 500, "invalid_parameter: invalid path: failed to parse query"},
		{"NUL in the body", "POST", "/v1/data/b/echo", "\x00", nil, 400, "malformed"},
		{"depth of data", "PUT", "/v1/data/x", deep(65), nil, 400, ""},
		{"depth of a patch", "PATCH", "/v1/data", `[{"op":"add","path":"/x","value":` + deep(65) + `}]`, nil, 400, ""},
		{"much data", "PUT", "/v1/data/x", wide(200_000), nil, 204, ""},
		{"text that is no policy", "PUT", "/v1/policies/x", strings.Repeat("\xff\x00", 1000), nil, 400, "error(s) occurred while compiling module(s)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := s.must(t, tc.status, tc.method, tc.target, tc.body, tc.headers...)
			if !strings.Contains(w.Body.String(), tc.message) {
				t.Errorf("%.300s, want %s", w.Body, tc.message)
			}
			if tc.status == 400 && !strings.HasPrefix(w.Body.String(), "{\n  \"code\": \"invalid_parameter\",\n  \"message\": \"") {
				t.Errorf("shape: %.300s", w.Body)
			}
		})
	}
}

// A body of unknown length is bounded while it is read.
func TestBodyOfUnknownLength(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	for _, tc := range []struct {
		method, target string
		size           int64
	}{
		{"POST", "/v1/data/x", 100 << 20},
		{"POST", "/v0/data/x", 100 << 20},
		{"PUT", "/v1/data/x", 100 << 20},
	} {
		body := &endless{left: tc.size}
		r := httptest.NewRequest(tc.method, tc.target, body)
		r.ContentLength = -1
		r.Header.Set("Authorization", bearer)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "request body too large") {
			t.Errorf("%s %s: %d %s", tc.method, tc.target, w.Code, w.Body)
		}
		if read := tc.size - body.left; read > 65<<20 {
			t.Errorf("%s %s: %d bytes were read", tc.method, tc.target, read)
		}
	}
}

// endless is white space in small pieces.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), 32<<10)
	for i := range n {
		p[i] = ' '
	}
	e.left -= int64(n)
	return n, nil
}

func gzipped(t testing.TB, b []byte) string {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestSetLimits(t *testing.T) {
	s := newStand(t, opa.Options{Limits: opa.Limits{RequestBody: 100, Depth: 2}})
	long := `{"input":"` + strings.Repeat("x", 100) + `"}`
	s.must(t, 400, "POST", "/v1/data/x", long)
	s.must(t, 400, "POST", "/v1/data/x", `{"input":[[[1]]]}`)
	s.api.SetLimits(opa.Limits{})
	s.must(t, 200, "POST", "/v1/data/x", long)
	s.must(t, 200, "POST", "/v1/data/x", `{"input":[[[1]]]}`)
}

func TestWritesDisabled(t *testing.T) {
	s := newStand(t, opa.Options{})
	for _, q := range [][2]string{
		{"PUT", "/v1/data/x"},
		{"PATCH", "/v1/data/x"},
		{"DELETE", "/v1/data/x"},
		{"PUT", "/v1/policies/x"},
		{"DELETE", "/v1/policies/x"},
	} {
		w := s.must(t, 403, q[0], q[1], "{}")
		want := "{\n  \"code\": \"writes_disabled\",\n  \"message\": \"writes of data and policies are off (api.policy_writes)\"\n}\n"
		if w.Body.String() != want {
			t.Errorf("%v: %s", q, w.Body)
		}
	}
	s.must(t, 200, "GET", "/v1/policies", "")
}

// What a bundle owns is not written through the API, nor are the packages of a
// base layer.
func TestOwned(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	module := func(id, text string) *eval.Module {
		m, err := eval.ParseModule(id, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	_, err := s.engine.Write(func(d *eval.Draft) error {
		return d.SetBundles([]*eval.Bundle{
			{Name: "base", Revision: "1", Base: true, Modules: []*eval.Module{module("base/a.rego", "package verdict.a\n\nx := 1\n")}},
			{
				Name: "app", Revision: "7", Roots: []string{"app", "lib/x"},
				Modules: []*eval.Module{module("app/app.rego", "package app\n\nx := data.app.roles\n")},
				Data:    ast.NewObject(ast.Item(ast.StringTerm("app"), ast.ObjectTerm(ast.Item(ast.StringTerm("roles"), ast.StringTerm("r"))))),
			},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, target, body string
		status               int
		message              string
	}{
		{"PUT", "/v1/data/app", `{}`, 400, `path app is owned by bundle \"app\"`},
		{"PUT", "/v1/data/app/roles/x", `{}`, 400, `path app/roles/x is owned by bundle \"app\"`},
		{"PUT", "/v1/data/lib", `{}`, 400, `path lib is owned by bundle \"app\"`},
		{"PUT", "/v1/data/lib/y", `{}`, 204, ``},
		{"PATCH", "/v1/data/app", `[{"op":"add","path":"/k","value":1}]`, 400, `path app/k is owned by bundle`},
		{"DELETE", "/v1/data/app/roles", ``, 400, `path app/roles is owned by bundle`},
		{"PUT", "/v1/data", `{}`, 400, `can't write to document root with bundle roots configured`},
		{"PUT", "/v1/policies/mine", "package app.more\n", 400, `path app/more is owned by bundle`},
		{"PUT", "/v1/policies/app/app.rego", "package other\n", 400, `path app is owned by bundle`},
		{"DELETE", "/v1/policies/app/app.rego", ``, 400, `path app is owned by bundle`},
		{"PUT", "/v1/policies/mine", "package verdict.a\n", 400, `path verdict/a is owned by bundle \"base\"`},
		{"DELETE", "/v1/policies/base/a.rego", ``, 400, `path verdict/a is owned by bundle \"base\"`},
		{"PUT", "/v1/policies/mine", "package mine\n\nx := data.app.x\n", 200, `{}`},
		{"GET", "/v1/data/mine/x?provenance", ``, 200, `"bundles":{"app":{"revision":"7"},"base":{"revision":"1"}}`},
	} {
		w := s.must(t, tc.status, tc.method, tc.target, tc.body)
		if !strings.Contains(w.Body.String(), tc.message) {
			t.Errorf("%s %s: %s", tc.method, tc.target, w.Body)
		}
	}
}

func TestUnhealthy(t *testing.T) {
	sick := http.ErrServerClosed
	s := newStand(t, opa.Options{Healthy: func() error { return sick }, PolicyWrites: true})
	for _, target := range []string{"/health", "/health?bundles", "/health?plugins&exclude-plugin=x"} {
		w := s.must(t, 500, "GET", target, "")
		if got := w.Body.String(); got != "{\"error\":\"http: Server closed\"}\n" {
			t.Errorf("%s: %s", target, got)
		}
	}
	s.must(t, 200, "PUT", "/v1/policies/h", "package system.health\n\nready if input.plugins_ready\n\nlive := true\n")
	s.must(t, 500, "GET", "/health/ready", "")
	s.must(t, 200, "GET", "/health/live", "")
}

// A common input is recorded once for each input: one request of a megabyte
// must not become gigabytes of memory and log.
func TestBatchExpansion(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true, Limits: opa.Limits{RequestBody: 100_000}})
	s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
	body := func(inputs int) string {
		return `{"inputs":{` + strings.Repeat(`"same":{},`, 5) + joined(inputs) + `},"common_input":{"x":"` + strings.Repeat("x", 50_000) + `"}}`
	}
	s.must(t, 200, "POST", "/v1/batch/data/b/allow", body(20))
	w := s.must(t, 400, "POST", "/v1/batch/data/b/allow", body(40))
	if !strings.Contains(w.Body.String(), "exceeds 1600000 bytes (16 times limits.request_body)") {
		t.Errorf("got %s", w.Body)
	}
}

// joined is n members of inputs.
func joined(n int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = `"i` + strconv.Itoa(i) + `":{}`
	}
	return strings.Join(members, ",")
}

// The answers of a batch are all in memory at once.
func TestBatchAnswersAreBounded(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 204, "PUT", "/v1/data/big", `"`+strings.Repeat("x", 4<<20)+`"`)
	s.must(t, 200, "POST", "/v1/batch/data/big", `{"inputs":{`+joined(3)+`}}`)
	w := s.must(t, 400, "POST", "/v1/batch/data/big", `{"inputs":{`+joined(200)+`}}`)
	if !strings.Contains(w.Body.String(), "batch is too large") {
		t.Errorf("got %s", w.Body)
	}
}

// Whoever reaches the server may ask for its health: paths that nobody defines
// are not compiled, and none is kept ready.
func TestHealthOfUnknownPaths(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 200, "PUT", "/v1/policies/h", "package system.health\n\nlive := true\n\ndeep.er := true\n")
	s.must(t, 200, "PUT", "/v1/policies/base", "package base\n\nx := true\n")
	s.must(t, 204, "PUT", "/v1/data/system/health/stored", "true")
	for i := range 50 {
		s.must(t, 500, "GET", "/health/nobody/x"+strconv.Itoa(i), "")
	}
	if kept := s.engine.Active().Prepared(); len(kept) != 0 {
		t.Errorf("queries that are kept ready: %q", kept)
	}
	s.must(t, 200, "GET", "/health/live", "")
	s.must(t, 200, "GET", "/health/deep/er", "")
	s.must(t, 500, "GET", "/health/deep", "") // an object
	s.must(t, 200, "GET", "/health/stored", "")
	s.must(t, 400, "GET", "/health/"+strings.Repeat("a/", 1100)+"a", "")
}

func TestRefusalShape(t *testing.T) {
	w := httptest.NewRecorder()
	opa.WriteAPIError(w, nil, &api.Error{Status: 401, Code: "unauthorized", Message: "no <credential>"})
	want := "{\n  \"code\": \"unauthorized\",\n  \"message\": \"no \\u003ccredential\\u003e\"\n}\n"
	if w.Code != 401 || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestStatus(t *testing.T) {
	s := newStand(t, opa.Options{Status: func() any { return map[string]int{"bundles": 1} }})
	if w := s.must(t, 200, "GET", "/v1/status", ""); w.Body.String() != "{\"result\":{\"bundles\":1}}\n" {
		t.Error(w.Body)
	}
}

func TestAllocBytes(t *testing.T) {
	s := newStand(t, opa.Options{})
	for _, target := range []string{"/metrics/alloc_bytes", "/metrics/alloc_bytes?pretty=true"} {
		w := s.must(t, 200, "GET", target, "")
		if b := w.Body.String(); len(b) < 3 || strings.HasSuffix(target, "true") != strings.HasSuffix(b, "B\n") {
			t.Errorf("%s: %q", target, b)
		}
	}
}
