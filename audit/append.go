package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Append adds a record and returns when it is durable (mode durable), queued
// (queued, then without a receipt) or at once (off). The caller waits until the
// deadline of ctx, without one for Options.QueueWait; a record whose writing has
// begun by then may be in the log all the same.
//
// Errors wrap ErrUnavailable (an *UnavailableError) or ErrRecord.
func (l *Log) Append(ctx context.Context, r *Record) (Receipt, error) {
	if l.opts.Durability == Off {
		return Receipt{}, l.checkOff(r)
	}
	e, patience, err := l.submit(ctx, r, l.opts.Durability == Queued)
	if err != nil {
		return Receipt{}, err
	}
	if l.opts.Durability == Queued {
		l.release(e, 1)
		return Receipt{}, nil
	}
	return l.await(ctx, e, patience)
}

// Submit queues a record, waiting for room as Append does, and returns a ticket
// with which to wait for the disk. With it one caller can have many records on
// their way.
func (l *Log) Submit(ctx context.Context, r *Record) (*Ticket, error) {
	if l.opts.Durability == Off {
		return &Ticket{}, l.checkOff(r)
	}
	e, _, err := l.submit(ctx, r, true)
	if err != nil {
		return nil, err
	}
	if l.opts.Durability == Queued {
		l.release(e, 1)
		return &Ticket{}, nil
	}
	return &Ticket{log: l, entry: e}, nil
}

// checkOff refuses in the mode off what the other modes refuse.
func (l *Log) checkOff(r *Record) error {
	if err := l.refuse.Load(); err != nil {
		return err
	}
	return r.validate()
}

// Ticket stands for a queued record. One goroutine may use it.
type Ticket struct {
	log     *Log
	entry   *entry // nil when there is nothing to wait for (any more)
	receipt Receipt
	err     error
}

// Wait returns as Append does; after the first time it returns the same again.
// A ticket that is never waited for does no harm.
func (t *Ticket) Wait(ctx context.Context) (Receipt, error) {
	if e := t.entry; e != nil {
		t.entry = nil
		t.receipt, t.err = t.log.await(ctx, e, t.log.patience(ctx))
	}
	return t.receipt, t.err
}

// patience is how long to wait where ctx has no deadline; 0: as long as ctx.
func (l *Log) patience(ctx context.Context) time.Duration {
	if _, ok := ctx.Deadline(); ok {
		return 0
	}
	return l.opts.QueueWait
}

// submit encodes the record and hands it in. With admitted it returns only when
// the entry is in the queue. The patience is what is left of it for await.
func (l *Log) submit(ctx context.Context, r *Record, admitted bool) (*entry, time.Duration, error) {
	if err := l.refuse.Load(); err != nil {
		l.metrics.refused(err)
		return nil, 0, err
	}
	e := l.newEntry()
	if err := e.encode(r); err != nil {
		l.release(e, 2)
		return nil, 0, err
	}
	e.since = l.opts.Now()
	patience := l.patience(ctx)
	in, err := l.queue.push(e, admitted)
	if err != nil {
		l.release(e, 2)
		l.metrics.refused(err)
		return nil, 0, err
	}
	if in || !admitted {
		return e, patience, nil
	}
	// The token is that of the admission, or of the end when the log gives up.
	if err := l.wait(ctx, e, patience); err != nil {
		return nil, 0, err
	}
	if !l.queue.admitted(e) {
		err := e.err
		l.release(e, 1)
		l.metrics.refused(err)
		return nil, 0, err
	}
	return e, patience, nil
}

// await waits for the writer and returns what it said.
func (l *Log) await(ctx context.Context, e *entry, patience time.Duration) (Receipt, error) {
	if err := l.wait(ctx, e, patience); err != nil {
		return Receipt{}, err
	}
	receipt, err := e.receipt, e.err
	l.release(e, 1)
	if err != nil {
		l.metrics.refused(err)
		return Receipt{}, err
	}
	return receipt, nil
}

// wait waits for a token of the entry. On an error the caller's hold is gone.
func (l *Log) wait(ctx context.Context, e *entry, patience time.Duration) error {
	var expired <-chan time.Time
	if patience > 0 {
		e.timer.Reset(patience)
		expired = e.timer.C
	}
	var cause error
	select {
	case <-e.done:
		if patience > 0 {
			e.timer.Stop()
		}
		return nil
	case <-expired:
		cause = fmt.Errorf("no answer within %v", patience)
	case <-ctx.Done():
		if patience > 0 {
			e.timer.Stop()
		}
		cause = ctx.Err()
	}
	err := &UnavailableError{Reason: ReasonQueueFull, RetryAfter: time.Second, Err: cause}
	switch l.queue.withdraw(e) {
	case placeOutside:
		l.release(e, 2)
	case placeQueued:
		l.release(e, 1)
	default:
		select {
		case <-e.done: // it came while we gave up
			return nil
		default:
		}
		err.Reason = ReasonTimeout
		l.release(e, 1)
	}
	l.metrics.refused(err)
	return err
}

// asUnavailable finds the reason of an error.
func asUnavailable(err error) (*UnavailableError, bool) {
	var u *UnavailableError
	ok := errors.As(err, &u)
	return u, ok
}
