package opa_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// wireCase is one line of testdata/opa-cases; its README explains the members.
type wireCase struct {
	ID      string        `json:"id"`
	Setup   []wireRequest `json:"setup"`
	Request wireRequest   `json:"request"`
	Expect  struct {
		Status     int               `json:"status"`
		JSON       any               `json:"json"`
		JSONSubset any               `json:"json_subset"`
		Body       *string           `json:"body"`
		BodyRE     string            `json:"body_re"`
		Headers    map[string]string `json:"headers"`
		Absent     []string          `json:"absent"`
	} `json:"expect"`

	namesDecision bool // the check says something about decision_id
}

type wireRequest struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    any               `json:"body"`
	Gzip    bool              `json:"gzip"`
	Status  int               `json:"status"`

	anonymous bool // without a credential where the case names none
}

// wireAnswer is what came back, decompressed.
type wireAnswer struct {
	status int
	header http.Header
	body   []byte
}

func TestCases(t *testing.T) {
	const file = "../../testdata/opa-cases/default.jsonl"
	cases := readCases(t, file)
	if len(cases) < 120 {
		t.Fatalf("%s: %d cases, want all of them", file, len(cases))
	}
	// These cases are those of an OPA that was started without options.
	server := httptest.NewServer(newStand(t, opa.Options{PolicyWrites: true, OmitDecisionID: true}).handler)
	defer server.Close()
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			wireReset(t, server.URL)
			for _, req := range c.Setup {
				a := req.send(t, server.URL)
				fine := a.status/100 == 2 || a.status == http.StatusNotModified
				if req.Status != 0 && a.status != req.Status || req.Status == 0 && !fine {
					t.Fatalf("setup %s %s: status %d: %s", req.Method, req.Path, a.status, a.body)
				}
			}
			a := c.Request.send(t, server.URL)
			if err := c.check(a); err != nil {
				t.Errorf("%v\nanswer: %d %s", err, a.status, a.body)
			}
		})
	}
}

// The cases of servers that were started with something.
func TestProfiles(t *testing.T) {
	for _, profile := range []struct {
		name, bundle string
		options      opa.Options
		cases        int
	}{
		{"authz", "authz", opa.Options{Authentication: opa.AuthenticationToken, Authorization: opa.AuthorizationBasic, PolicyWrites: true}, 3},
		{"bundle", "bundle", opa.Options{PolicyWrites: true}, 8},
	} {
		t.Run(profile.name, func(t *testing.T) {
			const dir = "../../testdata/opa-cases/"
			s := newStand(t, profile.options)
			b, err := bundles.Load(profile.bundle, dir+profile.bundle, bundles.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.engine.Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{b}) }); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(s.handler)
			defer server.Close()
			cases := readCases(t, dir+profile.name+".jsonl")
			if len(cases) != profile.cases {
				t.Fatalf("%d cases, want %d", len(cases), profile.cases)
			}
			for _, c := range cases {
				c.Request.anonymous = profile.name == "authz"
				a := c.Request.send(t, server.URL)
				if err := c.check(a); err != nil {
					t.Errorf("%s: %v\nanswer: %d %s", c.ID, err, a.status, a.body)
				}
			}
		})
	}
}

