package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/verdict-pdp/verdict/api/middleware"
)

// Defaults of RefusalOptions.
const (
	DefaultRefusalRate  = 5.0
	DefaultRefusalBurst = 50
	DefaultRefusalEvery = 10 * time.Second
)

const (
	refusalTimeout = time.Second // what recording one may take
	maxRefusalText = 256         // bytes of path and user agent that are kept
)

// Refusal is a request that was not let in. It never holds a credential.
type Refusal struct {
	Time     time.Time
	Status   int // 401, 403, 404 or 503; 0 for a TLS handshake
	Code     string
	Message  string
	Class    Class
	Listener Listener
	Method   string
	Path     string // escaped, without the query, at most 256 bytes
	Caller   Caller
	Client   middleware.Client
	middleware.Correlation
	UserAgent string // at most 256 bytes
	// Suppressed is how many refusals of this status were not recorded since the
	// last that was. Where only they are told of, Method is empty.
	Suppressed uint64
}

// Refusals records refusals; the audit log stands behind it.
type Refusals interface {
	// Record should return when the refusal is recorded, and must when ctx ends.
	Record(ctx context.Context, r Refusal) error
}

// RefusalOptions are the optional parts of a RefusalLog.
type RefusalOptions struct {
	// Rate is how many refusals of each status are recorded in a second, after
	// the first Burst of them; 0: DefaultRefusalRate, DefaultRefusalBurst.
	Rate  float64
	Burst int
	// Every is how often Run tells of those that were not; 0: DefaultRefusalEvery.
	Every time.Duration
	// Now is the clock; nil: time.Now.
	Now    func() time.Time
	Logger zerolog.Logger
}

// RefusalLog records refusals at a bounded rate, so that whoever is refused
// cannot fill the log: it counts what is beyond and tells of it later. Each
// status has its own rate: a flood of bad tokens does not hide the one caller
// that tried what it may not.
type RefusalLog struct {
	sink    Refusals
	o       RefusalOptions
	buckets [refusalKinds]refusalBucket
	total   *prometheus.CounterVec
	lost    prometheus.Counter
}

type refusalBucket struct {
	limiter    *rate.Limiter
	suppressed atomic.Uint64
}

// The kinds of refusals that have a rate of their own.
const (
	refusedCredential = iota
	refusedScope
	refusedOther
	refusedHandshake
	refusalKinds
)

// NewRefusalLog makes a log in front of sink.
func NewRefusalLog(sink Refusals, o RefusalOptions) *RefusalLog {
	if o.Rate <= 0 {
		o.Rate = DefaultRefusalRate
	}
	if o.Burst <= 0 {
		o.Burst = DefaultRefusalBurst
	}
	if o.Every <= 0 {
		o.Every = DefaultRefusalEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &RefusalLog{
		sink: sink, o: o,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verdict_refusals_total", Help: "Requests and connections that were refused, by status.",
		}, []string{"status"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "verdict_refusals_unrecorded_total", Help: "Refusals that could not be recorded.",
		}),
	}
	for i := range l.buckets {
		l.buckets[i].limiter = rate.NewLimiter(rate.Limit(o.Rate), o.Burst)
	}
	return l
}

// Collectors are the metrics of the log.
func (l *RefusalLog) Collectors() []prometheus.Collector {
	return []prometheus.Collector{l.total, l.lost}
}

// Record records the refusal, or counts it when there were too many. It does
// not wait for longer than a second, and not for the client: going away at once
// must not be a way to stay unrecorded.
func (l *RefusalLog) Record(ctx context.Context, r Refusal) {
	l.total.WithLabelValues(strconv.Itoa(r.Status)).Inc()
	now := l.o.Now()
	b := &l.buckets[refusalKind(r.Status)]
	if !b.limiter.AllowN(now, 1) {
		b.suppressed.Add(1)
		return
	}
	r.Time, r.Suppressed = now, b.suppressed.Swap(0)
	l.write(context.WithoutCancel(ctx), b, r)
}

// Run tells every RefusalOptions.Every, and at its end, of refusals that were
// not recorded. It ends with ctx, without an error.
func (l *RefusalLog) Run(ctx context.Context) error {
	ticker := time.NewTicker(l.o.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush(context.WithoutCancel(ctx))
			return nil
		case <-ticker.C:
			l.flush(ctx)
		}
	}
}

func (l *RefusalLog) flush(ctx context.Context) {
	for i, status := range [...]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable, 0} {
		b := &l.buckets[i]
		n := b.suppressed.Swap(0)
		if n == 0 {
			continue
		}
		l.write(ctx, b, Refusal{
			Time: l.o.Now(), Status: status, Code: "suppressed", Suppressed: n,
			Message: "refusals above the rate were counted, not recorded",
		})
	}
}

func (l *RefusalLog) write(ctx context.Context, b *refusalBucket, r Refusal) {
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	if err := l.sink.Record(ctx, r); err != nil {
		b.suppressed.Add(r.Suppressed) // to be told of by the next one
		l.lost.Inc()
		l.o.Logger.Error().Err(err).Int("status", r.Status).Str("code", r.Code).Msg("a refusal could not be recorded")
	}
}

func refusalKind(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return refusedCredential
	case http.StatusForbidden:
		return refusedScope
	case 0:
		return refusedHandshake
	}
	return refusedOther
}

// refusalOf describes the request that was refused.
func refusalOf(r *http.Request, req *Request, e *Error) Refusal {
	return Refusal{
		Status: e.Status, Code: e.Code, Message: e.Message,
		Class: req.Class, Listener: req.Listener, Method: cut(r.Method), Path: cut(r.URL.EscapedPath()),
		Caller: req.Caller, Client: req.Client, Correlation: req.Correlation, UserAgent: cut(r.UserAgent()),
	}
}

func cut(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxRefusalText)], "\uFFFD")
}
