// Package authzen speaks the OpenID AuthZEN Authorization API 1.0 over HTTPS:
// single and several evaluations, search of subjects, resources and actions,
// and the metadata document. It is verdict's native decision API too: reasons,
// obligations, trust and the receipt of the record travel in the context of a
// decision.
//
// An evaluation object is the policy's input, unchanged. Errors of a whole
// request are a status and a message, which is a JSON string.
package authzen

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
	"github.com/verdict-pdp/verdict/pdp/search"
)

// Edge is the name of this protocol in records and metrics.
const Edge = "authzen"

// The paths of the API, below the base that the metadata names.
const (
	PathEvaluation     = "/access/v1/evaluation"
	PathEvaluations    = "/access/v1/evaluations"
	PathSearchSubject  = "/access/v1/search/subject"
	PathSearchResource = "/access/v1/search/resource"
	PathSearchAction   = "/access/v1/search/action"
	PathMetadata       = "/.well-known/authzen-configuration"
	// Unrouted is the pattern that takes what no route of /access does, with 404.
	Unrouted = "/access/*"
)

// DefaultRequestBody is what Limits.RequestBody stands for when it is zero.
const DefaultRequestBody = 1 << 20

// Require makes the guard of a kind of routes; api.Gate.Require is one. It also
// bounds the body.
type Require func(api.Route) func(http.Handler) http.Handler

// Limits bound what one request may cost. A field that is zero stands for its
// default.
type Limits struct {
	RequestBody int64 // bytes of a body, which the guard enforces; 1 MiB
	Depth       int   // nesting of an evaluation object; 64
	Members     int   // members and elements of a body; 10,000
}

// Options configure a Server. The zero value is usable.
type Options struct {
	Limits Limits
	// Path is the decision that evaluations ask; empty means pdp.StandardPath.
	Path string
	// PublicURL is the base that callers use; empty: the address that they have
	// connected to.
	PublicURL string
	// Signer signs the metadata; nil: it is not signed.
	Signer MetadataSigner
	// Now is the clock of signatures; nil: time.Now.
	Now func() time.Time
	// Log names the audit log in receipts; empty leaves it out.
	Log    string
	Logger zerolog.Logger
}

// Server answers the API over one decision point.
type Server struct {
	pdp      *pdp.PDP
	searcher *search.Searcher
	options  Options
	limits   atomic.Pointer[Limits]
	names    *names
	log      []byte // Options.Log as it stands in a receipt
	signed   *signatures

	exchanges sync.Pool // *exchange

	// Header values that every answer shares; net/http does not change them.
	contentJSON []string
}

// New returns a server that decides with p and searches with s.
func New(p *pdp.PDP, s *search.Searcher, o Options) *Server {
	if o.Path == "" {
		o.Path = pdp.StandardPath
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	server := &Server{
		pdp: p, searcher: s, options: o, names: newNames(), contentJSON: []string{"application/json"},
		signed: newSignatures(o),
	}
	if o.Log != "" {
		server.log = append(append(append([]byte(nil), `"log":`...), quote(o.Log)...), ',')
	}
	server.exchanges.New = func() any { return &exchange{} }
	server.SetLimits(o.Limits)
	return server
}

// SetLimits replaces the limits. Requests that are being read keep the old ones.
func (s *Server) SetLimits(l Limits) {
	if l.RequestBody <= 0 {
		l.RequestBody = DefaultRequestBody
	}
	if l.Depth <= 0 {
		l.Depth = eval.DefaultDepth
	}
	if l.Members <= 0 {
		l.Members = eval.DefaultMembers
	}
	s.limits.Store(&l)
}

// Mount adds the routes to r.
func (s *Server) Mount(r chi.Router, require Require) {
	access := func(path, label string, h http.HandlerFunc) {
		guard := require(api.Route{Class: api.ClassDecide, Handler: label, Error: WriteAPIError})
		r.Handle(path, guard(identified(only(http.MethodPost, h))))
	}
	access(PathEvaluation, "access/evaluation", s.evaluation)
	access(PathEvaluations, "access/evaluations", s.evaluations)
	access(PathSearchSubject, "access/search", s.search(search.Subjects))
	access(PathSearchResource, "access/search", s.search(search.Resources))
	access(PathSearchAction, "access/search", s.search(search.Actions))
	r.HandleFunc(Unrouted, func(w http.ResponseWriter, r *http.Request) {
		echoID(w, r)
		writeError(w, http.StatusNotFound, "there is no such path; "+PathMetadata+" names those that there are")
	})
	guard := require(api.Route{Class: api.ClassWellKnown, Handler: "authzen-configuration", Error: WriteAPIError})
	metadata := guard(identified(only(http.MethodGet, s.metadata)))
	r.Handle(PathMetadata, metadata)
	r.Handle(PathMetadata+"/{tenant}", metadata)
}

// only answers other methods than one with 405. HEAD goes with GET.
func only(method string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && (method != http.MethodGet || r.Method != http.MethodHead) {
			w.Header().Set("Allow", method)
			writeError(w, http.StatusMethodNotAllowed, "the method must be "+method)
			return
		}
		next(w, r)
	}
}

// identified sends the identifier of a request back with its answer, exactly as
// it came.
func identified(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echoID(w, r)
		next(w, r)
	})
}

func echoID(w http.ResponseWriter, r *http.Request) {
	if id := r.Header["X-Request-Id"]; len(id) > 0 {
		w.Header()["X-Request-Id"] = id[:1:1]
	}
}
