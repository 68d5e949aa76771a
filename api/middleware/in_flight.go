package middleware

import (
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// InFlight bounds the number of requests being answered at the same time. One
// bound is shared by all routes that name it; nothing waits: a request above
// it is refused at once, which is what keeps those below it fast.
type InFlight struct {
	now     atomic.Int64
	most    atomic.Int64
	refused prometheus.Counter
	gauge   prometheus.GaugeFunc
}

// NewInFlight allows that many requests at a time.
func NewInFlight(most int) *InFlight {
	f := &InFlight{refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "http_requests_refused_overload_total",
		Help: "Requests refused because too many were being answered.",
	})}
	f.gauge = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "http_requests_in_flight",
		Help: "Requests being answered.",
	}, func() float64 { return float64(f.now.Load()) })
	f.SetMost(most)
	return f
}

// SetMost changes the bound; requests that are being answered stay.
func (f *InFlight) SetMost(most int) { f.most.Store(int64(most)) }

// Current is the number of requests being answered.
func (f *InFlight) Current() int { return int(f.now.Load()) }

// Collectors are the metrics of the bound.
func (f *InFlight) Collectors() []prometheus.Collector {
	return []prometheus.Collector{f.refused, f.gauge}
}

// Enter counts a request in, unless there are too many; one that was let in must
// Leave.
func (f *InFlight) Enter() bool {
	if f.now.Add(1) > f.most.Load() {
		f.now.Add(-1)
		f.refused.Inc()
		return false
	}
	return true
}

// Leave counts a request out.
func (f *InFlight) Leave() { f.now.Add(-1) }

// Limit gives a request above the bound to refuse.
func (f *InFlight) Limit(refuse func(http.ResponseWriter, *http.Request)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !f.Enter() {
				refuse(w, r)
				return
			}
			defer f.Leave()
			next.ServeHTTP(w, r)
		})
	}
}
