package replay

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// rest is how long a worker sleeps at a time while decisions are being made.
const rest = time.Millisecond

// run reads blocks, has them evaluated by the workers, and counts what comes
// out, in the order in which they were read: the same log gives the same report.
func (r *Replayer) run(parent context.Context, candidate *eval.Snapshot, q Request) (*Report, error) {
	first, next, err := r.log.Window(parent, q.From, q.To)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(parent)
	read, done := make(chan *block, r.options.Workers), make(chan *block, r.options.Workers)
	// flight bounds the blocks between the reader and the count.
	flight := make(chan struct{}, 4*r.options.Workers)
	group.Go(func() error {
		defer close(read)
		return r.read(ctx, &q, first, next, func(b *block) error {
			select {
			case flight <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			return send(ctx, read, b)
		})
	})
	workers, workCtx := errgroup.WithContext(ctx)
	for i := range r.options.Workers {
		workers.Go(func() error {
			return r.options.Background(func() error { return r.work(workCtx, candidate, &q, i, read, done) })
		})
	}
	group.Go(func() error {
		defer close(done)
		return workers.Wait()
	})
	c := newCounter(candidate, &q, r.options.Now)
	c.total = next - first
	group.Go(func() error { return c.count(done, flight) })
	if err := errors.Join(group.Wait(), parent.Err()); err != nil {
		return nil, err
	}
	return c.finish(), nil
}

// work evaluates blocks until there are none. The workers of the second half
// rest while decisions are being made.
func (r *Replayer) work(ctx context.Context, candidate *eval.Snapshot, q *Request, worker int, read <-chan *block, done chan<- *block) error {
	e := &evaluation{log: r.log, keys: r.options.MaskKeys, candidate: candidate, request: q, reaches: map[string]eval.Reach{}}
	yields := worker >= (r.options.Workers+1)/2
	for b := range read {
		b.outcomes = make([]outcome, len(b.decisions))
		for i := range slices.Backward(b.decisions) {
			for yields && r.engine.Running() > 0 && ctx.Err() == nil {
				time.Sleep(rest)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			o, err := e.replay(ctx, &b.decisions[i])
			if err != nil {
				return err
			}
			b.outcomes[i] = o
		}
		b.decisions = nil
		if err := send(ctx, done, b); err != nil {
			return err
		}
	}
	return nil
}

func send(ctx context.Context, to chan<- *block, b *block) error {
	select {
	case to <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
