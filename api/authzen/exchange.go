package authzen

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const (
	// minRead is the room that a body of unknown length is read into at first.
	minRead = 4096
	// maxKept is the largest buffer that is kept for the next request.
	maxKept = 256 << 10
	// maxRequestID bounds the request identifiers that are recorded, in bytes.
	maxRequestID = 128
)

// exchange is the memory of one request.
type exchange struct {
	in, out []byte
	query   pdp.Query
}

func (s *Server) newExchange() *exchange { return s.exchanges.Get().(*exchange) }

func (s *Server) release(ex *exchange) {
	if cap(ex.in) > maxKept || cap(ex.out) > maxKept {
		return
	}
	ex.in, ex.out, ex.query = ex.in[:0], ex.out[:0], pdp.Query{}
	s.exchanges.Put(ex)
}

// requestError is an answer with a status of its own to a request that cannot be
// answered otherwise.
type requestError struct {
	status  int
	message string
}

func (e *requestError) Error() string { return e.message }

func badRequest(message string) *requestError {
	return &requestError{status: http.StatusBadRequest, message: message}
}

// document reads the body of a request, which must be one JSON object. wrapping
// is how deep the evaluation objects stand in it.
func (s *Server) document(ex *exchange, r *http.Request, wrapping int) (ast.Object, error) {
	if !isJSON(r.Header["Content-Type"]) {
		return nil, badRequest("the content type must be application/json")
	}
	if coding := r.Header["Content-Encoding"]; len(coding) > 0 && coding[0] != "identity" {
		return nil, badRequest("the body must not be encoded")
	}
	var err error
	if ex.in, err = readAll(r, ex.in[:0]); err != nil {
		return nil, err
	}
	l := s.limits.Load()
	doc, n, perr := eval.ParseInput(ex.in, eval.Limits{Depth: l.Depth + wrapping, Members: l.Members})
	switch {
	case perr != nil && len(ex.in) == 0:
		return nil, badRequest("the body is empty")
	case perr != nil:
		return nil, badRequest("the body is not JSON that can be read: " + perr.Error())
	case !blank(ex.in[n:]):
		return nil, badRequest("the body goes on behind its JSON object")
	}
	obj, ok := doc.(ast.Object)
	if !ok {
		return nil, badRequest("the body must be a JSON object")
	}
	return obj, nil
}

// isJSON tells whether the header names JSON, whatever its parameters.
func isJSON(header []string) bool {
	if len(header) != 1 {
		return false
	}
	if header[0] == "application/json" {
		return true
	}
	kind, _, err := mime.ParseMediaType(header[0])
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && kind == "application/json"
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}

// readAll appends the body to buf, in one read when its length is known. The
// guard of the route has bounded it.
func readAll(r *http.Request, buf []byte) ([]byte, error) {
	if n := int(r.ContentLength); n >= 0 {
		buf = slices.Grow(buf, n)[:n]
		read, err := io.ReadFull(r.Body, buf)
		return buf[:read], bodyError(err)
	}
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(minRead, len(buf)))
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, bodyError(err)
		}
	}
}

// bodyError is what a caller hears of a body that could not be read.
func bodyError(err error) error {
	var large *middleware.BodyTooLargeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large), errors.Is(err, os.ErrDeadlineExceeded):
		return api.AsError(err)
	}
	return badRequest("the body could not be read")
}

// sign writes into a query what every question shares: what is asked, by whom.
func (s *Server) sign(q *pdp.Query, r *http.Request) {
	*q = pdp.Query{Edge: Edge, Path: s.options.Path}
	if agent := r.Header["User-Agent"]; len(agent) > 0 {
		q.UserAgent = agent[0]
	}
	if x := api.FromContext(r.Context()); x != nil {
		q.Caller, q.ClientIP, q.CorrelationID, q.TraceID = x.Caller.Name, x.Client.IP(), x.ID, x.TraceID
	}
	if id := r.Header["X-Request-Id"]; q.CorrelationID == "" && len(id) > 0 && len(id[0]) <= maxRequestID {
		q.CorrelationID = id[0] // an arbitrary string here, escaped in the record
	}
}
