package opa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/failtracer"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Media types of filters: one for each language, and one for several at once.
const (
	mediaPrefix = "application/vnd.opa."
	mediaSuffix = "+json"
	mediaMulti  = "application/vnd.opa.multitarget+json"
	mediaJSON   = "application/json"
)

// filterTargets are the languages that a filter can be asked for in.
func filterTargets() []eval.FilterTarget {
	return []eval.FilterTarget{
		{Target: "ucast", Dialect: "all"},
		{Target: "ucast", Dialect: "minimal"},
		{Target: "ucast", Dialect: "prisma"},
		{Target: "ucast", Dialect: "linq"},
		{Target: "sql", Dialect: "postgresql"},
		{Target: "sql", Dialect: "mysql"},
		{Target: "sql", Dialect: "sqlserver"},
		{Target: "sql", Dialect: "sqlite"},
	}
}

// alias is the body of a filter request. Callers see its name in errors, where
// OPA's has this one.
type alias struct {
	Input    *any      `json:"input"`
	Query    string    `json:"query"`
	Unknowns *[]string `json:"unknowns"`
	Options  struct {  // without a name, which callers would see in errors
		DisableInlining []string       `json:"disableInlining,omitempty"`
		Mappings        map[string]any `json:"targetSQLTableMappings,omitempty"`
		TargetDialects  []string       `json:"targetDialects,omitempty"`
		MaskRule        string         `json:"maskRule,omitempty"`
	} `json:"options"`
}

// filterDetails is what the record of a filter says beside path and input.
type filterDetails struct {
	Accept   string   `json:"accept"`
	Unknowns []string `json:"unknowns"`
	MaskRule string   `json:"mask_rule,omitempty"`
	Options  any      `json:"options"`
}

// filterResponse is the answer to a filter request.
type filterResponse struct {
	Result  any               `json:"result,omitempty"`
	Metrics types.MetricsV1   `json:"metrics,omitempty"`
	Hints   []failtracer.Hint `json:"hints,omitempty"`
}

// multiResult is the result for several languages.
type multiResult struct {
	UCAST    *eval.FilterResult `json:"ucast,omitempty"`
	Postgres *eval.FilterResult `json:"postgresql,omitempty"`
	MySQL    *eval.FilterResult `json:"mysql,omitempty"`
	MSSQL    *eval.FilterResult `json:"sqlserver,omitempty"`
	SQLite   *eval.FilterResult `json:"sqlite,omitempty"`
}

// compileFilters answers POST and GET /v1/compile/{path}: data filters.
func (s *Server) compileFilters(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("path")
	if path == "" {
		s.badRequest(w, r, "missing required 'path' parameter")
		return
	}
	p := parseParams(r.URL.RawQuery)
	q := eval.Filter{Metrics: questionTimers(&p), Instrument: p.instrument, MaxBytes: s.limits.Load().Answer}
	startTimer(q.Metrics, metrics.ServerHandler)
	startTimer(q.Metrics, metrics.RegoQueryParse)
	ex := s.newExchange()
	defer s.release(ex)
	var body alias
	if err := s.readQuestion(ex, r, &body); err != nil && !errors.Is(err, io.EOF) {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field == "" {
			err = errors.New(strings.Replace(err.Error(), "opa.alias", "server.alias", 1))
		}
		s.badBody(w, r, err)
		return
	}
	if err := fillFilter(&q, path, &body); err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	stopTimer(q.Metrics, metrics.RegoQueryParse)
	snapshot := s.pdp.Engine().Active()
	if err := annotate(&q, snapshot); err != nil {
		s.replyQuestionError(w, r, types.CodeEvaluation, types.MsgEvaluationError, err)
		return
	}
	accept := headerValue(r.Header, "Accept")
	multi, err := acceptTargets(&q, accept, body.Options.TargetDialects)
	if err != nil {
		s.badRequest(w, r, err.Error())
		return
	}
	s.answerFilters(w, r, &filterQuestion{Filter: &q, path: path, accept: accept, multi: multi, body: &body, snapshot: snapshot}, &p)
}

// filterQuestion is a filter request that was understood.
type filterQuestion struct {
	*eval.Filter
	path, accept string
	multi        bool
	body         *alias
	snapshot     *eval.Snapshot
}

// answerFilters decides and writes the filters.
func (s *Server) answerFilters(w http.ResponseWriter, r *http.Request, q *filterQuestion, p *params) {
	details := filterDetails{Accept: q.accept, Options: q.body.Options, Unknowns: []string{}}
	for _, ref := range q.Unknowns {
		details.Unknowns = append(details.Unknowns, ref.String())
	}
	if q.MaskRule != nil {
		details.MaskRule = q.MaskRule.String()
	}
	asked, err := newQuestion(r, EdgeCompile, q.path, q.Input, details)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	var filters *eval.Filters
	asked.Snapshot = q.snapshot
	asked.Ask = func(ctx context.Context, snapshot *eval.Snapshot, now time.Time) (res eval.Result, err error) {
		q.Now = now
		filters, res, err = snapshot.Filter(ctx, q.Filter)
		return res, err
	}
	d, err := s.pdp.Decide(r.Context(), asked)
	if d != nil {
		defer d.Release()
		w.Header()["X-Decision-Id"] = []string{d.ID}
	}
	if err != nil {
		s.replyFilterError(w, r, err)
		return
	}
	res := filterResponse{Hints: filters.Hints}
	if q.multi {
		res.Result = newMultiResult(filters, q.Targets)
	} else if one := filters.For(q.Targets[0]); one != nil {
		res.Result = one
	}
	if q.Metrics != nil {
		stopTimer(q.Metrics, metrics.ServerHandler)
		res.Metrics = q.Metrics.All()
	}
	w.Header().Set("Content-Type", q.accept)
	s.replyJSON(w, r, http.StatusOK, res, p.pretty)
}

