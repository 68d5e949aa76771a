package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/verdict-pdp/verdict/api"
)

const (
	// streamIdle is how long a stream's reader may stall.
	streamIdle = 30 * time.Second
	// standingEvery is how often the caller of a stream is looked at again.
	standingEvery = time.Second
)

var (
	// errReader is returned when the reader of a stream is gone, or has stalled for
	// too long.
	errReader = errors.New("nobody reads the stream")
	// errStopping ends streams when the server stops.
	errStopping = errors.New("the server stops")
)

// streaming is the request's context, ended also when the server stops and when
// the caller would not be let in any more: a stream has no end of its own to
// wait for. The caller calls end before it returns.
func (s *Server) streaming(r *http.Request) (ctx context.Context, end context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(r.Context())
	ended := make(chan struct{})
	again := time.NewTicker(standingEvery)
	go func() { // ended by ctx
		defer close(ended)
		defer again.Stop()
		for {
			select {
			case <-s.o.Stopping:
				cancel(errStopping)
				return
			case <-again.C:
				if refused := api.Standing(r); refused != nil {
					cancel(refused)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func(cause error) {
		cancel(cause)
		if cause == nil {
			<-ended
		}
	}
}

// endedBy is what a reader is told of why its stream ended; empty: nobody is
// there to be told, or it did not end.
func endedBy(ctx context.Context) string {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStopping):
		return "the server stops"
	case isRefusal(cause):
		return "the caller may not ask any more"
	}
	return ""
}

// ending logs why a line could not be made, unless nobody reads, and ends the
// stream.
func (s *Server) ending(end context.CancelCauseFunc, err error, doing string) {
	if !errors.Is(err, errReader) {
		s.o.Logger.Error().Err(err).Msg(doing)
	}
	end(err)
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*api.Error](err)
	return ok
}

// lines writes newline-delimited JSON to a client and gives up on one that
// does not read.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newLines(w http.ResponseWriter) *lines {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &lines{w: w, control: http.NewResponseController(w)}
}

// object writes an object of one member, and flushes.
func (l *lines) object(name string, v any) error {
	body, err := json.Marshal(map[string]any{name: v})
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return l.write(body, true)
}

// write writes a line. When that fails nobody reads any more, and nothing more
// should be written: the error is errReader.
func (l *lines) write(line []byte, flush bool) error {
	if err := l.put(line, flush); err != nil {
		return fmt.Errorf("%w: %w", errReader, err)
	}
	return nil
}

func (l *lines) put(line []byte, flush bool) error {
	if err := l.control.SetWriteDeadline(time.Now().Add(streamIdle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set write deadline: %w", err)
	}
	if _, err := l.w.Write(append(line[:len(line):len(line)], '\n')); err != nil {
		return fmt.Errorf("write line: %w", err)
	}
	if !flush {
		return nil
	}
	if err := l.control.Flush(); err != nil {
		return fmt.Errorf("flush line: %w", err)
	}
	return l.rest()
}

// rest lets the stream stand idle between two lines: in HTTP/2 a deadline that
// passes ends a stream even when nothing is being written.
func (l *lines) rest() error {
	if err := l.control.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("clear write deadline: %w", err)
	}
	return nil
}

// end bounds what net/http still writes at the end of the answer.
func (l *lines) end() { _ = l.control.SetWriteDeadline(time.Now().Add(streamIdle)) } // the client may be gone
