package authzen_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
	"github.com/verdict-pdp/verdict/storage/segment"
)

var fixture = filepath.Join("..", "..", "testdata", "authzen-certification")

// lab has a rule for each form of result; the resource's id chooses one.
const lab = `package lab

decision := results[input.resource.id]

results["yes"] := true
results["no"] := false
results["number"] := 7
results["text"] := "true"
results["null"] := null
results["list"] := [true]
results["empty"] := {}
results["allow"] := {"allow": true, "note": "n"}
results["deny"] := {"allow": false, "decision": "deny", "reasons": [{"code": "r"}], "trust": {"level": "low"}}
results["decision"] := {"decision": true, "a \"quoted\" {name}": [{"x": "}]"}]}
results["authzen"] := {"decision": false, "context": {"reason_user": {"403": "no"}, "decision_id": "forged"}, "reason_admin": 1}
results["both"] := {"allow": true, "decision": true}
results["contradiction"] := {"allow": true, "decision": false}
results["allowed only"] := {"allowed": true}
results["allow text"] := {"allow": "true"}
results["forged"] := {"allow": true, "decision_id": "mine", "receipt": {"seq": 1}, "context": 5}
results["step-up"] := {"allow": false, "obligations": [
	{"id": "log", "type": "notification", "properties": {}},
	{"id": "s", "type": "step-up", "properties": {"acr_values": ["urn:a", "urn:b"], "amr_values": ["mfa"], "max_age": 300}},
]}
results["step-up permitted"] := {"allow": true, "obligations": [
	{"id": "s", "type": "step-up", "properties": {"acr_values": ["urn:a"]}},
]}
results["echo"] := {"allow": true, "input": input}
results["conflict"] := x if some x in [1, 2]
`

// stand is the API with everything behind it: gate, decision point and a real
// audit log in a folder of its own.
type stand struct {
	handler http.Handler
	engine  *eval.Engine
	log     *audit.Log
}

// setup is how a stand differs from the usual one.
type setup struct {
	authzen.Options
	search   search.Options
	recorder pdp.Recorder // nil: the log
	strict   bool         // callers need a token
}

func newStand(t testing.TB, o setup) *stand {
	t.Helper()
	if o.Path == "" {
		o.Path = "certification/decision"
	}
	engine, err := eval.New(eval.Options{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := bundles.Load("fixture", fixture, bundles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.Write(func(d *eval.Draft) error {
		if err := d.SetBundles([]*eval.Bundle{loaded}); err != nil {
			return err
		}
		m, err := eval.ParseModule("lab.rego", []byte(lab))
		if err != nil {
			return err
		}
		return d.PutModule(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	log := newLog(t)
	if o.recorder == nil {
		o.recorder = log
	}
	gate, err := api.NewGate(oneToken{}, api.GateOptions{Dev: !o.strict})
	if err != nil {
		t.Fatal(err)
	}
	p := pdp.New(engine, o.recorder, pdp.Options{})
	o.search.Path = o.Path
	server := authzen.New(p, search.New(p, o.search), o.Options)
	router := chi.NewRouter()
	server.Mount(router, gate.Require)
	return &stand{handler: gate.Stack(api.Main, router), engine: engine, log: log}
}

// oneToken knows one caller that may decide and one that may not.
type oneToken struct{}

func (oneToken) Lookup(secret string) (*tokens.Token, error) {
	scopes := map[string]string{"decides": "decide", "writes": "data:write"}
	if scopes[secret] == "" {
		return nil, tokens.ErrUnknown
	}
	parsed, err := tokens.ParseScopes([]string{scopes[secret]})
	return &tokens.Token{ID: "1", Name: secret, Scopes: parsed}, err
}

func newLog(t testing.TB) *audit.Log {
	t.Helper()
	store, err := segment.Open(filepath.Join(t.TempDir(), "log"), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(store, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }() // ends in the clean-up below
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, log.Close()); err != nil {
			t.Errorf("audit log: %v", err)
		}
	})
	return log
}

// post sends a body as JSON. Headers are pairs of name and value, and go before
// the usual ones.
func (s *stand) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header[http.CanonicalHeaderKey(headers[i])] = []string{headers[i+1]}
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// must is post for a request that has to get a status; it decodes the answer.
func (s *stand) must(t testing.TB, status int, path, body string, headers ...string) map[string]any {
	t.Helper()
	w := s.post(path, body, headers...)
	if w.Code != status {
		t.Fatalf("POST %s %s: status %d, want %d: %s", path, body, w.Code, status, w.Body)
	}
	return decode(t, w)
}

func decode(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	if kind := w.Header().Get("Content-Type"); kind != "application/json" {
		t.Fatalf("content type %q of %s", kind, w.Body)
	}
	if w.Code >= 400 {
		var message string
		if err := json.Unmarshal(w.Body.Bytes(), &message); err != nil || message == "" {
			t.Fatalf("the body of %d is no message: %s", w.Code, w.Body)
		}
		return map[string]any{"message": message}
	}
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

// records returns what the log holds now, without the records of its own life.
func (s *stand) records(t testing.TB) []map[string]any {
	t.Helper()
	next := s.log.Status().Next
	var found []map[string]any
	err := s.log.Tail(t.Context(), 0, func(seq uint64, rec []byte) error {
		var v map[string]any
		if err := json.NewDecoder(bytes.NewReader(rec)).Decode(&v); err != nil {
			return err
		}
		if v["type"] == "decision" {
			found = append(found, v)
		}
		if seq+1 == next {
			return io.EOF
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return found
}

// at walks to a value by the names and indices of its path; nil when there is
// none.
func at(v any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}
