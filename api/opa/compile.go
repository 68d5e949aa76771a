package opa

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// compileDetails is what the record of a partial evaluation says beside its
// input.
type compileDetails struct {
	Query            string    `json:"query"`
	Unknowns         *[]string `json:"unknowns,omitempty"`
	DisableInlining  []string  `json:"disable_inlining,omitempty"`
	Nondeterministic bool      `json:"nondeterministic_builtins,omitempty"`
}

// compileResponse is types.CompileResponseV1 with an encoded result.
type compileResponse struct {
	Result      json.RawMessage `json:"result,omitempty"`
	Explanation types.TraceV1   `json:"explanation,omitempty"`
	Metrics     types.MetricsV1 `json:"metrics,omitempty"`
}

// compilePost answers POST /v1/compile: partial evaluation.
func (s *Server) compilePost(w http.ResponseWriter, r *http.Request) {
	p := parseParams(r.URL.RawQuery)
	q := eval.Partial{Metrics: questionTimers(&p), Instrument: p.instrument, Trace: p.explain != ""}
	startTimer(q.Metrics, metrics.ServerHandler)
	startTimer(q.Metrics, metrics.RegoQueryParse)
	ex := s.newExchange()
	defer s.release(ex)
	var body types.CompileRequestV1
	if err := s.readQuestion(ex, r, &body); err != nil {
		s.badBody(w, r, err)
		return
	}
	if !s.fillPartial(w, r, &q, &body) {
		return
	}
	stopTimer(q.Metrics, metrics.RegoQueryParse)
	asked, err := newQuestion(r, EdgeCompile, "", q.Input, compileDetails{
		Query: body.Query, Unknowns: body.Unknowns, DisableInlining: q.DisableInlining, Nondeterministic: q.Nondeterministic,
	})
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	var left eval.Residual
	asked.Ask = func(ctx context.Context, snapshot *eval.Snapshot, now time.Time) (res eval.Result, err error) {
		q.Now = now
		left, res, err = snapshot.Partial(ctx, &q)
		return res, err
	}
	d := s.decideQuestion(w, r, asked, types.MsgCompileModuleError)
	if d == nil {
		return
	}
	defer d.Release()
	res := compileResponse{Result: left.JSON}
	if q.Metrics != nil {
		stopTimer(q.Metrics, metrics.ServerHandler)
		res.Metrics = q.Metrics.All()
	}
	if res.Explanation, err = explanation(left.Trace, &p); err != nil {
		s.replyError(w, r, err)
		return
	}
	s.replyJSON(w, r, http.StatusOK, res, p.pretty)
}

// fillPartial makes the question of a compile request, or answers that it is
// none.
func (s *Server) fillPartial(w http.ResponseWriter, r *http.Request, q *eval.Partial, body *types.CompileRequestV1) bool {
	var err error
	if q.Body, err = eval.ParseQuery(body.Query); err != nil {
		s.replyParseError(w, r, http.StatusBadRequest, types.MsgParseQueryError+": ", err)
		return false
	}
	if len(q.Body) == 0 {
		s.badRequest(w, r, "missing required 'query' value")
		return false
	}
	if q.Input, err = givenInput(body.Input); err != nil {
		s.badRequest(w, r, err.Error())
		return false
	}
	if body.Unknowns != nil {
		q.Unknowns = make([]*ast.Term, len(*body.Unknowns))
		for i, text := range *body.Unknowns {
			if q.Unknowns[i], err = ast.ParseTerm(text); err != nil {
				s.badRequest(w, r, fmt.Sprintf("error(s) occurred while parsing unknowns: %v", err))
				return false
			}
		}
	}
	for _, text := range body.Options.DisableInlining {
		if _, err := ast.ParseRef(text); err != nil {
			s.replyErrorV1(w, r, http.StatusInternalServerError, types.NewErrorV1(types.CodeInternal, "%v", err))
			return false
		}
	}
	q.DisableInlining, q.Nondeterministic = body.Options.DisableInlining, body.Options.NondeterministicBuiltins
	q.MaxBytes = s.limits.Load().Answer
	return true
}

// givenInput converts the input of a compile request; nil when there is none.
func givenInput(input *any) (ast.Value, error) {
	if input == nil {
		return nil, nil
	}
	v, err := ast.InterfaceToValue(*input)
	if err != nil {
		return nil, fmt.Errorf("error(s) occurred while converting input: %w", err)
	}
	return v, nil
}
