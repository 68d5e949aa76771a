package pull

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
)

const (
	// firstBackoff is the time after the first error; it doubles with each.
	firstBackoff = time.Second
	// pollGap is the least time between two questions to a server that waits.
	pollGap = time.Second
	// leastWait is what a server that was asked to wait for longer waits at least.
	leastWait = 30 * time.Second
	// finishTime bounds what is written down of a look that is over, which does
	// not end when the source is not asked any more.
	finishTime = 5 * time.Second
)

// worker asks one source.
type worker struct {
	puller   *Puller
	source   Source
	material *material
	woken    chan struct{} // holds one value when it shall look now

	held  held // owned by the goroutine of start
	told  bool // owned by the same: the log has that it fails
	quick int  // owned by the same: answers in a row of a server that should wait and did not

	mu        sync.Mutex
	status    Status // owned by mu
	interrupt func() // owned by mu; ends the waiting for an answer, nil when nobody waits
}

// held is what came from the source last.
type held struct {
	etag   string
	digest string // of what passed the gates
	// refused is when it was refused; zero: it was not.
	refused time.Time
	// waits says that the server can wait; it is asked to at first.
	waits bool
}

func newWorker(p *Puller, s Source, m *material) *worker {
	shown := *m.url
	shown.RawQuery = ""
	return &worker{
		puller: p, source: s, material: m, woken: make(chan struct{}, 1),
		held:   held{waits: s.LongPolling > 0},
		status: Status{Name: s.Name, URL: shown.String(), State: StateStarting},
	}
}

// start asks until it is stopped, or ctx ends; stop returns once it has.
func (w *worker) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { // ended by stop, which Run calls
		defer close(ended)
		defer w.material.client.CloseIdleConnections()
		w.run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// wake makes it look now, at what was refused too, though it may be waiting for
// an answer.
func (w *worker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.interrupt != nil {
		w.interrupt()
	}
}

// interruptible says how the waiting for an answer ends, nil when it is over.
func (w *worker) interruptible(interrupt func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interrupt = interrupt
	if interrupt != nil && len(w.woken) > 0 {
		interrupt()
	}
}

func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.woken:
			if !w.held.refused.IsZero() {
				w.held = held{waits: w.source.LongPolling > 0}
			}
		case <-timer.C:
		}
		began := w.puller.o.Now()
		w.update(func(s *Status) { s.LastRequest, s.NextRequest = &began, nil })
		found := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(found.err, errWoken) {
			continue
		}
		delay := w.delay(found, w.puller.o.Now().Sub(began))
		w.note(ctx, found, delay)
		timer.Reset(delay)
	}
}

// delay is the time until the next look.
func (w *worker) delay(f finding, took time.Duration) time.Duration {
	if f.result == resultFailed {
		w.quick = 0
		return max(w.backoff(w.shown().Failures+1), min(f.retryAfter, w.source.MaxDelay))
	}
	if f.result == resultRefused || f.result == resultUnconfirmed || !w.held.waits {
		w.quick = 0
		return w.source.MinDelay + time.Duration(w.puller.o.Chance()*float64(w.source.MaxDelay-w.source.MinDelay))
	}
	// The server waits for us. One that should and does not is asked less often.
	if f.result == resultUnchanged && f.asked && took < min(w.source.LongPolling/2, leastWait) {
		w.quick++
		return w.backoff(w.quick)
	}
	w.quick = 0
	return max(0, pollGap-took)
}

// backoff grows with the number of errors, by chance between the half and the
// whole of it, so that many servers do not come back at once.
func (w *worker) backoff(n int) time.Duration {
	most := min(firstBackoff<<min(n-1, 20), w.source.MaxDelay)
	return most/2 + time.Duration(w.puller.o.Chance()*float64(most/2))
}

// note keeps what a look found for those who ask, and tells the log when the
// source begins to fail, or works again.
func (w *worker) note(ctx context.Context, f finding, delay time.Duration) {
	now := w.puller.o.Now()
	next := now.Add(delay)
	again := f.err != nil && w.shown().Failures > 0 && w.shown().LastError == f.err.Error()
	w.update(func(s *Status) {
		s.NextRequest, s.LongPolling, s.ETag = &next, w.held.waits && f.result != resultFailed, w.held.etag
		s.counts.results[f.result]++
		s.counts.bytes += f.bytes
		if f.archive > 0 {
			s.Bytes = f.archive
		}
		switch f.result {
		case resultFailed, resultRefused, resultUnconfirmed:
			s.State, s.LastErrorAt = StateRefused, &now
			if f.result == resultFailed {
				s.State = StateFailing
			}
			s.LastError = f.err.Error()
			s.Failures++
		default:
			s.State, s.LastSuccess, s.Failures = StateOK, &now, 0
			s.Current = f.current
			if f.revision != "" {
				s.Revision, s.Digest = f.revision, w.held.digest
			}
		}
	})
	logger := w.puller.o.Logger.With().Str("bundle", w.source.Name).Logger()
	if again {
		logger = logger.Level(zerolog.ErrorLevel) // said already
	}
	switch f.result {
	case resultFailed:
		logger.Warn().Err(f.err).Dur("next", delay).Msg("a bundle could not be pulled; what is active stays")
		w.tell(ctx, f.err)
	case resultRefused:
		logger.Warn().Err(f.err).Msg("a bundle was pulled and refused; what is active stays")
	case resultUnconfirmed:
		logger.Warn().Err(f.err).Msg("a bundle stays active and gets older")
		w.tell(ctx, f.err)
	case resultActivated:
		logger.Info().Str("revision", f.revision).Msg("a pulled bundle is active")
		w.tell(ctx, nil)
	default:
		w.tell(ctx, nil)
	}
}

// tell records that the source begins to fail or is not confirmed, or with a nil
// error that it works again. What the gates refuse is recorded by them.
func (w *worker) tell(ctx context.Context, failed error) {
	if _, ok := errors.AsType[*bundles.Error](failed); ok || w.told == (failed != nil) {
		return
	}
	r := &audit.Record{
		Type: audit.TypeBundle, Event: audit.EventBundleSource, Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
		Action: "pull", Resource: "bundle:" + w.source.Name, RequestedBy: caller(w.source.Name), Edge: edge,
		Message: "the source is in order again",
	}
	if failed != nil {
		r.Severity, r.Outcome, r.Message = audit.SeverityMedium, audit.OutcomeError, failed.Error()
	}
	ctx, cancel := finish(ctx)
	defer cancel()
	if _, err := w.puller.recorder.Append(ctx, r); err != nil {
		w.puller.o.Logger.Error().Err(err).Str("bundle", w.source.Name).Msg("the state of a source could not be recorded")
		return
	}
	w.told = failed != nil
}

// finish is the context of what is written down of a look that is over.
func finish(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), finishTime)
}

func (w *worker) update(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

func (w *worker) shown() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}
