// Package search answers the reverse of a decision: which subjects, resources or
// actions would be permitted.
//
// The candidates are data: data.verdict.entities[type][id], whose value is the
// entity's properties, and data.verdict.actions[resource type]. Rules may define
// both as well, and see the question as their input, so that a policy can narrow
// its own candidates. Each candidate is then decided exactly, as if it had been
// asked for alone, all on one snapshot and at one time, and the search is one
// record in the log.
package search

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Defaults of Options.
const (
	DefaultLimit   = 10_000
	DefaultTimeout = time.Second
)

// Kind is what is looked for.
type Kind uint8

// The kinds of searches.
const (
	Subjects Kind = iota
	Resources
	Actions
)

// String is the member of the question that is looked for.
func (k Kind) String() string {
	return [...]string{"subject", "resource", "action", ""}[min(k, Actions+1)]
}

// Options configure a Searcher. The zero value is usable.
type Options struct {
	Path    string           // the decision that is asked; empty: pdp.StandardPath
	Limit   int              // candidates that one search may decide; 0: DefaultLimit
	Timeout time.Duration    // time that one search may take; 0: DefaultTimeout
	Now     func() time.Time // the clock of the evaluations; nil: time.Now
	// Workers bounds the goroutines of all searches together, beside those that
	// ask; 0: one less than there are cores, a negative number: none.
	Workers int
}

// Searcher answers searches. Its methods may be called from many goroutines.
type Searcher struct {
	pdp     *pdp.PDP
	options Options
	names   names
	metrics *metrics
	helpers chan struct{} // a slot for each goroutine that helps a search
}

// New returns a searcher over the snapshots of p.
func New(p *pdp.PDP, o Options) *Searcher {
	if o.Path == "" {
		o.Path = pdp.StandardPath
	}
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0) - 1
	}
	return &Searcher{
		pdp: p, options: o, names: newNames(), metrics: newMetrics(),
		helpers: make(chan struct{}, max(0, o.Workers)),
	}
}

// Collectors returns the metrics of searches.
func (s *Searcher) Collectors() []prometheus.Collector { return s.metrics.collectors() }

// Request is one search.
type Request struct {
	Kind Kind
	// Question is the evaluation object whose member Kind each candidate takes
	// the place of. What stands there besides must be what is asked; of the
	// entity looked for, type is needed and properties hold where the data says
	// nothing else. It is the input in the record.
	Question ast.Object
	// Type is the type of the entities looked for; for actions the type of the
	// resource.
	Type string
	// Paged lets the answer be a part: at most Most results, those behind After.
	// A part also ends where a bound of the Searcher is met.
	Paged bool
	Most  int     // negative: as many as there are
	After *string // key of a Match or Answer.Next; nil: from the start
	// Query is who asks: edge, caller, addresses and ids.
	Query pdp.Query
}

// Match is an entity for which the decision is true.
type Match struct {
	Key         string     // orders the results
	Entity      ast.Object // as it was asked: type, id and properties, or name and properties
	Obligations ast.Value  // of the decision; nil without any
}

// Answer is the result of a search. Its Decision is the record's id and receipt.
type Answer struct {
	Decision   *pdp.Decision
	Matches    []Match
	Candidates int            // how many were decided
	More       bool           // there may be more behind Next
	Next       *string        // where the next part begins; nil: at the start
	Denied     map[string]int // how often each reason was given to deny a candidate
}

// LimitError is returned for a search that would have to decide more candidates
// than it may.
type LimitError struct{ Candidates, Limit int }

func (e *LimitError) Error() string {
	return fmt.Sprintf("the search has %d candidates, more than the limit of %d", e.Candidates, e.Limit)
}

// TimeoutError is returned for a search that took longer than it may. Nothing is
// known of the candidates that were not decided, so there is no answer.
type TimeoutError struct {
	Timeout             time.Duration
	Decided, Candidates int
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the search took longer than %s: %d of %d candidates were decided", e.Timeout, e.Decided, e.Candidates)
}

// CandidateError is returned for a search in which the policy failed for a
// candidate, or gave a result that is no decision.
type CandidateError struct {
	Key string
	Err error
}

func (e *CandidateError) Error() string { return fmt.Sprintf("candidate %q: %s", e.Key, e.Err) }

// Unwrap returns the error of the evaluation.
func (e *CandidateError) Unwrap() error { return e.Err }

// ErrResult is wrapped where a policy's result is no decision.
var ErrResult = errors.New("the result is neither a boolean nor an object that says allow or decision")

// ErrData is wrapped where data.verdict.entities or data.verdict.actions do not
// have the form that they should.
var ErrData = errors.New("malformed search data")

// Search answers a search and records it, also when it fails: then the record
// has the error. Errors that wrap pdp.ErrUnrecorded mean that nothing may be
// answered. A search ends with ctx, whose error it returns then; that is the
// only one without a record.
func (s *Searcher) Search(ctx context.Context, r *Request) (*Answer, error) {
	started := time.Now()
	q := r.Query
	q.Path, q.Input, q.Snapshot = s.options.Path, r.Question, s.pdp.Engine().Active()
	q.BatchID = ""
	bounded, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	answer, err := s.find(bounded, &run{Searcher: s, request: r, snapshot: q.Snapshot, now: s.options.Now()})
	if ctx.Err() != nil {
		return nil, fmt.Errorf("search: %w", ctx.Err())
	}
	took := time.Since(started)
	c := &pdp.Conclusion{Err: err, Code: codeOf(err), Took: took, Details: []byte(`{"search":"` + r.Kind.String() + `"}`)}
	if err == nil {
		c.Value = s.summary(answer)
	}
	d, recordErr := s.pdp.Conclude(ctx, &q, c)
	if recordErr != nil {
		return nil, recordErr
	}
	s.metrics.observe(r.Kind, answer, err, took)
	if answer == nil {
		answer = &Answer{}
	}
	answer.Decision = d
	return answer, err
}

// summary is the result in the record.
func (s *Searcher) summary(a *Answer) ast.Value {
	number := func(n int) *ast.Term { return ast.NewTerm(ast.Number(strconv.Itoa(n))) }
	denied := ast.NewObject()
	for code, n := range a.Denied {
		denied.Insert(ast.StringTerm(code), number(n))
	}
	return ast.NewObject(
		ast.Item(ast.StringTerm("candidates"), number(a.Candidates)),
		ast.Item(ast.StringTerm("results"), number(len(a.Matches))),
		ast.Item(ast.StringTerm("complete"), ast.BooleanTerm(!a.More)),
		ast.Item(ast.StringTerm("denied"), ast.NewTerm(denied)),
	)
}

// codeOf names an error in the record; empty where the evaluator has a name.
func codeOf(err error) string {
	var (
		limit   *LimitError
		timeout *TimeoutError
		stale   *eval.StaleError
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &limit):
		return "search_limit"
	case errors.As(err, &timeout):
		return "search_timeout"
	case errors.As(err, &stale):
		return eval.CodeStale
	case errors.Is(err, ErrData):
		return "search_data"
	case errors.Is(err, ErrResult):
		return "result_error"
	}
	return eval.ErrorCode(err)
}
