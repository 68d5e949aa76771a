package middleware

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// Bounds on how slowly a body may come. Servers set BodyGrace as their
// ReadTimeout; a bounded body pushes the deadline on as bytes arrive, so that
// one of 64 MiB has the time it needs and one that trickles has not.
const (
	BodyGrace    = 10 * time.Second
	BodyRate     = 16 << 10 // bytes per second
	bodyMarkStep = 64 << 10 // how often the deadline is pushed on, in bytes
)

// BodyTooLargeError is returned when a body is larger than its bound, by the
// Read that meets it.
type BodyTooLargeError struct{ Limit int64 }

func (e *BodyTooLargeError) Error() string {
	return fmt.Sprintf("request body is larger than %d bytes", e.Limit)
}

// BodyLimit bounds the body of a request to what limit says when it arrives.
// One that announces more is given to tooLarge and never read; one that turns
// out to be longer fails with a *BodyTooLargeError when it is read, and so does
// every one when tooLarge is nil.
func BodyLimit(limit func() int64, tooLarge func(http.ResponseWriter, *http.Request, *BodyTooLargeError)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Body == nil || r.Body == http.NoBody {
				next.ServeHTTP(w, r)
				return
			}
			n := limit()
			if r.ContentLength > n && tooLarge != nil {
				if r.ProtoMajor == 1 {
					w.Header().Set("Connection", "close") // what follows is not worth reading
				}
				tooLarge(w, r, &BodyTooLargeError{Limit: n})
				return
			}
			wrapped := Wrap(w)
			wrapped.body = boundedBody{
				ReadCloser: r.Body, w: wrapped.ResponseWriter, start: wrapped.Start,
				limit: n, left: n, mark: bodyMarkStep,
			}
			r.Body = &wrapped.body
			next.ServeHTTP(wrapped, r)
		})
	}
}

// boundedBody lives inside a Writer, so that it costs no allocation.
type boundedBody struct {
	io.ReadCloser
	w           http.ResponseWriter
	start       time.Time
	limit, left int64
	mark        int64 // bytes read at which the deadline is pushed on
	err         error
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if read := b.limit - b.left; read >= b.mark {
		b.mark = read + bodyMarkStep
		until := b.start.Add(BodyGrace + time.Duration(read)*time.Second/BodyRate)
		_ = http.NewResponseController(b.w).SetReadDeadline(until) // not every writer can
	}
	if int64(len(p))-1 > b.left {
		p = p[:b.left+1] // one more, to tell the end from too much
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		err = &BodyTooLargeError{Limit: b.limit}
	}
	b.left -= int64(n)
	b.err = err
	return n, err
}
