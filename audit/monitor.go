package audit

import (
	"context"
	"fmt"
	"time"
)

// Growth is measured over a sliding day, with a sample every ten minutes.
const (
	growthStep   = 10 * time.Minute
	growthWindow = 24 * time.Hour
	// growthMin is the time below which no growth is given: it would be noise.
	growthMin = time.Minute
)

// watch is what the monitor saw last; Log.mu owns it.
type watch struct {
	files   []File
	used    uint64
	free    uint64
	freeOK  bool // free is known
	low     bool // free is below twice the minimum
	samples []sample
}

type sample struct {
	at   time.Time
	used uint64
}

// monitor looks at files and free space until ctx ends. Only Run calls it.
func (l *Log) monitor(ctx context.Context) {
	ticker := time.NewTicker(l.opts.MonitorInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.look()
		case <-ctx.Done():
			return
		case <-l.stop:
			return
		case <-l.poisoned:
			return
		}
	}
}

// look looks once: files that were taken away poison the log, too little free
// space makes it refuse records until there is enough again.
func (l *Log) look() {
	in, err := l.store.Inspect()
	if err != nil {
		l.setPoison(fmt.Errorf("inspect the files: %w", err))
		return
	}
	l.mu.Lock()
	l.watch.files, l.watch.used = in.Files, in.Used
	l.watch.sample(l.opts.Now(), in.Used)
	l.mu.Unlock()
	if l.opts.Free == nil {
		return
	}
	free, err := l.opts.Free()
	if err != nil {
		// Not knowing is no reason to stop: a full disk still fails the write.
		l.noteError(fmt.Errorf("read free space: %w", err))
		return
	}
	l.space(free)
}

// space acts on the free bytes.
func (l *Log) space(free uint64) {
	least := l.opts.MinFreeBytes
	low := free < 2*least
	l.mu.Lock()
	was := l.watch.low
	l.watch.free, l.watch.freeOK, l.watch.low = free, true, low
	l.mu.Unlock()
	if low && !was {
		l.opts.Logger.Warn().Uint64("free_bytes", free).Uint64("min_free_bytes", least).
			Msg("audit log: disk space runs low")
	}
	refused := l.refuse.Load()
	full := refused != nil && refused.Reason == ReasonDiskFull
	switch {
	case free < least && refused == nil:
		err := fmt.Errorf("%d bytes free, %d wanted", free, least)
		if l.refuse.CompareAndSwap(nil, &UnavailableError{
			Reason: ReasonDiskFull, RetryAfter: l.opts.MonitorInterval, Err: err,
		}) {
			l.noteError(err)
			l.opts.Logger.Error().Err(err).Msg("audit log: disk full, nothing is answered")
		}
	case free >= least && full:
		if l.refuse.CompareAndSwap(refused, nil) {
			l.opts.Logger.Info().Uint64("free_bytes", free).Msg("audit log: disk space is back")
		}
	}
}

// noteError keeps an error for Status.
func (l *Log) noteError(err error) {
	l.metrics.errors.Inc()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr, l.lastAt = err.Error(), l.opts.Now()
}

// sample notes the size, at most once a growthStep, and forgets what is older
// than the window.
func (w *watch) sample(at time.Time, used uint64) {
	if n := len(w.samples); n > 0 && at.Sub(w.samples[n-1].at) < growthStep {
		return
	}
	for len(w.samples) > 1 && at.Sub(w.samples[1].at) >= growthWindow {
		w.samples = w.samples[1:]
	}
	w.samples = append(w.samples, sample{at: at, used: used})
}

// growth returns the bytes per day by which the log grows, by the samples.
func (w *watch) growth(now time.Time) float64 {
	if len(w.samples) == 0 {
		return 0
	}
	first := w.samples[0]
	span := now.Sub(first.at)
	if span < growthMin || w.used < first.used {
		return 0
	}
	return float64(w.used-first.used) / span.Hours() * 24
}
