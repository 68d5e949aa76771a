package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

const (
	// budgetFull is how many retries may follow one another before only every
	// budgetShare-th call may be retried.
	budgetFull  = 10
	budgetShare = 10

	firstBackoff   = 20 * time.Millisecond
	longestBackoff = 500 * time.Millisecond
)

// budget bounds retries to a share of the calls, so that a server in trouble is
// not asked several times as much.
type budget struct {
	mu   sync.Mutex
	left float64 // guarded by mu
}

func newBudget() *budget { return &budget{left: budgetFull} }

// call counts a call.
func (b *budget) call() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(budgetFull, b.left+1.0/budgetShare)
}

// take tells whether there may be one more retry.
func (b *budget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// retryable tells whether an outcome may be another one when it is asked for
// again, and when. A question changes nothing, so that asking twice is safe; what
// is asked for here is that the first did no work or will not be answered.
func retryable(a *answer, err error) (after time.Duration, ok bool) {
	if err != nil {
		return 0, broken(err)
	}
	switch a.status {
	case http.StatusTooManyRequests:
		return retryAfter(a.header), true
	case http.StatusServiceUnavailable:
		after = retryAfter(a.header)
		return after, after > 0 // otherwise it is not known to pass
	}
	return 0, false
}

// broken tells whether a connection could not be made or broke off.
func broken(err error) bool {
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, cause) {
			return true
		}
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// pause is how long to wait before a retry: at least what the server asked for,
// and a random time beyond it that grows, so that callers do not come back
// together.
func pause(attempt int, after time.Duration) time.Duration {
	most := min(firstBackoff<<min(attempt, 10), longestBackoff)
	return after + time.Duration(rand.Int64N(int64(most))+1)
}

// wait waits, unless the context ends before that.
func wait(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
