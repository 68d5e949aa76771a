package opa_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/opa"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// noLog forgets every record, so that what is measured is the way to it.
type noLog struct{}

func (noLog) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

func (noLog) Submit(context.Context, *audit.Record) (*audit.Ticket, error) { return nil, nil }

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

const hotBody = `{"input":{"subject":{"type":"user","id":"alice","properties":{"roles":["admin"],"tenant":"t1"}},"action":{"name":"customer.read"},"resource":{"type":"customer","id":"c42"},"context":{"location":{"country":"DE"}}}}`

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
	p := pdp.New(engine, noLog{}, pdp.Options{})
	through := func(api.Route) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return h }
	}
	return p, opa.New(p, noLog{}, opa.Options{}).Handler(through)
}

// hotRequest returns a function that serves one request again and again.
func hotRequest(h http.Handler) func() {
	body := bytes.NewReader(nil)
	r := httptest.NewRequest(http.MethodPost, "/v1/data/hot/allow", nil)
	r.Body, r.ContentLength = io.NopCloser(body), int64(len(hotBody))
	w := &sink{header: http.Header{}}
	return func() {
		body.Reset([]byte(hotBody))
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

// hotDecision does what the handler asks of others, and nothing else.
func hotDecision(tb testing.TB, p *pdp.PDP) func() {
	input := ast.StringTerm("input")
	body := []byte(hotBody)
	var q pdp.Query
	return func() {
		doc, _, err := eval.ParseInput(body, eval.Limits{})
		if err != nil {
			tb.Fatal(err)
		}
		q = pdp.Query{Edge: opa.Edge, Path: "hot/allow", Input: doc.(ast.Object).Get(input).Value, Observe: pdp.Observe{StackTraces: true}}
		d, err := p.Decide(context.Background(), &q)
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

func BenchmarkRequest(b *testing.B) {
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