func readCases(t *testing.T, file string) []wireCase {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []wireCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c wireCase
		var raw struct {
			Expect json.RawMessage `json:"expect"`
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := json.Unmarshal(lines.Bytes(), &raw); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		c.namesDecision = bytes.Contains(raw.Expect, []byte("decision_id"))
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

// send sends the request as its path stands, without following redirects.
func (q wireRequest) send(t testing.TB, base string) wireAnswer {
	t.Helper()
	var body []byte
	headers := http.Header{}
	if q.anonymous {
		headers["Authorization"] = nil
	}
	for k, v := range q.Headers {
		headers.Set(k, v)
	}
	switch b := q.Body.(type) {
	case nil:
	case string:
		body = []byte(b)
	default:
		body, _ = json.Marshal(b) // it came from JSON
		if headers.Get("Content-Type") == "" {
			headers.Set("Content-Type", "application/json")
		}
	}
	if q.Gzip {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		_, _ = z.Write(body)
		_ = z.Close()
		body = buf.Bytes()
		headers.Set("Content-Encoding", "gzip")
	}
	return wireSend(t, base, q.Method, q.Path, headers, body)
}

func wireSend(t testing.TB, base, method, path string, headers http.Header, body []byte) wireAnswer {
	t.Helper()
	r, err := http.NewRequest(method, base, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = headers
	if _, ok := r.Header["Authorization"]; !ok {
		r.Header.Set("Authorization", bearer)
	}
	if r.URL, err = url.Parse(base + path); err != nil {
		t.Fatal(err)
	}
	client := http.Client{
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	a := wireAnswer{status: res.StatusCode, header: res.Header}
	var src io.Reader = res.Body
	if res.Header.Get("Content-Encoding") == "gzip" {
		if src, err = gzip.NewReader(res.Body); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	if a.body, err = io.ReadAll(src); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// wireReset empties a server. Policies that others depend on go in a later round.
func wireReset(t testing.TB, base string) {
	t.Helper()
	for range 3 {
		a := wireSend(t, base, http.MethodGet, "/v1/policies", http.Header{}, nil)
		var list struct {
			Result []struct {
				ID string `json:"id"`
			} `json:"result"`
		}
		if err := json.Unmarshal(a.body, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Result) == 0 {
			break
		}
		for _, p := range list.Result {
			wireSend(t, base, http.MethodDelete, "/v1/policies/"+(&url.URL{Path: p.ID}).EscapedPath(), http.Header{}, nil)
		}
	}
	wireSend(t, base, http.MethodPut, "/v1/data", http.Header{}, []byte("{}"))
}

// check compares an answer with what the case expects.
func (c *wireCase) check(a wireAnswer) error {
	text := string(a.body)
	if !c.namesDecision {
		text = regexp.MustCompile(`\s*"decision_id":\s*"[^"]*",?`).ReplaceAllString(text, "")
	}
	e := &c.Expect
	if a.status != e.Status {
		return fmt.Errorf("status %d, want %d", a.status, e.Status)
	}
	for name, want := range e.Headers {
		if err := match(want, a.header.Get(name), true, "header "+name); err != nil {
			return err
		}
	}
	if e.Body != nil && text != *e.Body {
		return fmt.Errorf("body %q, want %q", text, *e.Body)
	}
	if e.BodyRE != "" && !regexp.MustCompile("(?s)"+e.BodyRE).MatchString(text) {
		return fmt.Errorf("body does not match %s", e.BodyRE)
	}
	if e.JSON == nil && e.JSONSubset == nil && e.Absent == nil {
		return nil
	}
	var got any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if e.JSON != nil {
		if err := match(e.JSON, got, false, ""); err != nil {
			return err
		}
	}
	if e.JSONSubset != nil {
		if err := match(e.JSONSubset, got, true, ""); err != nil {
			return err
		}
	}
	for _, path := range e.Absent {
		if present(got, path) {
			return fmt.Errorf("%s should be absent", path)
		}
	}
	return nil
}

func present(v any, path string) bool {
	for key := range strings.SplitSeq(path, ".") {
		obj, _ := v.(map[string]any)
		var ok bool
		if v, ok = obj[key]; !ok {
			return false
		}
	}
	return true
}

// match compares a value with a pattern.
func match(want, got any, subset bool, path string) error {
	switch want := want.(type) {
	case string:
		return matchText(want, got, path)
	case map[string]any:
		if some, ok := want["__contains__"].([]any); ok && len(want) == 1 {
			return matchSome(some, got, subset, path)
		}
		return matchObject(want, got, subset, path)
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Errorf("%s: %v, want %v", path, got, want)
		}
		for i := range want {
			if err := match(want[i], list[i], subset, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("%s: %v, want %v", path, got, want)
	}
	return nil
}

func matchText(want string, got any, path string) error {
	text, isText := got.(string)
	pattern, isPattern := strings.CutPrefix(want, "__re__:")
	ok := false
	switch {
	case want == "__any__":
		ok = true
	case want == "__num__":
		_, ok = got.(float64)
	case isPattern:
		ok = isText && regexp.MustCompile("(?s)"+pattern).MatchString(text)
	default:
		ok = isText && text == want
	}
	if !ok {
		return fmt.Errorf("%s: %v, want %s", path, got, want)
	}
	return nil
}

func matchObject(want map[string]any, got any, subset bool, path string) error {
	obj, ok := got.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", path, got)
	}
	for k, v := range want {
		member, ok := obj[k]
		if !ok {
			return fmt.Errorf("%s.%s: missing", path, k)
		}
		if err := match(v, member, subset, path+"."+k); err != nil {
			return err
		}
	}
	for k := range obj {
		if _, ok := want[k]; !ok && !subset && (path != "" || k != "decision_id") {
			return fmt.Errorf("%s.%s: not expected", path, k)
		}
	}
	return nil
}

func matchSome(want []any, got any, subset bool, path string) error {
	list, ok := got.([]any)
	if !ok {
		return fmt.Errorf("%s: %v is no array", path, got)
	}
	for _, w := range want {
		if !slices.ContainsFunc(list, func(g any) bool { return match(w, g, subset, path) == nil }) {
			return fmt.Errorf("%s: nothing matches %v", path, w)
		}
	}
	return nil
}
