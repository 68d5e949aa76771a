package opa

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// httpMetrics are OPA's metrics of requests: same names, labels and buckets.
type httpMetrics struct {
	seconds   *prometheus.HistogramVec
	cancelled *prometheus.CounterVec
	writers   sync.Pool // *statusWriter
}

func newHTTPMetrics() *httpMetrics {
	labels := []string{"code", "handler", "method"}
	m := &httpMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_duration_seconds",
			Help:    "A histogram of duration for requests.",
			Buckets: []float64{1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 0.01, 0.1, 1},
		}, labels),
		cancelled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_request_cancellations",
			Help: "A count of cancelled requests.",
		}, labels),
	}
	m.writers.New = func() any { return &statusWriter{} }
	return m
}

func (m *httpMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.seconds, m.cancelled}
}

// instrument counts and times the requests of one handler.
func (m *httpMetrics) instrument(handler string, next http.Handler) http.Handler {
	// What nearly every request observes is looked up once.
	usual := m.seconds.WithLabelValues("200", handler, "post")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		sw := m.writers.Get().(*statusWriter)
		sw.ResponseWriter, sw.status = w, http.StatusOK
		next.ServeHTTP(sw, r)
		status := sw.status
		sw.ResponseWriter = nil
		m.writers.Put(sw)

		took := time.Since(started).Seconds()
		if status == http.StatusOK && r.Method == http.MethodPost {
			usual.Observe(took)
		} else {
			m.seconds.WithLabelValues(strconv.Itoa(status), handler, methodLabel(r.Method)).Observe(took)
		}
		if r.Context().Err() != nil {
			m.cancelled.WithLabelValues(strconv.Itoa(status), handler, methodLabel(r.Method)).Inc()
		}
	})
}

// methodLabel keeps the label's values bounded: the method is the caller's.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodHead, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return strings.ToLower(method)
	}
	return "unknown"
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader keeps the status and passes it on.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// allocBytes answers GET /metrics/alloc_bytes with the memory in use.
func allocBytes(w http.ResponseWriter, r *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	total := m.HeapInuse + m.StackInuse + m.MCacheInuse + m.MSpanInuse
	text := strconv.FormatUint(total, 10)
	if r.URL.Query().Get("pretty") == "true" {
		text = formatBytes(total)
	}
	_, _ = w.Write(append([]byte(text), '\n')) // the client may be gone
}

// formatBytes writes a size in the largest decimal unit that it fills.
func formatBytes(n uint64) string {
	const unit = 1000
	if n < unit {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, suffix := float64(n)/unit, 0
	for value >= unit {
		value /= unit
		suffix++
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + "kMGTPE"[suffix:suffix+1] + "B"
}
