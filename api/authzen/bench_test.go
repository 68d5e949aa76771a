package authzen_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// sink is a ResponseWriter without a connection.
type sink struct {
	header http.Header
	bytes  int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) Write(b []byte) (int, error) {
	s.bytes += len(b)
	return len(b), nil
}

const hotBody = `{"subject":{"type":"user","id":"alice","properties":{"roles":["admin"],"tenant":"t1"}},"action":{"name":"customer.read"},"resource":{"type":"customer","id":"c42"},"context":{"location":{"country":"DE"}}}`

func newHot(tb testing.TB) (*pdp.PDP, http.Handler) {
	tb.Helper()
	engine, err := eval.New(eval.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	_, err = engine.Write(func(d *eval.Draft) error {
		m, err := eval.ParseModule("hot", []byte("package hot\n\ndefault allow := false\n\nallow if \"admin\" in input.subject.properties.roles\n"))
		if err != nil {
			return err
		}
		return d.PutModule(m)
	})
	if err != nil {
		tb.Fatal(err)
	}
	p := pdp.New(engine, nowhere{}, pdp.Options{})
	router := chi.NewRouter()
	authzen.New(p, search.New(p, search.Options{}), authzen.Options{Path: "hot/allow"}).Mount(router,
		func(api.Route) func(http.Handler) http.Handler {
			return func(h http.Handler) http.Handler { return h }
		})
	return p, router
}

// hotRequest returns a function that serves one request again and again.
func hotRequest(h http.Handler) func() {
	raw, body := []byte(hotBody), bytes.NewReader(nil)
	r := httptest.NewRequest(http.MethodPost, authzen.PathEvaluation, nil)
	r.Body, r.ContentLength = io.NopCloser(body), int64(len(raw))
	r.Header.Set("Content-Type", "application/json")
	route := chi.NewRouteContext() // as the gate lends one
	r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, route))
	w := &sink{header: http.Header{}}
	return func() {
		route.Reset()
		body.Reset(raw)
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// hotDecision does what the handler asks of others, and nothing else.
func hotDecision(tb testing.TB, p *pdp.PDP) func() {
	body := []byte(hotBody)
	return func() {
		doc, _, err := eval.ParseInput(body, eval.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		d, err := p.Decide(context.Background(), &pdp.Query{Edge: authzen.Edge, Path: "hot/allow", Input: doc})
		if err != nil {
			tb.Fatal(err)
		}
		d.Release()
	}
}

// TestHandlerAllocations keeps the handler's own share of a decision small: the
// value of the header that names the decision.
func TestHandlerAllocations(t *testing.T) {
	const most = 2
	if raceDetector {
		t.Skip("allocations are not those of the program under the race detector")
	}
	p, h := newHot(t)
	serve, decide := hotRequest(h), hotDecision(t, p)
	all := testing.AllocsPerRun(500, serve)
	below := testing.AllocsPerRun(500, decide)
	t.Logf("allocations of a request: %.1f, of them below the handler %.1f", all, below)
	if own := all - below; own > most {
		t.Errorf("the handler allocates %.1f times, want at most %d", own, most)
	}
}

func BenchmarkEvaluation(b *testing.B) {
	_, h := newHot(b)
	serve := hotRequest(h)
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
}

func BenchmarkDecision(b *testing.B) {
	p, _ := newHot(b)
	decide := hotDecision(b, p)
	b.ReportAllocs()
	for b.Loop() {
		decide()
	}
}
