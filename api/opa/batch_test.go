package opa_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/opa"
)

const batchPolicy = `package b

allow if input.user == "alice"

echo := input

divide := 10 / input.by

clash := 1 if input.bad
clash := 2 if input.bad
clash := 3 if not input.bad
`

type batchAnswer struct {
	ID        string                    `json:"batch_decision_id"`
	Responses map[string]map[string]any `json:"responses"`
	Metrics   map[string]any            `json:"metrics"`
	Warning   map[string]any            `json:"warning"`
}

func TestBatch(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
	for _, tc := range []struct {
		name, target, body string
		status             int
		results            string // the results by id, as JSON
		statuses           string
	}{
		{"all right", "/v1/batch/data/b/echo", `{"inputs":{"a":{"x":1},"b":2,"c":null}}`, 200, `{"a":{"x":1},"b":2,"c":null}`, `{}`},
		{"undefined has no result", "/v1/batch/data/b/allow", `{"inputs":{"a":{"user":"alice"},"b":{"user":"bob"}}}`, 200, `{"a":true}`, `{}`},
		{"mixed", "/v1/batch/data/b/clash", `{"inputs":{"good":{},"bad":{"bad":true}}}`, 207, `{"good":3}`, `{"good":"200","bad":"500"}`},
		{"all failed", "/v1/batch/data/b/clash", `{"inputs":{"x":{"bad":1},"y":{"bad":2}}}`, 500, `{}`, `{}`},
		{"strict", "/v1/batch/data/b/divide?strict-builtin-errors", `{"inputs":{"x":{"by":5},"y":{"by":0}}}`, 207, `{"x":2}`, `{"x":"200","y":"500"}`},
		{"not strict", "/v1/batch/data/b/divide", `{"inputs":{"x":{"by":5},"y":{"by":0}}}`, 200, `{"x":2}`, `{}`},
		{"common input", "/v1/batch/data/b/echo", `{"inputs":{"a":{"u":{"id":2},"l":[3]},"b":{},"c":7},"common_input":{"u":{"id":1,"n":"x"},"l":[1,2],"z":true}}`, 200, `{"a":{"l":[3],"u":{"id":2,"n":"x"},"z":true},"b":{"l":[1,2],"u":{"id":1,"n":"x"},"z":true},"c":7}`, `{}`},
		{"common input that is no object", "/v1/batch/data/b/echo", `{"inputs":{"a":{"u":1}},"common_input":[1]}`, 200, `{"a":{"u":1}}`, `{}`},
		{"object over scalar", "/v1/batch/data/b/echo", `{"inputs":{"a":{"u":{"id":1}}},"common_input":{"u":5}}`, 200, `{"a":{"u":{"id":1}}}`, `{}`},
		{"root", "/v1/batch/data", `{"inputs":{"a":{"user":"alice","by":1}}}`, 200, `{"a":{"b":{"allow":true,"clash":3,"divide":10,"echo":{"user":"alice","by":1}}}}`, `{}`},
		{"yaml", "/v1/batch/data/b/echo", "inputs:\n  a: {x: 1}\n", 200, `{"a":{"x":1}}`, `{}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			contentType := "application/json"
			if tc.name == "yaml" {
				contentType = "application/yaml"
			}
			w := s.must(t, tc.status, "POST", tc.target, tc.body, "Content-Type", contentType)
			var got batchAnswer
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if len(got.ID) != 36 {
				t.Errorf("batch_decision_id %q", got.ID)
			}
			if h := w.Header().Get("X-Decision-Id"); h != got.ID {
				t.Errorf("X-Decision-Id %q, want that of the batch", h)
			}
			results, statuses := map[string]any{}, map[string]any{}
			for id, res := range got.Responses {
				if v, ok := res["result"]; ok {
					results[id] = v
				}
				if v, ok := res["http_status_code"]; ok {
					statuses[id] = v
				}
				if len(res["decision_id"].(string)) != 36 {
					t.Errorf("%s: decision_id %v", id, res["decision_id"])
				}
				if _, failed := res["errors"]; failed && (res["code"] != "internal_error" || res["message"] != "error(s) occurred while evaluating query") {
					t.Errorf("%s: %v", id, res)
				}
			}
			if !sameJSON(t, results, tc.results) {
				t.Errorf("results %v, want %s", results, tc.results)
			}
			if !sameJSON(t, statuses, tc.statuses) {
				t.Errorf("statuses %v, want %s", statuses, tc.statuses)
			}
			if found := s.records(t, got.ID); len(found) != len(got.Responses) {
				t.Errorf("%d records of the batch, want %d", len(found), len(got.Responses))
			}
		})
	}
}

func TestBatchWithoutInputs(t *testing.T) {
	s := newStand(t, opa.Options{})
	for _, body := range []string{``, `{}`, `null`, `{"inputs":null}`, `{"common_input":{}}`} {
		w := s.must(t, 200, "POST", "/v1/batch/data/x", body)
		if !strings.Contains(w.Body.String(), `"warning":{"code":"api_usage_warning","message":"'inputs' key missing from the request"}`) {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
	w := s.must(t, 200, "POST", "/v1/batch/data/x", `{"inputs":{}}`)
	if strings.Contains(w.Body.String(), "warning") {
		t.Errorf("no inputs: %s", w.Body)
	}
	for _, body := range []string{`[]`, `"x"`, `1`, `true`, `{"inputs":[]}`, `{"inputs":"x"}`, `{"inputs":{`, `{"inputs":1}`} {
		w := s.must(t, 400, "POST", "/v1/batch/data/x", body)
		if !strings.Contains(w.Body.String(), `"code": "invalid_parameter"`) {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if w := s.must(t, 405, method, "/v1/batch/data/x", ""); w.Body.Len() != 0 {
			t.Errorf("%s: %s", method, w.Body)
		}
	}
}

func TestBatchObserved(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.must(t, 200, "PUT", "/v1/policies/b", batchPolicy)
	w := s.must(t, 200, "POST", "/v1/batch/data/b/echo?metrics&provenance&explain=full&pretty", `{"inputs":{"a":1}}`)
	var got batchAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metrics", "provenance", "explanation"} {
		if got.Responses["a"][name] == nil {
			t.Errorf("no %s in %v", name, got.Responses["a"])
		}
	}
	if got.Metrics["timer_server_handler_ns"] == nil {
		t.Errorf("metrics of the batch: %v", got.Metrics)
	}
	if !strings.HasPrefix(w.Body.String(), "{\n  \"batch_decision_id\"") {
		t.Errorf("not pretty: %.60s", w.Body)
	}
}

func sameJSON(t *testing.T, got any, want string) bool {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(v)
	return string(a) == string(b)
}

func TestBatchUnrecorded(t *testing.T) {
	s := newFailingStand(t, opa.Options{})
	w := s.do(t, "POST", "/v1/batch/data/x", `{"inputs":{"a":1}}`)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"audit_unavailable"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
