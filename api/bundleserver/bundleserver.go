// Package bundleserver is the OPA bundle service: agents that pull get the
// archive of the active revision as it was pushed, with its signature, and may
// wait for the next one (long polling).
package bundleserver

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/middleware"
	"github.com/verdict-pdp/verdict/bundles"
)

const (
	// DefaultWaiters is how many requests wait for an activation at once.
	DefaultWaiters = 256
	// MaxWait is the longest wait that a request gets.
	MaxWait = 5 * time.Minute
	// standingEvery is how often it is asked whether who waits may still ask.
	standingEvery = time.Second

	// contentType tells OPA's downloader that it may wait; plainType that it
	// should ask now and then.
	contentType = "application/vnd.openpolicyagent.bundles"
	plainType   = "application/gzip"
)

// Bundles are the bundles as this API needs them. Its methods are called from
// many goroutines.
type Bundles interface {
	// Watch gives the active revision, and a channel that is closed when another
	// may be; an *bundles.Error of CodeNotFound says that none is active.
	Watch(ctx context.Context, name string) (*bundles.Revision, <-chan struct{}, error)
	// Archive gives the bytes of a kept revision. The caller closes them.
	Archive(ctx context.Context, name, revision string) (*bundles.Revision, io.ReadSeekCloser, error)
}

// Options configure a Server.
type Options struct {
	// Waiters is how many requests wait at once; 0: DefaultWaiters. One more is
	// answered at once and told to ask now and then.
	Waiters int
	// Stopping ends every wait when it is closed; nil: only their time does.
	Stopping <-chan struct{}
	Logger   zerolog.Logger
}

// Server serves /bundles/{name}.
type Server struct {
	bundles Bundles
	o       Options
	waiting chan struct{} // a slot for each request that waits
}

// New returns a server.
func New(b Bundles, o Options) *Server {
	if o.Waiters <= 0 {
		o.Waiters = DefaultWaiters
	}
	return &Server{bundles: b, o: o, waiting: make(chan struct{}, o.Waiters)}
}

// Require makes the guard of a kind of routes; api.Gate.Require is one.
type Require func(api.Route) func(http.Handler) http.Handler

// Mount adds the route to r.
func (s *Server) Mount(r chi.Router, require Require) {
	r = r.With(require(api.Route{Class: api.ClassBundleRead, Handler: "bundles", Bundle: name}))
	r.Get("/bundles/{name}", s.pull)
	r.Head("/bundles/{name}", s.pull)
}

// name is the bundle that is asked for. Names have no characters that need an
// escape: one with an escape is a name that no bundle has.
func name(r *http.Request) string { return chi.URLParam(r, "name") }

// pull answers with the active archive, or 304 when the agent has it.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	found, changed, err := s.bundles.Watch(r.Context(), name(r))
	if err != nil {
		s.fail(w, r, err, "look for the active bundle")
		return
	}
	kind := contentType
	if wait := waitOf(r); wait > 0 && has(r, tag(found)) {
		select {
		case s.waiting <- struct{}{}:
			found, err = s.wait(w, r, found, changed, wait)
		default:
			// With 304 it would ask again at once, with an error it would forget
			// what it has: it gets the archive as from a server without waits.
			kind = plainType
			r.Header.Del("If-None-Match")
		}
	}
	if err != nil {
		s.fail(w, r, err, "look for the active bundle")
		return
	}
	w.Header().Set("ETag", tag(found))
	if has(r, tag(found)) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.send(w, r, found, kind)
}

// wait gives the active revision once the agent does not have it, or when the
// time is over, the server stops, or nobody waits any more. An *api.Error says
// that the agent may not ask any more. It leaves the slot that the caller took.
func (s *Server) wait(w http.ResponseWriter, r *http.Request, found *bundles.Revision, changed <-chan struct{}, most time.Duration) (*bundles.Revision, error) {
	defer func() { <-s.waiting }()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // not every writer can
	_ = control.SetWriteDeadline(time.Now().Add(most + middleware.WriteStall))
	over := time.NewTimer(most)
	defer over.Stop()
	again := time.NewTicker(standingEvery)
	defer again.Stop()
	for has(r, tag(found)) {
		select {
		case <-changed:
		case <-again.C:
			if refused := api.Standing(r); refused != nil {
				return nil, refused
			}
			continue
		case <-over.C:
			return found, nil
		case <-s.o.Stopping:
			return found, nil
		case <-r.Context().Done():
			return found, nil
		}
		var err error
		if found, changed, err = s.bundles.Watch(r.Context(), name(r)); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// send answers with the archive.
func (s *Server) send(w http.ResponseWriter, r *http.Request, found *bundles.Revision, kind string) {
	_, file, err := s.bundles.Archive(r.Context(), found.Name, found.Revision)
	if err != nil {
		s.fail(w, r, err, "open the archive of a bundle")
		return
	}
	defer file.Close()
	h := w.Header()
	h.Set("Content-Type", kind)
	if sum, err := hex.DecodeString(found.Archive.SHA256); err == nil {
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	http.ServeContent(w, r, "", time.Time{}, file)
}

// fail answers an error. OPA's agents log the status, and the body when they
// debug.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error, doing string) {
	w.Header().Del("ETag")
	if refused, ok := errors.AsType[*api.Error](err); ok {
		api.WriteProblem(w, r, refused)
		return
	}
	if refused, ok := errors.AsType[*bundles.Error](err); ok && refused.Code == bundles.CodeNotFound {
		api.WriteProblem(w, r, &api.Error{Status: http.StatusNotFound, Code: api.CodeNotFound, Message: refused.Message})
		return
	}
	if r.Context().Err() == nil {
		s.o.Logger.Error().Err(err).Str("bundle", name(r)).Msg(doing)
	}
	api.WriteProblem(w, r, &api.Error{
		Status: http.StatusInternalServerError, Code: api.CodeInternal,
		Message: "the bundle could not be served; the server's log says why",
	})
}

// tag names the bytes of the archive.
func tag(r *bundles.Revision) string { return `"` + r.Archive.SHA256 + `"` }

// has reports whether the agent has what the tag names.
func has(r *http.Request, tag string) bool {
	for _, field := range r.Header.Values("If-None-Match") {
		for given := range strings.SplitSeq(field, ",") {
			if given = strings.TrimSpace(given); given == "*" || strings.TrimPrefix(given, "W/") == tag {
				return true
			}
		}
	}
	return false
}
