package opa

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// queryDetails is what the record of an ad-hoc query says beside its input.
type queryDetails struct {
	Query string `json:"query"`
}

// queryResponse is types.QueryResponseV1 with an encoded result.
type queryResponse struct {
	Explanation types.TraceV1    `json:"explanation,omitempty"`
	Metrics     types.MetricsV1  `json:"metrics,omitempty"`
	Result      json.RawMessage  `json:"result,omitempty"`
	RuleLabels  []map[string]any `json:"rule_labels,omitempty"`
}

// queryGet answers GET /v1/query.
func (s *Server) queryGet(w http.ResponseWriter, r *http.Request) {
	values, _ := url.ParseQuery(r.URL.RawQuery) // what could be read is there
	given := values[types.ParamQueryV1]
	if len(given) == 0 {
		s.badRequest(w, r, "missing parameter 'q'")
		return
	}
	p := parseParams(r.URL.RawQuery)
	q := eval.Adhoc{Metrics: questionTimers(&p)}
	s.answerQuery(w, r, given[len(given)-1], &q, &p)
}

// queryPost answers POST /v1/query.
func (s *Server) queryPost(w http.ResponseWriter, r *http.Request) {
	p := parseParams(r.URL.RawQuery)
	q := eval.Adhoc{Metrics: questionTimers(&p)}
	startTimer(q.Metrics, metrics.ServerHandler)
	ex := s.newExchange()
	defer s.release(ex)
	var body types.QueryRequestV1
	if err := s.readQuestion(ex, r, &body); err != nil {
		s.badBody(w, r, err)
		return
	}
	if body.Input != nil {
		var err error
		if q.Input, err = ast.InterfaceToValue(*body.Input); err != nil {
			s.replyError(w, r, err)
			return
		}
	}
	s.answerQuery(w, r, body.Query, &q, &p)
}

// answerQuery decides an ad-hoc query and writes its rows.
func (s *Server) answerQuery(w http.ResponseWriter, r *http.Request, text string, q *eval.Adhoc, p *params) {
	var err error
	if q.Body, err = eval.ParseQuery(text); err != nil {
		s.replyParseError(w, r, http.StatusInternalServerError, "", err)
		return
	}
	q.Instrument, q.Trace, q.RuleLabels = p.instrument, p.explain != "", p.ruleLabels
	q.MaxBytes = s.limits.Load().Answer
	asked, err := newQuestion(r, EdgeQuery, "", q.Input, queryDetails{Query: text})
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	asked.Ask = func(ctx context.Context, snapshot *eval.Snapshot, now time.Time) (eval.Result, error) {
		q.Now = now
		return snapshot.Ask(ctx, q)
	}
	d := s.decideQuestion(w, r, asked, types.MsgCompileQueryError)
	if d == nil {
		return
	}
	defer d.Release()
	res := queryResponse{Result: d.JSON}
	if p.ruleLabels {
		res.RuleLabels = d.Result.RuleLabels
	}
	if r.Method == http.MethodPost {
		stopTimer(q.Metrics, metrics.ServerHandler)
	}
	if q.Metrics != nil {
		res.Metrics = q.Metrics.All()
	}
	if res.Explanation, err = explanation(d.Result.Trace, p); err != nil {
		s.replyError(w, r, err)
		return
	}
	s.replyJSON(w, r, http.StatusOK, res, p.pretty)
}
