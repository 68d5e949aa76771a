package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Log is the audit log. Its methods may be called by any goroutine.
type Log struct {
	store   Store
	opts    Options
	queue   *queue
	pool    sync.Pool // of *entry; not shared, so that channels and timers stay with their log
	metrics *metrics

	// refuse is what Submit answers without queueing, nil in good times.
	refuse atomic.Pointer[UnavailableError]

	seq   *sequencer // the writer's: Open, then Run
	epoch uint64     // number of this run's system.start record, set by Open

	mu       sync.Mutex
	next     uint64        // what readers may see
	last     Receipt       // of the newest durable record
	position Position      // after it
	changed  chan struct{} // closed and replaced when next grows, nil while nobody waits
	poison   error
	lastErr  string
	lastAt   time.Time // of lastErr
	running  bool
	closed   bool
	watch    watch // what the monitor saw last

	poisoned chan struct{} // closed once poison is set
	stop     chan struct{} // closed by Close
	stopOnce sync.Once
	stopped  chan struct{} // closed when Run has returned
	readers  sync.WaitGroup
}

// Open takes over the store and records that this run begins: system.genesis when
// the log is new, then system.start. The log accepts records at once; they become
// durable while Run runs. After an error the store is the caller's to close.
func Open(store Store, o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Log{
		store:    store,
		opts:     o,
		queue:    newQueue(o.QueueRecords, o.QueueBytes),
		poisoned: make(chan struct{}),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	l.metrics = newMetrics(l)
	if l.seq, err = newSequencer(store, o.Now); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l.position = store.Position()
	l.next = l.position.Next
	if err := l.begin(); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l.look()
	return l, nil
}

// Run owns the writer and the monitor; records become durable while it runs. It
// may be called once.
//
// When ctx ends or Close is called it refuses new records (closed), fails those
// that wait for room, makes durable what is queued, records system.shutdown and
// returns nil. When a write fails it fails all waiting callers at once and
// returns, after Options.PoisonLinger or the end of ctx, an error that wraps
// ErrPoisoned.
func (l *Log) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.running || l.closed {
		l.mu.Unlock()
		return errors.New("audit log: Run may be called once, before Close")
	}
	l.running = true
	l.mu.Unlock()
	defer close(l.stopped)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var monitor sync.WaitGroup
	monitor.Go(func() { l.monitor(ctx) }) // ends with ctx, which ends with Run
	defer monitor.Wait()
	defer cancel()

	l.write(ctx)
	if err := l.Poisoned(); err != nil {
		linger := time.NewTimer(l.opts.PoisonLinger)
		defer linger.Stop()
		select {
		case <-linger.C:
		case <-ctx.Done():
		case <-l.stop:
		}
		return err
	}
	return l.end()
}

// Close ends Run, waits for it and for running reads, and closes the store.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	running := l.running
	l.mu.Unlock()
	l.stopOnce.Do(func() { close(l.stop) })
	if running {
		<-l.stopped
	} else {
		l.refuse.CompareAndSwap(nil, &UnavailableError{Reason: ReasonClosed})
		l.finishAll(l.queue.fail(l.closedError()), l.closedError())
	}
	l.readers.Wait()
	if err := l.store.Close(); err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}

// Poisoned returns nil, or why the log is poisoned: an error that wraps
// ErrPoisoned and the cause.
func (l *Log) Poisoned() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.poison
}

// Healthy returns nil when records can be appended.
func (l *Log) Healthy() error {
	if err := l.Poisoned(); err != nil {
		return err
	}
	if err := l.refuse.Load(); err != nil {
		return err
	}
	return nil
}

// setPoison poisons the log; the first cause stands. Whoever waits is failed by
// the time it returns, but for the group in the writer's hands.
func (l *Log) setPoison(cause error) {
	l.mu.Lock()
	if l.poison != nil {
		l.mu.Unlock()
		return
	}
	l.poison = fmt.Errorf("%w: %w", ErrPoisoned, cause)
	l.lastErr, l.lastAt = cause.Error(), l.opts.Now()
	err := &UnavailableError{Reason: ReasonPoisoned, RetryAfter: l.opts.PoisonLinger, Err: l.poison}
	l.refuse.Store(err)
	close(l.poisoned)
	l.mu.Unlock()
	l.metrics.errors.Inc()
	l.opts.Logger.Error().Err(cause).Msg("audit log poisoned: nothing is answered until a restart")
	l.finishAll(l.queue.fail(err), err)
}

func (l *Log) closedError() *UnavailableError {
	return &UnavailableError{Reason: ReasonClosed, RetryAfter: time.Second}
}

func (l *Log) finishAll(entries []*entry, err error) {
	for _, e := range entries {
		e.finish(err)
		l.release(e, 1)
	}
}
