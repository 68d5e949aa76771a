package opa

import (
	"net/http"

	"github.com/open-policy-agent/opa/v1/metrics"
)

// timers are OPA's timers of a write.
type timers struct {
	metrics.Metrics
	asked  bool // the answer is to contain them
	pretty bool
	last   string
}

// newTimers starts the timers of a data write: the handler's and the input's.
func newTimers(r *http.Request) *timers {
	t := policyTimers(r)
	t.start(metrics.ServerHandler)
	t.start(metrics.RegoInputParse)
	return t
}

// policyTimers returns timers of which none runs.
func policyTimers(r *http.Request) *timers {
	p := parseParams(r.URL.RawQuery)
	t := &timers{Metrics: metrics.NoOp(), asked: p.metrics, pretty: p.pretty}
	if p.metrics {
		t.Metrics = metrics.New()
	}
	return t
}

func (t *timers) start(name string) {
	t.last = name
	t.Timer(name).Start()
}

func (t *timers) stop(name string) { t.Timer(name).Stop() }

// stopIfStarted stops the timer that was started last, if it is this one. A
// timer exists from its first mention on, so it must not be mentioned otherwise.
func (t *timers) stopIfStarted(name string) {
	if t.last == name {
		t.stop(name)
	}
}
