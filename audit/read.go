package audit

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/verdict-pdp/verdict/audit/chain"
)

// searchSlack is how far the time of a decision's record may lie from the time in
// its id, besides the time that it may wait in the queue.
const searchSlack = 2 * time.Second

// Record returns the bytes of a record, or ErrNotFound.
func (l *Log) Record(seq uint64) ([]byte, error) {
	if err := l.reading(); err != nil {
		return nil, err
	}
	defer l.readers.Done()
	return l.store.Record(seq)
}

// Blob returns the bytes that a record refers to by their SHA-256, or ErrNotFound.
func (l *Log) Blob(sum chain.Hash) ([]byte, error) {
	if err := l.reading(); err != nil {
		return nil, err
	}
	defer l.readers.Done()
	return l.store.Blob(sum)
}

// Find returns the record of a decision by its id, or ErrNotFound. The id must be
// a UUIDv7: its time tells where to look, there is no index. A record that was
// written around a jump of the wall clock by more than seconds may be missed.
func (l *Log) Find(ctx context.Context, decisionID string) (uint64, []byte, error) {
	id, err := uuid.Parse(decisionID)
	if err != nil || id.Version() != 7 || id.String() != decisionID {
		return 0, nil, fmt.Errorf("find decision %q: not a UUIDv7 in its usual form: %w", decisionID, ErrNotFound)
	}
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	at := time.UnixMilli(ms)
	if err := l.reading(); err != nil {
		return 0, nil, err
	}
	defer l.readers.Done()
	seq, rec, err := l.store.Search(ctx, at.Add(-searchSlack), at.Add(searchSlack+l.opts.QueueWait),
		func(rec []byte) bool { return hasDecisionID(rec, decisionID) })
	if err != nil {
		return 0, nil, fmt.Errorf("find decision %s: %w", decisionID, err)
	}
	return seq, rec, nil
}

// hasDecisionID tells whether the record's own decision_id is id. It stands right
// behind the outcome, and before that no member holds foreign text.
func hasDecisionID(rec []byte, id string) bool {
	_, rest, ok := bytes.Cut(rec, []byte(`,"outcome":"`))
	if !ok {
		return false
	}
	if _, rest, ok = bytes.Cut(rest, []byte(`"`)); !ok {
		return false
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`,"decision_id":"`))
	return ok && len(rest) > len(id) && string(rest[:len(id)]) == id && rest[len(id)] == '"'
}

// Tail calls fn for every record from the number from on, and then for each new
// one when it is durable, until ctx ends (nil), fn returns an error (that error)
// or the log is closed (ErrClosed). rec is valid during the call only. A slow fn
// delays nobody.
func (l *Log) Tail(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error {
	for {
		next, changed, err := l.following()
		if err != nil {
			return err
		}
		if from < next {
			err := l.store.Scan(ctx, from, func(seq uint64, rec []byte) error {
				from = seq + 1
				return fn(seq, rec)
			})
			l.readers.Done()
			if err != nil && ctx.Err() == nil {
				return err
			}
		} else {
			l.readers.Done()
		}
		if ctx.Err() != nil {
			return nil
		}
		if from < next {
			return fmt.Errorf("record %d: %w", from, ErrNotFound)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		case <-l.stop:
			return ErrClosed
		}
	}
}

// Scan calls fn for every durable record from the number from on. See Tail.
func (l *Log) Scan(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error {
	if err := l.reading(); err != nil {
		return err
	}
	defer l.readers.Done()
	return l.store.Scan(ctx, from, fn)
}

// Window returns a range of sequence numbers [first, next) outside of which no
// record has a time in [from, to]; the zero time stands for no bound. Records in
// the range may have other times, since the wall clock can be set.
func (l *Log) Window(ctx context.Context, from, to time.Time) (first, next uint64, err error) {
	if err := l.reading(); err != nil {
		return 0, 0, err
	}
	defer l.readers.Done()
	if to.IsZero() {
		to = time.UnixMicro(math.MaxInt64)
	}
	first, next, err = l.store.Window(ctx, from, to)
	if err != nil {
		return 0, 0, fmt.Errorf("find records by time: %w", err)
	}
	return first, next, nil
}

// following is reading, and returns how far the log goes and what is closed when
// it goes further.
func (l *Log) following() (next uint64, changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, nil, ErrClosed
	}
	l.readers.Add(1)
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.next, l.changed, nil
}

// reading keeps Close from closing the store until readers.Done.
func (l *Log) reading() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.readers.Add(1)
	return nil
}
