package opa_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp"
)

// asked is the record of a question.
type asked struct {
	DecisionID string          `json:"decision_id"`
	Event      string          `json:"event"`
	Path       string          `json:"path"`
	Edge       string          `json:"edge"`
	Input      json.RawMessage `json:"input"`
	Result     json.RawMessage `json:"result"`
	Masked     []string        `json:"masked"`
	Error      *struct {
		Code string `json:"code"`
	} `json:"error"`
	Details json.RawMessage `json:"details"`
}

// Queries, partial evaluations and filters are decisions: each is recorded, with
// what was asked, and with its secrets hidden.
func TestQuestionsAreRecorded(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.api = opa.New(pdp.New(s.engine, s.log, pdp.Options{MaskKeys: mask.NewKeys([]string{"password"})}), s.log, opa.Options{})
	gate, err := api.NewGate(anyToken{}, api.GateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.mount(gate)
	s.put(t, "shop.rego", shop)
	const sql = "application/vnd.opa.sql.postgresql+json"
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 asked
	}{
		{"GET", "/v1/query?q=x%3D1", "", 200, asked{
			Event: "decision_evaluated", Edge: "opa.query", Input: []byte("null"), Result: []byte(`[{"x":1}]`), Details: []byte(`{"query":"x=1"}`),
		}},
		{"POST", "/v1/query", `{"query":"password = input.password","input":{"password":"hunter2"}}`, 200, asked{
			Event: "decision_evaluated", Edge: "opa.query", Input: []byte(`{"password":"***"}`), Result: []byte(`[{"password":"***"}]`),
			Details: []byte(`{"query":"password = input.password"}`), Masked: []string{"/input/password", "/result/0/password"},
		}},
		{"POST", "/v1/query", `{"query":"http.send({}, x)"}`, 400, asked{
			Event: "decision_error", Edge: "opa.query", Input: []byte("null"), Result: []byte("null"), Details: []byte(`{"query":"http.send({}, x)"}`),
		}},
		{"POST", "/v1/compile", `{"query":"input.x = 1","unknowns":["data.z"],"input":{"x":1},"options":{"nondeterministicBuiltins":true}}`, 200, asked{
			Event: "decision_evaluated", Edge: "opa.compile", Input: []byte(`{"x":1}`), Result: []byte(`{"queries":[[]]}`),
			Details: []byte(`{"query":"input.x = 1","unknowns":["data.z"],"nondeterministic_builtins":true}`),
		}},
		{"POST", "/v1/compile/shop/include", `{"input":{"favorite":"x"}}`, 200, asked{
			Event: "decision_evaluated", Edge: "opa.compile", Path: "shop/include", Input: []byte(`{"favorite":"x"}`),
			Result:  []byte(`{"sql":{"postgresql":{"masks":{"fruits":{"price":{"replace":{"value":"***"}}}},"query":"WHERE (fruits.name = E'x' OR (fruits.price \u003c E'10' AND fruits.name LIKE E'a%'))"}}}`),
			Details: []byte(`{"accept":"` + sql + `","unknowns":["input.fruits"],"mask_rule":"data.shop.masks","options":{}}`),
		}},
		{"POST", "/v1/compile/shop/untranslatable", `{}`, 400, asked{
			Event: "decision_error", Edge: "opa.compile", Path: "shop/untranslatable", Input: []byte("null"), Result: []byte("null"),
			Details: []byte(`{"accept":"` + sql + `","unknowns":["input.fruits"],"options":{}}`),
		}},
	} {
		w := s.must(t, tt.status, tt.method, tt.target, tt.body, "Accept", sql)
		id := w.Header().Get("X-Decision-Id")
		found := s.records(t, id)
		if id == "" || len(found) != 1 {
			t.Errorf("%s %s: %d records of decision %q", tt.method, tt.target, len(found), id)
			continue
		}
		var got asked
		if err := json.Unmarshal([]byte(found[0]), &got); err != nil {
			t.Fatal(err)
		}
		if (got.Error != nil) != (tt.status != 200) {
			t.Errorf("%s %s: error %v", tt.method, tt.target, got.Error)
		}
		got.DecisionID, got.Error = "", nil
		g, _ := json.Marshal(got) // it was read
		want, _ := json.Marshal(tt.want)
		if string(g) != string(want) {
			t.Errorf("%s %s:\n got %s\nwant %s", tt.method, tt.target, g, want)
		}
		if strings.Contains(found[0], "hunter2") {
			t.Errorf("the record has the secret: %s", found[0])
		}
	}
}

// Answers and questions have bounds.
func TestQuestionLimits(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true, Limits: opa.Limits{Answer: 4096}})
	s.must(t, http.StatusNoContent, "PUT", "/v1/data/big", `["`+strings.Repeat("x", 5000)+`"]`)
	for _, tt := range []struct{ target, body, want string }{
		{"/v1/query", `{"query":"x = data"}`, `answer exceeds limit of 4096 bytes (limits.answer)`},
		{"/v1/query", `{"query":"data.big[_] = x"}`, `answer exceeds limit of 4096 bytes (limits.answer)`},
		{"/v1/compile", `{"query":"input.x = data.big"}`, `answer exceeds limit of 4096 bytes (limits.answer)`},
		{"/v1/query", `{"query":"` + strings.Repeat("1;", 9000) + `"}`, `query exceeds limit of 16384 bytes`},
		{"/v1/compile", `{"query":"` + strings.Repeat("1;", 300) + `1"}`, `query exceeds limit of 200 expressions`},
		{"/v1/query", `{"query":"x = 1","input":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, `error(s) occurred while decoding request: `},
		{"/v1/query", `{"query":"x = 1","input":"` + strings.Repeat("x", 1<<20) + `"}`, `request body too large`},
	} {
		w := s.must(t, http.StatusBadRequest, "POST", tt.target, tt.body)
		var e struct{ Code, Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != "invalid_parameter" || !strings.Contains(e.Message, tt.want) {
			t.Errorf("%s %.40s: %s, want %s", tt.target, tt.body, w.Body, tt.want)
		}
	}
	s.engine.SetTimeout(50 * time.Millisecond)
	w := s.must(t, http.StatusInternalServerError, "POST", "/v1/query", `{"query":"x = numbers.range(1, 1000000000)"}`)
	if !strings.Contains(w.Body.String(), "eval_cancel_error") {
		t.Errorf("deadline: %s", w.Body)
	}
}

// Filters that OPA breaks the connection for are bad requests.
func TestFilterFaults(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	s.put(t, "shop.rego", shop)
	const multi = "application/vnd.opa.multitarget+json"
	for body, want := range map[string]string{
		`{"options":{"targetDialects":["sql"]}}`: `\"sql\" is not of the form target+dialect`,
		`{"unknowns":["input[0]"]}`:              `unknowns must name a document: input[0]`,
	} {
		if w := s.must(t, http.StatusBadRequest, "POST", "/v1/compile/shop/include", body, "Accept", multi); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
}
