// Package native is verdict's own API below /api/v1: what the server is doing,
// the audit log record by record, and the bundles that decide. Errors are RFC
// 9457 problems.
package native

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/internal/problem"
	"github.com/verdict-pdp/verdict/keys/cert"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// Log is the audit log as this API needs it.
type Log interface {
	// Record returns the bytes of one record, or audit.ErrNotFound.
	Record(seq uint64) ([]byte, error)
	// Find returns the record of a decision, or audit.ErrNotFound.
	Find(ctx context.Context, decisionID string) (uint64, []byte, error)
	// Tail calls fn for each record from seq on and follows the log until ctx
	// ends or fn returns an error.
	Tail(ctx context.Context, from uint64, fn func(seq uint64, rec []byte) error) error
	// Append makes a record durable.
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
	// Status tells how far the log goes.
	Status() audit.Status
}

// Verifier verifies the live log. Progress is called now and then with a value
// that encodes as JSON; so does the report.
type Verifier func(ctx context.Context, progress func(any)) (report any, err error)

// Options are what the API shows and asks. Log, Status and Verify
// are required.
type Options struct {
	Log     Log
	Status  func() any // encodes as JSON
	Verify  Verifier
	Bundles *bundles.Service // nil: there are no routes for bundles
	// Replayer replays recorded decisions on revisions; nil: there is no route
	// for that.
	Replayer *replay.Replayer
	// Certificates is the inventory of certificates; nil: there are no routes for
	// it.
	Certificates *cert.Registry
	// Previews answers previews; nil: there is no route for them.
	Previews Previewer
	Limits   Limits // of previews; its Depth is of documents to encrypt too
	Keys     *Keys  // nil: there are no routes for keys
	// Encryption encrypts and decrypts; nil: there are no routes for that.
	Encryption *service.Service
	Jobs       *service.Jobs // of re-encryption; nil: there are none
	// OpenAPI is the description of all routes; nil: it is not served.
	OpenAPI []byte
	// KeySet has the public keys of what verdict signs; nil: they are not
	// served.
	KeySet KeySet
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Stopping ends streams when it is closed; nil: only their requests do.
	Stopping <-chan struct{}
	Logger   zerolog.Logger
}

// Server serves /api/v1.
type Server struct {
	o         Options
	verifying atomic.Bool  // a verification runs
	replaying atomic.Bool  // a replay runs
	following atomic.Int32 // streams that follow the log
	limits    atomic.Pointer[Limits]

	keysFailed atomic.Pointer[keySetFailure] // the last one
	keyChanges sync.Mutex                    // held while a key is changed
}

// New returns the API.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o}
	s.SetLimits(o.Limits)
	return s
}

// Require makes the guard of a kind of routes; api.Gate.Require is one.
type Require func(api.Route) func(http.Handler) http.Handler

// Mount adds the routes to r.
func (s *Server) Mount(r chi.Router, require Require) {
	get := func(pattern string, class api.Class, h http.HandlerFunc) {
		r.With(require(api.Route{Class: class, Handler: "api/v1"})).Get(pattern, h)
	}
	get("/api/v1/status", api.ClassStatus, s.status)
	get("/api/v1/decisions/{id}", api.ClassAudit, s.decision)
	get("/api/v1/audit/records", api.ClassAudit, s.records)
	get("/api/v1/audit/records/{seq}", api.ClassAudit, s.record)
	get("/api/v1/audit/verify", api.ClassAudit, s.verify)
	if s.o.OpenAPI != nil {
		get("/api/v1/openapi.json", api.ClassWellKnown, s.openapi)
	}
	if s.o.KeySet != nil {
		get(pathKeySet, api.ClassWellKnown, s.keySet)
	}
	if s.o.Previews != nil {
		r.With(require(api.Route{Class: api.ClassQuery, Handler: "api/v1"})).Post("/api/v1/preview", s.preview)
	}
	if s.o.Bundles != nil {
		s.mountBundles(r, require)
	}
	if s.o.Encryption != nil {
		s.mountEncryption(r, require)
	}
	if s.o.Keys != nil {
		s.mountKeys(r, require)
	}
	if s.o.Certificates != nil {
		s.mountCertificates(r, require)
	}
	r.HandleFunc(Unrouted, unrouted)
}

// openapi answers GET /api/v1/openapi.json.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.o.OpenAPI) }

// status answers what the server is doing.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(s.o.Status())
	if err != nil {
		s.internal(w, err, "encode status")
		return
	}
	writeJSON(w, append(body, '\n'))
}

// internal answers an error that is not the caller's and logs it, once.
func (s *Server) internal(w http.ResponseWriter, err error, doing string) {
	s.o.Logger.Error().Err(err).Msg(doing)
	fail(w, http.StatusInternalServerError, "internal_error", "the request could not be served; the server's log says why", "")
}

// fail writes a problem; field names the part of the request that is wrong.
func fail(w http.ResponseWriter, status int, code, detail, field string) {
	members := map[string]any{"code": code}
	if field != "" {
		members["field"] = field
	}
	problem.Problem{Status: status, Detail: detail, Members: members}.Write(w)
}

func writeJSON(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client is gone: nobody is left to be told
}
