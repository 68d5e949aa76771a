package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/verdict-pdp/verdict/storage"
)

// Bounds of one commit; what waits beyond them is for the next. With one batch
// more they are below DefaultWatchEvents and DefaultWatchBytes, so that no
// commit alone ends a watcher.
const (
	groupOps   = 4096
	groupBytes = 2 << 20
)

// request is one batch that waits for a commit.
type request struct {
	bucket *Bucket
	ops    []storage.Op
	size   int

	done      chan struct{} // closed when the results stand
	revisions []uint64
	err       error
}

// queue holds requests in the order of their arrival.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	err     error // why nothing more is taken in
}

func (q *queue) add(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.waiting = append(q.waiting, r)
	}
	return q.err
}

// withdraw takes the request back, unless a commit has it already.
func (q *queue) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, r)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// take removes what one commit may hold.
func (q *queue) take() []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ops, size := 0, 0, 0
	for ; n < len(q.waiting) && (n == 0 || ops < groupOps && size < groupBytes); n++ {
		ops += len(q.waiting[n].ops)
		size += q.waiting[n].size
	}
	group := q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return group
}

// end fails what waits and all that comes. The first error stays.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	for _, r := range q.waiting {
		r.err = q.err
		close(r.done)
	}
	q.waiting = nil
}

// Apply applies the operations as storage.Bucket says. Batches that wait at the
// same time share one commit: whoever gets the turn commits for all. When ctx
// ends the batch was not applied, or its result is returned.
func (b *Bucket) Apply(ctx context.Context, ops ...storage.Op) ([]uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := storage.CheckOps(ops); err != nil {
		return nil, err
	}
	r := &request{bucket: b, ops: ops, done: make(chan struct{})}
	for i := range ops {
		r.size += len(ops[i].Key) + len(ops[i].Value)
	}
	s := b.store
	if err := s.queue.add(r); err != nil {
		return nil, fmt.Errorf("write to %s: %w", b.name, err)
	}
	for waiting := true; waiting; {
		select {
		case <-r.done:
			waiting = false
		case s.turn <- struct{}{}:
			s.commitGroup(s.queue.take())
			<-s.turn
		case <-ctx.Done():
			if s.queue.withdraw(r) {
				return nil, ctx.Err()
			}
			<-r.done // a commit has it
			waiting = false
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("write to %s: %w", b.name, r.err)
	}
	return r.revisions, nil
}

// commitGroup commits the requests and answers each. The caller has the turn.
func (s *Store) commitGroup(group []*request) {
	if len(group) == 0 {
		return
	}
	err := s.commit(func(w *writer) error {
		for _, r := range group {
			if err := w.apply(r); err != nil {
				return err
			}
		}
		return nil
	})
	for _, r := range group {
		if err != nil {
			r.err = err
		}
		if errors.Is(r.err, storage.ErrConflict) {
			s.metrics.conflicts.Inc()
		}
		if r.err != nil {
			r.revisions = nil
		}
		close(r.done)
	}
}

// errNothing ends a transaction that changed nothing.
var errNothing = errors.New("nothing to commit")

// commit runs fn in a write transaction, makes it durable and tells the
// watchers. The caller has the turn.
func (s *Store) commit(fn func(*writer) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	before, err := s.file.txid()
	if err != nil {
		return s.broken(err)
	}
	start := time.Now()
	w := &writer{now: s.opts.Now(), events: map[*Bucket][]storage.Event{}}
	err = s.file.update(func(tx *bolt.Tx) error {
		w.tx = tx
		if err := fn(w); err != nil {
			return err
		}
		if w.ops == 0 {
			return errNothing
		}
		if s.faults.before != nil {
			return s.faults.before()
		}
		return nil
	})
	if err == nil && s.faults.after != nil {
		err = s.faults.after()
	}
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return s.settle(err, before)
	}
	s.metrics.committed(w.ops, time.Since(start))
	for b, events := range w.events {
		b.changes.publish(events)
	}
	return nil
}

// settle says what a failed commit means. bbolt writes to free pages, syncs, and
// only then writes a meta page with the transaction's number. If the number did
// not move, nothing that is in use was touched, and the next commit may try
// again, for example when a full disk has room. If it moved, the page was
// written but not synced: nobody knows what is on disk, and the store is of no
// use until it is opened again.
func (s *Store) settle(err error, before int) error {
	s.metrics.failures.Inc()
	if s.file.bolt.Stuck() || errors.Is(err, storage.ErrDamaged) {
		return s.broken(err)
	}
	after, viewErr := s.file.txid()
	if viewErr != nil {
		return s.broken(errors.Join(err, viewErr))
	}
	if after != before {
		s.fail(fmt.Errorf("%w: a write failed: %w", storage.ErrUnavailable, err))
		return fmt.Errorf("%w: %w", storage.ErrUncertain, err)
	}
	return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
}

// broken makes the store unusable for a reason that leaves open what is on disk.
func (s *Store) broken(err error) error {
	s.fail(fmt.Errorf("%w: %w", storage.ErrUnavailable, err))
	return fmt.Errorf("%w: %w", storage.ErrUncertain, err)
}
