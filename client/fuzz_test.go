package client_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/client"
)

type fixed string

// RoundTrip implements http.RoundTripper.
func (f fixed) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(f)))}, nil
}

// FuzzDecision gives any answer: only one whose member decision is true allows,
// and none panics.
func FuzzDecision(f *testing.F) {
	for _, seed := range []string{
		`{"decision": true}`, `{"decision": false, "Decision": true}`, `{"evaluations": [{"decision": true}]}`,
		`{"decision": true, "context": {"obligations": [{"type": "step-up", "properties": {"max_age": 1e300}}], "error": {"status": 400}}}`,
		`{"result": {"allow": true}}`, `{"responses": {"a": {"result": 1}}}`, `{"results": [{}], "page": {"next_token": ""}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c, err := client.New("http://127.0.0.1:1", client.Options{Transport: fixed(body), Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		d, err := c.Authorize(t.Context(), question)
		if err != nil && (d.Allowed || d.ID != "" || d.Context != nil) {
			t.Fatalf("%q: %+v beside %v", body, d, err)
		}
		var exact map[string]any
		if d.Allowed && (json.Unmarshal([]byte(body), &exact) != nil || exact["decision"] != true) {
			t.Fatalf("%q allows", body)
		}
		if step, ok := d.StepUp(); ok && (step.Challenge() == "" || d.Allowed) {
			t.Fatalf("%q: %v", body, step)
		}
		_, _ = c.AuthorizeAll(t.Context(), client.DenyOnFirstDeny, question)
		_, _ = c.QueryAll(t.Context(), "a", map[string]any{"a": 1})
		_, _ = c.HasRole(t.Context(), question, "r")
		for range c.SearchSubjects(t.Context(), question, client.Search{}) {
		}
	})
}
