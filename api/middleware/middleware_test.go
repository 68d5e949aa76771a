package middleware_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/api/middleware"
)

func serve(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }

func TestSecurityHeaders(t *testing.T) {
	h := middleware.SecurityHeaders()(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Cache-Control", "private") // must not reach the next answer
	}))
	for range 2 {
		got := serve(h, get("/")).Result().Header
		if got.Get("X-Content-Type-Options") != "nosniff" || len(got["Cache-Control"]) != 2 || got.Get("Cache-Control") != "no-store" {
			t.Errorf("header %v", got)
		}
	}
}

func TestCorrelationID(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, tc := range []struct {
		name     string
		header   http.Header
		id, sent string
		trace    string
	}{
		{"none", nil, "", "", ""},
		{"correlation", http.Header{"X-Correlation-Id": {"a-1.b:c/d+e=f_g@h"}}, "a-1.b:c/d+e=f_g@h", "X-Correlation-Id", ""},
		{"request", http.Header{"X-Request-Id": {"a"}}, "a", "X-Request-Id", ""},
		{"correlation wins", http.Header{"X-Request-Id": {"a"}, "X-Correlation-Id": {"b"}}, "b", "X-Correlation-Id", ""},
		{"two", http.Header{"X-Request-Id": {"a", "b"}}, "", "", ""},
		{"empty", http.Header{"X-Request-Id": {""}}, "", "", ""},
		{"long", http.Header{"X-Request-Id": {strings.Repeat("a", 129)}}, "", "", ""},
		{"line feed", http.Header{"X-Request-Id": {"a\nb"}}, "", "", ""},
		{"markup", http.Header{"X-Request-Id": {"<a>"}}, "", "", ""},
		{"trace", http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}}, "", "", trace},
		{"later trace", http.Header{"Traceparent": {"01-" + trace + "-b7ad6b7169203331-01-more"}}, "", "", trace},
		{"trace with more", http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01-more"}}, "", "", ""},
		{"trace of zeros", http.Header{"Traceparent": {"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01"}}, "", "", ""},
		{"upper case", http.Header{"Traceparent": {"00-" + strings.ToUpper(trace) + "-b7ad6b7169203331-01"}}, "", "", ""},
		{"version ff", http.Header{"Traceparent": {"ff-" + trace + "-b7ad6b7169203331-01"}}, "", "", ""},
		{"short", http.Header{"Traceparent": {"00-" + trace}}, "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got middleware.Correlation
			h := middleware.CorrelationID(func(_ *http.Request, c middleware.Correlation) { got = c })(http.NotFoundHandler())
			r := get("/")
			for k, v := range tc.header {
				r.Header[k] = v
			}
			w := serve(h, r)
			if got.ID != tc.id || got.TraceID != tc.trace {
				t.Errorf("got %+v", got)
			}
			for _, name := range []string{"X-Correlation-Id", "X-Request-Id"} {
				if want := map[bool]string{true: tc.id}[name == tc.sent]; w.Header().Get(name) != want {
					t.Errorf("%s: %q sent back", name, w.Header().Get(name))
				}
			}
		})
	}
}

func TestRecover(t *testing.T) {
	var caught []any
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	wrap := func(f http.HandlerFunc) http.Handler {
		return middleware.Recover(func(_ *http.Request, value any, stack []byte) {
			caught = append(caught, value)
			if !strings.Contains(string(stack), "middleware_test") {
				t.Errorf("stack %s", stack)
			}
		}, answer)(f)
	}
	if w := serve(wrap(func(http.ResponseWriter, *http.Request) { panic("boom") }), get("/")); w.Code != 500 || len(caught) != 1 {
		t.Errorf("%d, caught %v", w.Code, caught)
	}
	if w := serve(wrap(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), get("/")); w.Code != 204 || len(caught) != 1 {
		t.Errorf("%d, caught %v", w.Code, caught)
	}
	aborts := func(f http.HandlerFunc) (got any) {
		defer func() { got = recover() }()
		serve(wrap(f), get("/"))
		return nil
	}
	if got := aborts(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("part")); panic("boom") }); got != http.ErrAbortHandler || len(caught) != 2 {
		t.Errorf("after a part: %v, caught %v", got, caught)
	}
	if got := aborts(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); got != http.ErrAbortHandler || len(caught) != 2 {
		t.Errorf("abort: %v, caught %v", got, caught)
	}
}

func TestMetrics(t *testing.T) {
	m := middleware.NewMetrics()
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.Collectors()...)
	h := m.Handler("v1/data")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	for range 3 {
		serve(h, get("/"))
	}
	serve(h, get("/no"))
	for range 2 {
		serve(h, httptest.NewRequest("EVIL", "/", nil))
	}
	m.CountPanic()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			key := f.GetName()
			for _, l := range metric.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = metric.GetHistogram().GetSampleCount() + uint64(metric.GetCounter().GetValue())
		}
	}
	if len(got) != 4 {
		t.Errorf("series %v", got)
	}
	for key, want := range map[string]uint64{
		"http_request_duration_seconds 200 v1/data get": 3, "http_request_duration_seconds 404 v1/data get": 1,
		"http_request_duration_seconds 200 v1/data unknown": 2, "http_panics_total": 1,
	} {
		if got[key] != want {
			t.Errorf("%s: %d, want %d (%v)", key, got[key], want, got)
		}
	}
}

func TestInFlight(t *testing.T) {
	f := middleware.NewInFlight(1)
	refused := 0
	limit := f.Limit(func(w http.ResponseWriter, _ *http.Request) {
		refused++
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	var inner http.Handler = http.NotFoundHandler()
	h := limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.Current() == 0 {
			t.Error("not counted")
		}
		inner.ServeHTTP(w, r)
	}))
	inner = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := serve(limit(http.NotFoundHandler()), r); got.Code != 503 || refused != 1 {
			t.Errorf("second at the same time: %d", got.Code)
		}
		f.SetMost(2)
		if got := serve(limit(http.NotFoundHandler()), r); got.Code != 404 {
			t.Errorf("with a higher bound: %d", got.Code)
		}
		panic(http.ErrAbortHandler)
	})
	func() {
		defer func() { _ = recover() }()
		serve(h, get("/"))
	}()
	if f.Current() != 0 {
		t.Errorf("%d left after a panic", f.Current())
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(f.Collectors()...)
	if got, err := reg.Gather(); err != nil || len(got) != 2 {
		t.Errorf("metrics %v, %v", got, err)
	}
}

func TestWriter(t *testing.T) {
	rec := httptest.NewRecorder()
	w := middleware.Wrap(rec)
	if middleware.Wrap(w) != w || w.Unwrap() != http.ResponseWriter(rec) {
		t.Error("wrapped twice")
	}
	early := middleware.Wrap(httptest.NewRecorder())
	if early.WriteHeader(http.StatusEarlyHints); early.Status() != 0 {
		t.Errorf("status %d after an early hint", early.Status())
	}
	if n, err := w.Write(make([]byte, 100<<10)); n != 100<<10 || err != nil || w.Status() != 200 || w.Written() != 100<<10 {
		t.Errorf("%d, %v; status %d, written %d", n, err, w.Status(), w.Written())
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if w.Flush(); !rec.Flushed {
		t.Error("not flushed")
	}
	if err := http.NewResponseController(w).SetReadDeadline(w.Start); !errors.Is(err, http.ErrNotSupported) {
		t.Error(err)
	}
}
