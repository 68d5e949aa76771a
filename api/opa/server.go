// Package opa speaks OPA's REST API (v1.22): decisions under /v1/data, /v0/data
// and POST /, batches under /v1/batch/data, writes of data and policies, health,
// status and metrics, ad-hoc queries, partial evaluation and data filters, with
// OPA's status codes, bodies, error shapes and query parameters. Where it is
// stricter, docs/opa-compatibility.md says so.
//
// A decision enters in decide.go; nothing is decided or recorded here.
package opa

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Edge is the name of this protocol in records and metrics.
const Edge = "opa"

// Defaults of Options and Limits.
const (
	DefaultDecision    = "system/main"
	DefaultRequestBody = 1 << 20
	DefaultDataBody    = 64 << 20
	DefaultAnswer      = 8 << 20

	// gzipMinLength is the size from which answers are compressed, OPA's default.
	gzipMinLength = 1024
)

// Require makes the guard of a kind of routes: who may call them, and all else
// that stands between a router and a handler. api.Gate.Require is one.
type Require func(api.Route) func(http.Handler) http.Handler

// Recorder appends the record of a write to the audit log and returns when the
// record is as durable as the log promises. It is called from many goroutines.
type Recorder interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
}

// Limits bound what one request may cost. A field that is zero stands for its
// default.
type Limits struct {
	RequestBody int64 // bytes of a decision's body, also after decompression; 1 MiB
	DataBody    int64 // bytes of a data or policy write; 64 MiB
	Depth       int   // nesting of an input or data document; 64
	Members     int   // members and elements of an input document; 10,000
	Answer      int   // bytes of the answer to a query or compile request; 8 MiB
}

// Build names the program in the answer to ?provenance and on the index page.
type Build struct {
	Version, Commit, Timestamp, Hostname string
}

// Options configure a Server. With the zero value writes are refused and there
// is no /metrics.
type Options struct {
	Limits Limits
	// PolicyWrites lets callers change data and policies through the API.
	PolicyWrites bool
	// DefaultDecision is the path that POST / evaluates; empty means system/main.
	DefaultDecision string
	// OmitDecisionID leaves decision_id out of the bodies of /v1/data, as an OPA
	// without decision logging does. The header is always there.
	OmitDecisionID bool
	// Authentication and Authorization are OPA's own modes in place of the access
	// table, both or neither; empty means AuthVerdict.
	Authentication Authentication
	Authorization  Authorization
	Build          Build
	// Instance names the process in GET /v1/config; empty: a fresh id.
	Instance string
	// Healthy returns what is wrong with the server; nil means nothing ever is.
	Healthy func() error
	// BundlesHealthy returns what is wrong with the bundles, for
	// GET /health?bundles; nil means nothing ever is.
	BundlesHealthy func() error
	// Status answers GET /v1/status with something that encodes as JSON; nil
	// answers as an OPA without the status plugin.
	Status func() any
	// Metrics answers GET /metrics; nil leaves the path unknown.
	Metrics http.Handler
	Logger  zerolog.Logger
}

// Server answers OPA's REST API over one decision point.
type Server struct {
	pdp      *pdp.PDP
	recorder Recorder
	options  Options
	limits   atomic.Pointer[Limits]

	admission *admission // nil: the access table decides
	exchanges sync.Pool  // *exchange
	// explaining holds one value for each explanation that is being made.
	explaining chan struct{}
	inputKey   *ast.Term

	// Header values that every answer shares; net/http does not change them.
	contentJSON, varyEncoding []string
}

// New returns a server. Writes are recorded into recorder.
func New(p *pdp.PDP, recorder Recorder, o Options) *Server {
	if o.DefaultDecision == "" {
		o.DefaultDecision = DefaultDecision
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	s := &Server{
		pdp: p, recorder: recorder, options: o,
		inputKey:     ast.StringTerm("input"),
		explaining:   make(chan struct{}, explainTurns),
		contentJSON:  []string{"application/json"},
		varyEncoding: []string{"Accept-Encoding"},
	}
	s.exchanges.New = func() any { return &exchange{} }
	if o.Instance == "" {
		s.options.Instance, _ = p.NewID() // a label: without randomness there is none
	}
	s.admission = newAdmission(s)
	s.SetLimits(o.Limits)
	return s
}

// SetLimits replaces the limits. Requests that are being read keep the old ones.
func (s *Server) SetLimits(l Limits) {
	if l.RequestBody <= 0 {
		l.RequestBody = DefaultRequestBody
	}
	if l.DataBody <= 0 {
		l.DataBody = DefaultDataBody
	}
	if l.Answer <= 0 {
		l.Answer = DefaultAnswer
	}
	if l.Depth <= 0 {
		l.Depth = eval.DefaultDepth
	}
	if l.Members <= 0 {
		l.Members = eval.DefaultMembers
	}
	s.limits.Store(&l)
}