// replyFilterError answers a rule that could not be made a filter.
func (s *Server) replyFilterError(w http.ResponseWriter, r *http.Request, err error) {
	var unprepared *eval.PrepareError
	switch {
	case errors.As(err, &unprepared):
		s.replyErrorV1(w, r, http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%s", unprepared.Error()))
	case errors.Is(err, eval.ErrMappings):
		s.badRequest(w, r, err.Error())
	default:
		s.replyQuestionError(w, r, types.CodeEvaluation, types.MsgEvaluationError, err)
	}
}

// newMultiResult collects the filters in the languages that were asked for. All
// forms of UCAST are one: the first counts.
func newMultiResult(f *eval.Filters, targets []eval.FilterTarget) *multiResult {
	m := &multiResult{}
	for _, t := range targets {
		switch {
		case t.Target == "ucast" && m.UCAST == nil:
			m.UCAST = f.For(t)
		case t.Dialect == "postgresql":
			m.Postgres = f.For(t)
		case t.Dialect == "mysql":
			m.MySQL = f.For(t)
		case t.Dialect == "sqlserver":
			m.MSSQL = f.For(t)
		case t.Dialect == "sqlite":
			m.SQLite = f.For(t)
		}
	}
	return m
}

// fillFilter makes the question of a filter request.
func fillFilter(q *eval.Filter, path string, body *alias) (err error) {
	if q.Ref, err = eval.ParsePath(path); err != nil {
		return err
	}
	if q.Input, err = givenInput(body.Input); err != nil {
		return err
	}
	if body.Unknowns != nil {
		for _, text := range *body.Unknowns {
			ref, err := ast.ParseRef(text)
			if err != nil {
				return fmt.Errorf("error(s) occurred while parsing unknowns: %w", err)
			}
			q.Unknowns = append(q.Unknowns, ref)
		}
	}
	q.DisableInlining, q.Mappings = body.Options.DisableInlining, body.Options.Mappings
	if rule := body.Options.MaskRule; rule != "" {
		if !strings.HasPrefix(rule, "data.") { // it stands beside the rule
			rule = q.Ref[:len(q.Ref)-1].String() + "." + rule
		}
		if q.MaskRule, err = ast.ParseRef(rule); err != nil {
			return fmt.Errorf("error(s) occurred while parsing mask_rule name: %w", err)
		}
	}
	return nil
}

// annotate takes what the request leaves open from the rule's annotations.
func annotate(q *eval.Filter, snapshot *eval.Snapshot) error {
	if len(q.Unknowns) > 0 && q.MaskRule != nil {
		return nil
	}
	startTimer(q.Metrics, metrics.CompileExtractAnnotationsUnknowns)
	unknowns, maskRule, err := snapshot.FilterHints(q.Ref)
	stopTimer(q.Metrics, metrics.CompileExtractAnnotationsUnknowns)
	if len(q.Unknowns) == 0 {
		if err != nil {
			return err
		}
		q.Unknowns = unknowns
	}
	if q.MaskRule == nil {
		q.MaskRule = maskRule
	}
	for _, ref := range q.Unknowns {
		if len(ref) < 2 {
			continue
		}
		if _, ok := ref[1].Value.(ast.String); !ok {
			return ast.Errors{ast.NewError("invalid_unknown", nil, "unknowns must name a document: %v", ref)}
		}
	}
	return nil
}

// acceptHeader begins OPA's messages about the header.
const acceptHeader = "Accept header"

// acceptTargets sets the languages that an Accept header asks for; multi tells
// that the body names them.
func acceptTargets(q *eval.Filter, accept string, dialects []string) (multi bool, err error) {
	switch {
	case accept == "":
		return false, fmt.Errorf("%s: missing required header", acceptHeader)
	case strings.Contains(accept, ","):
		return false, fmt.Errorf("%s: multiple headers not supported", acceptHeader)
	case accept == mediaJSON:
		q.Targets = []eval.FilterTarget{{}}
		return false, nil
	case accept == mediaMulti:
		for _, text := range dialects {
			target, dialect, ok := strings.Cut(text, "+")
			if !ok {
				return true, fmt.Errorf("options.targetDialects: %q is not of the form target+dialect", text)
			}
			dialect, _, _ = strings.Cut(dialect, "+")
			q.Targets = append(q.Targets, eval.FilterTarget{Target: target, Dialect: dialect})
		}
		return true, nil
	}
	i := slices.IndexFunc(filterTargets(), func(t eval.FilterTarget) bool {
		return accept == mediaPrefix+t.Target+"."+t.Dialect+mediaSuffix
	})
	if i < 0 {
		return false, fmt.Errorf("%s: unsupported header: %s", acceptHeader, accept)
	}
	q.Targets = filterTargets()[i : i+1]
	return false, nil
}
