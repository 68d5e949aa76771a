package opa_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// stand is a server with everything behind it: a real audit log in a folder of
// its own and an empty engine.
type stand struct {
	api     *opa.Server
	handler http.Handler
	engine  *eval.Engine
	log     *audit.Log

	sentinels int
}

// newStand builds a stand. The log queues: what is tested here is not the disk.
func newStand(t testing.TB, o opa.Options) *stand {
	t.Helper()
	log := newLog(t)
	engine, err := eval.New(eval.Options{Version: "test", Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return newStandOn(t, engine, log, log, o)
}

func newStandOn(t testing.TB, engine *eval.Engine, log *audit.Log, recorder pdp.Recorder, o opa.Options) *stand {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	gate, err := api.NewGate(anyToken{}, api.GateOptions{Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(gate.Collectors()...)
	s := &stand{api: opa.New(pdp.New(engine, recorder, pdp.Options{}), recorder, o), engine: engine, log: log}
	s.mount(gate)
	return s
}

// mount puts the server behind a gate.
func (s *stand) mount(gate *api.Gate) {
	router := chi.NewRouter()
	s.api.Mount(router, gate.Require)
	s.handler = gate.Stack(api.Main, router)
}

// anyToken takes every token for one that may do everything.
type anyToken struct{}

func (anyToken) Lookup(string) (*tokens.Token, error) {
	all, err := tokens.ParseScopes([]string{"admin"})
	return &tokens.Token{ID: "1", Name: "tester", Scopes: all}, err
}

// bearer is what anyToken takes.
const bearer = "Bearer any"

func newLog(t testing.TB) *audit.Log {
	t.Helper()
	store, err := segment.Open(filepath.Join(t.TempDir(), "log"), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(store, audit.Options{Durability: audit.Queued})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }() // ends in the clean-up below
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("audit log: %v", err)
		}
		if err := log.Close(); err != nil {
			t.Errorf("close audit log: %v", err)
		}
	})
	return log
}

// do sends a request to the handler. Headers are pairs of name and value.
func (s *stand) do(t testing.TB, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", bearer)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// must is do for a request that has to get a status.
func (s *stand) must(t testing.TB, status int, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := s.do(t, method, target, body, headers...)
	if w.Code != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, target, w.Code, status, w.Body)
	}
	return w
}

// records returns the records of the log that contain text.
func (s *stand) records(t testing.TB, text string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// The sentinel is appended last, so everything before it is there when it is.
	s.sentinels++
	sentinel := fmt.Sprintf("end of search %d.", s.sentinels)
	if _, err := s.log.Append(ctx, &audit.Record{
		Type: audit.TypeAdministrative, Event: audit.EventConfigChange,
		Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess, Message: sentinel,
	}); err != nil {
		t.Fatal(err)
	}
	var found []string
	err := s.log.Tail(ctx, 0, func(_ uint64, rec []byte) error {
		if bytes.Contains(rec, []byte(sentinel)) {
			return io.EOF
		}
		if bytes.Contains(rec, []byte(text)) {
			found = append(found, string(rec))
		}
		return nil
	})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return found
}

// TestAllow wants the methods of a path in each 405.
func TestAllow(t *testing.T) {
	s := newStand(t, opa.Options{PolicyWrites: true})
	for _, tt := range [][3]string{
		{"PUT", "/v0/data/a", "POST"},
		{"DELETE", "/v1/data", "POST, GET, PUT, PATCH"},
		{"HEAD", "/v1/data/a", "POST, GET, PUT, PATCH, DELETE"},
		{"GET", "/v1/compile", "POST"},
		{"PUT", "/v1/query", "GET, POST"},
		{"PATCH", "/v1/policies/a", "GET, PUT, DELETE"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(tt[0], tt[1], nil)
		r.Header.Set("Authorization", bearer)
		s.handler.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != tt[2] {
			t.Errorf("%s %s: %d, Allow %q, want %q", tt[0], tt[1], w.Code, w.Header().Get("Allow"), tt[2])
		}
	}
}
