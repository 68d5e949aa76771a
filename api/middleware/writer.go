// Package middleware holds what every request goes through, one idea a file,
// each a plain func(http.Handler) http.Handler. What a middleware finds out it
// hands to a function; it puts nothing into the context of a request.
package middleware

import (
	"net/http"
	"time"
)

// WriteStall is how long a client may take for what is being written to it.
// Servers set it as their WriteTimeout; a Writer pushes the deadline on for as
// long as something is written.
const WriteStall = 30 * time.Second

const (
	// extendAfter is the time after which an answer needs a later deadline.
	extendAfter = 5 * time.Second
	// extendEvery is the number of bytes after which it needs another one.
	extendEvery = 64 << 10
)

// Writer is the answer under way: it remembers status and size, which recovery,
// metrics and the audit log ask for. The middlewares of this package share the
// one that the outermost of them made.
type Writer struct {
	http.ResponseWriter
	// Start is when the request came in.
	Start time.Time

	status   int
	written  int64
	extended int64 // written when the deadline was last pushed on
	body     boundedBody
}

// Wrap returns w itself when it is a *Writer and a new one around it otherwise.
func Wrap(w http.ResponseWriter) *Writer {
	if wrapped, ok := w.(*Writer); ok {
		return wrapped
	}
	return &Writer{ResponseWriter: w, Start: time.Now()}
}

// Status is the status that was sent, 0 before the header was.
func (w *Writer) Status() int { return w.status }

// Written is the number of bytes of the body so far.
func (w *Writer) Written() int64 { return w.written }

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
		if time.Since(w.Start) > extendAfter {
			w.extend()
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *Writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.written-w.extended >= extendEvery {
		w.extend()
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Flush implements http.Flusher for answers that are streams.
func (w *Writer) Flush() {
	w.extend()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // not every writer can
}

// Unwrap lets http.ResponseController find what is below.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *Writer) extend() {
	w.extended = w.written
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(WriteStall)) // nor this
}
