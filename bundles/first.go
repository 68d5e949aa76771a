package bundles

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// errFirst is why the gates of an activation are given up.
var errFirst = errors.New("something is being taken back")

// precedence lets what takes something back, a rollback or the end of a trial,
// go before an activation whose gates may take minutes.
type precedence struct {
	waiting atomic.Int32 // that take back
	judging atomic.Pointer[context.CancelCauseFunc]
}

// lockFirst is lock for what takes something back.
func (s *Service) lockFirst(ctx context.Context) (unlock func(), err error) {
	s.first.waiting.Add(1)
	defer s.first.waiting.Add(-1)
	if give := s.first.judging.Load(); give != nil {
		(*give)(errFirst)
	}
	return lock(ctx, s.changing)
}

// giveWay returns a context that ends when something is to be taken back. The
// holder of changing calls it, and done.
func (s *Service) giveWay(ctx context.Context) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.first.judging.Store(&cancel)
	if s.first.waiting.Load() > 0 {
		cancel(errFirst)
	}
	return ctx, func() {
		s.first.judging.Store(nil)
		cancel(nil)
	}
}

// gaveWay is the error of an activation whose gates failed with refused, when
// they did because something was taken back.
func gaveWay(ctx context.Context, refused *Error) *Error {
	if !errors.Is(context.Cause(ctx), errFirst) {
		return refused
	}
	return &Error{
		Code: CodeBusy, Gate: refused.Gate, RetryAfter: time.Second, Err: refused.Err,
		Message: "a rollback, or the end of a trial, went first; nothing was judged",
	}
}
