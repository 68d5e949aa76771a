package middleware

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics measures requests under OPA's names: http_request_duration_seconds
// and http_request_cancellations, by code, handler and method. Handlers name
// themselves when they are mounted and the other labels come from fixed sets,
// so that no client can make a series.
type Metrics struct {
	duration  *prometheus.HistogramVec
	cancelled *prometheus.CounterVec
	panics    prometheus.Counter
}

// NewMetrics makes the collectors; the caller registers them.
func NewMetrics() *Metrics {
	labels := []string{"code", "handler", "method"}
	return &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_duration_seconds",
			Help:    "A histogram of duration for requests.",
			Buckets: []float64{1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 0.01, 0.1, 1},
		}, labels),
		cancelled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_request_cancellations",
			Help: "A count of cancelled requests.",
		}, labels),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "http_panics_total",
			Help: "Requests whose handler panicked.",
		}),
	}
}

// Collectors are the metrics.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.cancelled, m.panics}
}

// CountPanic counts a handler that panicked.
func (m *Metrics) CountPanic() { m.panics.Inc() }

// Handler measures the requests of the handlers of that name: v0/data, v1/data,
// v1/query, v1/policies, v1/compile, v1/config, v1/status, index, catchall or
// health for OPA's.
func (m *Metrics) Handler(name string) func(http.Handler) http.Handler {
	series := &series{metrics: m, handler: name}
	for i := range series.byMethod {
		series.byMethod[i].Store(&map[int]prometheus.Observer{})
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			wrapped := Wrap(w)
			next.ServeHTTP(wrapped, r)
			status := wrapped.Status()
			if status == 0 {
				status = http.StatusOK // what net/http sends for a handler that wrote nothing
			}
			series.observer(methodIndex(r.Method), status).Observe(time.Since(wrapped.Start).Seconds())
			if r.Context().Err() != nil {
				m.cancelled.WithLabelValues(strconv.Itoa(status), name, methodLabels()[methodIndex(r.Method)]).Inc()
			}
		})
	}
}

// series finds the histogram of one handler without allocating: looking one up
// by its labels would cost more than all the rest.
type series struct {
	metrics  *Metrics
	handler  string
	byMethod [10]atomic.Pointer[map[int]prometheus.Observer]
	mu       sync.Mutex // held to add to a map, which is then exchanged
}

func (s *series) observer(method, status int) prometheus.Observer {
	if o, ok := (*s.byMethod[method].Load())[status]; ok {
		return o
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := *s.byMethod[method].Load()
	more := make(map[int]prometheus.Observer, len(known)+1)
	for code, o := range known {
		more[code] = o
	}
	o := s.metrics.duration.WithLabelValues(strconv.Itoa(status), s.handler, methodLabels()[method])
	more[status] = o
	s.byMethod[method].Store(&more)
	return o
}

func methodLabels() [10]string {
	return [...]string{"unknown", "get", "put", "head", "post", "delete", "connect", "options", "trace", "patch"}
}

func methodIndex(method string) int {
	switch method {
	case http.MethodGet:
		return 1
	case http.MethodPut:
		return 2
	case http.MethodHead:
		return 3
	case http.MethodPost:
		return 4
	case http.MethodDelete:
		return 5
	case http.MethodConnect:
		return 6
	case http.MethodOptions:
		return 7
	case http.MethodTrace:
		return 8
	case http.MethodPatch:
		return 9
	}
	return 0
}
