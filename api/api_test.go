package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/api/tokens"
)

// recorded keeps refusals.
type recorded struct {
	mu   sync.Mutex
	list []api.Refusal
	err  error
}

func (r *recorded) Record(_ context.Context, refusal api.Refusal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.list = append(r.list, refusal)
	return nil
}

func (r *recorded) take() []api.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

func (r *recorded) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// secretOf makes a token in the store.
func secretOf(t testing.TB, s *tokens.Store, name string, scopes ...string) string {
	t.Helper()
	secret, _, err := s.Create(context.Background(), tokens.NewToken{Name: name, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func newStore(t testing.TB, o tokens.Options) *tokens.Store {
	t.Helper()
	s, err := tokens.Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newGate(t testing.TB, s *tokens.Store, o api.GateOptions) *api.Gate {
	t.Helper()
	g, err := api.NewGate(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// plain writes errors so that tests can tell who wrote them.
func plain(w http.ResponseWriter, _ *http.Request, e *api.Error) {
	w.WriteHeader(e.Status)
	_, _ = io.WriteString(w, e.Code+": "+e.Message)
}

func request(method, target, token string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWriteProblem(t *testing.T) {
	w := httptest.NewRecorder()
	api.WriteProblem(w, nil, &api.Error{Status: 403, Code: "forbidden", Message: `needs "x"`})
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 403 || got["code"] != "forbidden" || got["detail"] != `needs "x"` {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
}

func TestAsError(t *testing.T) {
	own := &api.Error{Status: 418, Code: "teapot"}
	for _, tc := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("decide: %w", own), 418, "teapot"},
		{fmt.Errorf("read: %w", &middleware.BodyTooLargeError{Limit: 1}), 413, api.CodeTooLarge},
		{fmt.Errorf("read: %w", os.ErrDeadlineExceeded), 408, api.CodeTimeout},
		{errors.New("secret detail"), 500, api.CodeInternal},
		{nil, 500, api.CodeInternal},
	} {
		got := api.AsError(tc.err)
		if got.Status != tc.status || got.Code != tc.code || strings.Contains(got.Error(), "secret") {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

func TestRequestReachesTheHandler(t *testing.T) {
	s := newStore(t, tokens.Options{})
	secret := secretOf(t, s, "pep", "decide")
	g := newGate(t, s, api.GateOptions{})
	var got api.Request
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data"})(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) { got = *api.FromContext(r.Context()) },
	)))
	r := request("POST", "/v1/data", secret)
	r.RemoteAddr = "203.0.113.7:4000"
	r.Header.Set("X-Correlation-Id", "c-1")
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if w := do(h, r.WithContext(ctx)); w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Correlation-Id") != "c-1" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if got.Class != api.ClassDecide || got.Caller.Name != "pep" || got.Caller.Kind != api.Token || got.Caller.ID == "" ||
		got.Client.Addr.String() != "203.0.113.7" || got.ID != "c-1" || got.Listener != api.Main {
		t.Errorf("%+v", got)
	}
	if api.FromContext(t.Context()) != nil {
		t.Error("a request outside of one")
	}
}

func TestRequireOutsideOfStack(t *testing.T) {
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{Dev: true})
	h := g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data", Error: plain})(http.NotFoundHandler())
	if w := do(h, request("GET", "/", "")); w.Code != 500 {
		t.Errorf("let in without a Request: %d", w.Code)
	}
	for _, rt := range []api.Route{{Class: 99, Handler: "x"}, {Class: api.ClassDecide}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v could be mounted", rt)
				}
			}()
			g.Require(rt)
		}()
	}
}

func TestPanicIsAnswered(t *testing.T) {
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{Dev: true})
	boom := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data", Error: plain})(boom))
	if w := do(h, request("GET", "/", "")); w.Code != 500 || w.Body.String() != "internal_error: internal error" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := do(g.Stack(api.Main, boom), request("GET", "/", "")); w.Code != 500 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestBodyLimits(t *testing.T) {
	g := newGate(t, newStore(t, tokens.Options{}), api.GateOptions{Dev: true})
	if g.BodyLimit(api.ClassDecide) != 1<<20 || g.BodyLimit(api.ClassDataWrite) != 64<<20 || g.BodyLimit(api.ClassEncrypt) != 16<<20 {
		t.Error("defaults are wrong")
	}
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data", Error: plain})(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				plain(w, r, api.AsError(err))
			}
		},
	)))
	post := func(n int64, announced bool) int {
		r := httptest.NewRequest("POST", "/", io.LimitReader(strings.NewReader(strings.Repeat("x", 2<<20)), n))
		if announced {
			r.ContentLength = n
		}
		return do(h, r).Code
	}
	commit, err := g.Prepare(api.AccessSettings{RequestBody: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		n    int64
		want int
	}{{1 << 20, 200}, {1<<20 + 1, 413}} {
		if a, b := post(tc.n, true), post(tc.n, false); a != tc.want || b != tc.want {
			t.Errorf("%d bytes: %d, %d", tc.n, a, b)
		}
	}
	commit()
	if a, b := post(10, true), post(11, false); a != 200 || b != 413 {
		t.Errorf("after a reload: %d, %d", a, b)
	}
}

func BenchmarkStack(b *testing.B) {
	s := newStore(b, tokens.Options{})
	secret := secretOf(b, s, "pep", "decide")
	g := newGate(b, s, api.GateOptions{Policy: &policy{answer: api.CallerAnswer{Allowed: true, Cacheable: true}}})
	routes := g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data"})(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	h := g.Stack(api.Main, routes)
	r := request("POST", "/v1/data/app/allow", secret)
	w := &nullWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// nullWriter costs nothing.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) WriteHeader(int)             {}

func TestStackAllocations(t *testing.T) {
	s := newStore(t, tokens.Options{})
	secret := secretOf(t, s, "pep", "decide")
	g := newGate(t, s, api.GateOptions{Policy: &policy{answer: api.CallerAnswer{Allowed: true, Cacheable: true}}})
	h := g.Stack(api.Main, g.Require(api.Route{Class: api.ClassDecide, Handler: "v1/data"})(http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) {},
	)))
	r, w := request("POST", "/v1/data/app/allow", secret), &nullWriter{header: http.Header{}}
	if n := testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) }); n > 3 {
		t.Errorf("%v allocations, want 3 at most", n)
	}
}
