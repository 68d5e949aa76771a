package opa

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/middleware"
)

// minRead is the room that a body of unknown length is read into at first.
const minRead = 4096

// BodyError is returned for a body that is longer than its limit.
type BodyError struct {
	Limit        int64
	Decompressed bool   // the limit was passed after decompression
	Key          string // the configuration key of the limit
}

// Error has the words of OPA's error, with our name of the limit.
func (e *BodyError) Error() string {
	what := ""
	if e.Decompressed {
		what = " decompressed size"
	}
	return fmt.Sprintf("request body too large:%s exceeds limit of %d bytes (%s)", what, e.Limit, e.Key)
}

// readDecisionBody appends the body of a decision to buf, decompressed. Its
// errors are those that OPA's clients see.
func (s *Server) readDecisionBody(r *http.Request, buf []byte) ([]byte, error) {
	const key = "limits.request_body"
	limit := s.limits.Load().RequestBody
	raw, err := readBody(r, buf, limit, key)
	if err == nil && isGzip(r) {
		raw, err = gunzip(raw, limit, key)
	}
	if err != nil && !isBound(err) {
		err = fmt.Errorf("could not decompress the body: %w", err)
	}
	return raw, err
}

// isBound tells whether an error is one of a body that is too long or too slow,
// which needs no words around it.
func isBound(err error) bool {
	var long *BodyError
	var large *middleware.BodyTooLargeError
	return errors.As(err, &long) || errors.As(err, &large) || errors.Is(err, os.ErrDeadlineExceeded)
}

// badBody answers a body that could not be read or understood.
func (s *Server) badBody(w http.ResponseWriter, r *http.Request, err error) {
	var large *middleware.BodyTooLargeError
	if errors.As(err, &large) || errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		WriteAPIError(w, r, api.AsError(err))
		return
	}
	s.badRequest(w, r, err.Error())
}

// readWriteBody reads the body of a write into memory of its own. OPA does not
// decompress it.
func (s *Server) readWriteBody(r *http.Request) ([]byte, error) {
	return readBody(r, nil, s.limits.Load().DataBody, "limits.data_body")
}

// readBody appends the body to buf, in one read when its length is known.
func readBody(r *http.Request, buf []byte, limit int64, key string) ([]byte, error) {
	if r.ContentLength > limit {
		return buf, &BodyError{Limit: limit, Key: key}
	}
	if n := int(r.ContentLength); n >= 0 {
		start := len(buf)
		buf = slices.Grow(buf, n)[:start+n]
		read, err := io.ReadFull(r.Body, buf[start:])
		if errors.Is(err, io.EOF) && n > 0 {
			err = io.ErrUnexpectedEOF
		}
		return buf[:start+read], err
	}
	return appendAll(buf, r.Body, limit, &BodyError{Limit: limit, Key: key})
}

// appendAll reads src to its end; more than limit bytes are the error tooLong.
func appendAll(buf []byte, src io.Reader, limit int64, tooLong *BodyError) ([]byte, error) {
	start := len(buf)
	for {
		if cap(buf)-len(buf) == 0 {
			buf = slices.Grow(buf, max(minRead, len(buf)))
		}
		n, err := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)-start) > limit:
			return buf, tooLong
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

func isGzip(r *http.Request) bool {
	return strings.Contains(headerValue(r.Header, "Content-Encoding"), "gzip")
}

// gunzip returns the decompressed bytes, never more than limit of them.
func gunzip(packed []byte, limit int64, key string) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return appendAll(nil, z, limit, &BodyError{Limit: limit, Decompressed: true, Key: key})
}

// headerValue is http.Header.Get for a name that is canonical already.
func headerValue(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
