package opa

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxExpansion is how many times the bound of a request its inputs may take once
// each has the common input.
const maxExpansion = 16

// msgInputsMissing is the warning of a batch that asks about nothing.
const msgInputsMissing = "'inputs' key missing from the request"

// batchResponse is the answer of the batch API, in EOPA's shape.
type batchResponse struct {
	ID        string          `json:"batch_decision_id,omitempty"`
	Metrics   types.MetricsV1 `json:"metrics,omitempty"`
	Responses map[string]any  `json:"responses,omitempty"` // batchResult or batchFailure
	Warning   *types.Warning  `json:"warning,omitempty"`
}

// batchResult is the answer to one input of a batch: what /v1/data answers.
type batchResult struct {
	DecisionID  string              `json:"decision_id,omitempty"`
	Status      string              `json:"http_status_code,omitempty"`
	Provenance  *types.ProvenanceV1 `json:"provenance,omitempty"`
	Explanation types.TraceV1       `json:"explanation,omitempty"`
	Metrics     types.MetricsV1     `json:"metrics,omitempty"`
	Result      *any                `json:"result,omitempty"`
	RuleLabels  []map[string]any    `json:"rule_labels,omitempty"`
}

// batchFailure is the answer to an input whose evaluation failed.
type batchFailure struct {
	DecisionID string  `json:"decision_id,omitempty"`
	Status     string  `json:"http_status_code,omitempty"`
	Code       string  `json:"code"`
	Message    string  `json:"message"`
	Errors     []error `json:"errors,omitempty"`
}

// batch is what a request to the batch API asks.
type batch struct {
	ids    []string // by index of queries
	inputs []ast.Value
	given  bool // the member inputs was there
}

// batchPost answers POST /v1/batch/data[/{path}]: the decision at one path for
// several inputs on one snapshot, each recorded on its own.
func (s *Server) batchPost(w http.ResponseWriter, r *http.Request) {
	ex := s.newExchange()
	defer s.release(ex)
	p := parseParams(r.URL.RawQuery)
	whole := batchTimers(&p)
	asked, err := s.readBatch(ex, r)
	if err != nil {
		s.badBody(w, r, err)
		return
	}
	whole.Timer(metrics.RegoInputParse).Stop()
	id, err := s.pdp.NewID()
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	snapshot := s.pdp.Engine().Active()
	queries := make([]pdp.Query, len(asked.ids))
	for i, input := range asked.inputs {
		queries[i] = *s.ask(ex, r, pathBelow(r, 3), &p)
		queries[i].Input, queries[i].Snapshot, queries[i].BatchID = input, snapshot, id
		if m := queries[i].Observe.Metrics; m != nil {
			m.Timer(metrics.ServerHandler).Start()
		}
	}
	outcomes, err := s.pdp.DecideBatch(r.Context(), queries)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	res := batchResponse{ID: id}
	if !asked.given {
		res.Warning = types.NewWarning(types.CodeAPIUsageWarn, msgInputsMissing)
	}
	status, err := s.fillBatch(&res, asked.ids, outcomes, queries, &p)
	if err != nil {
		s.replyError(w, r, err)
		return
	}
	if p.metrics || p.instrument {
		whole.Timer(metrics.ServerHandler).Stop()
		res.Metrics = whole.All()
	}
	w.Header()["X-Decision-Id"] = []string{id}
	s.replyJSON(w, r, status, &res, p.pretty)
	for _, o := range outcomes {
		o.Decision.Release()
	}
}

func batchTimers(p *params) pdp.Metrics {
	if !p.metrics && !p.instrument {
		return metrics.NoOp()
	}
	m := metrics.New()
	m.Timer(metrics.ServerHandler).Start()
	m.Timer(metrics.RegoInputParse).Start()
	return m
}

// fillBatch turns outcomes into responses and finds the status of them all.
// Each tells its own status only when they differ.
func (s *Server) fillBatch(res *batchResponse, ids []string, outcomes []pdp.Outcome, queries []pdp.Query, p *params) (int, error) {
	failed := 0
	for _, o := range outcomes {
		if o.Err != nil {
			failed++
		}
	}
	mixed := failed > 0 && failed < len(outcomes)
	res.Responses = make(map[string]any, len(outcomes))
	for i, o := range outcomes {
		if o.Err != nil {
			res.Responses[ids[i]] = s.batchFailure(o, mixed)
			continue
		}
		one, err := s.dataResponse(o.Decision, &queries[i].Observe, p)
		if err != nil {
			return 0, err
		}
		result := batchResult{
			DecisionID: o.Decision.ID, Provenance: one.Provenance, Explanation: one.Explanation,
			Metrics: one.Metrics, Result: one.Result, RuleLabels: one.RuleLabels,
		}
		if mixed {
			result.Status = "200"
		}
		res.Responses[ids[i]] = result
	}
	switch {
	case mixed:
		return http.StatusMultiStatus, nil
	case failed > 0:
		return http.StatusInternalServerError, nil
	}
	return http.StatusOK, nil
}

func (s *Server) batchFailure(o pdp.Outcome, mixed bool) batchFailure {
	_, e := s.classify(http.Header{}, o.Err)
	f := batchFailure{DecisionID: o.Decision.ID, Code: e.Code, Message: e.Message, Errors: e.Errors}
	if mixed {
		f.Status = "500"
	}
	return f
}

// readBatch reads {"inputs": {id: input}, "common_input": input}.
func (s *Server) readBatch(ex *exchange, r *http.Request) (*batch, error) {
	doc, err := s.decisionDocument(ex, r, 2)
	if err != nil || doc == nil {
		return &batch{}, err
	}
	if _, null := doc.(ast.Null); null {
		return &batch{}, nil
	}
	var body struct {
		Inputs map[string]json.RawMessage `json:"inputs"`
	}
	obj, ok := doc.(ast.Object)
	if !ok {
		return nil, malformed(json.Unmarshal([]byte(kindSample(doc)), &body))
	}
	inputs := obj.Get(ast.StringTerm("inputs"))
	if inputs == nil {
		return &batch{}, nil
	}
	if _, null := inputs.Value.(ast.Null); null {
		return &batch{}, nil
	}
	byID, ok := inputs.Value.(ast.Object)
	if !ok {
		return nil, malformed(json.Unmarshal([]byte(`{"inputs":`+kindSample(inputs.Value)+`}`), &body))
	}
	var common ast.Object
	if t := obj.Get(ast.StringTerm("common_input")); t != nil {
		common, _ = t.Value.(ast.Object)
	}
	if err := s.checkExpansion(common, byID.Len()); err != nil {
		return nil, err
	}
	b := &batch{given: true}
	byID.Foreach(func(k, v *ast.Term) {
		id, _ := k.Value.(ast.String) // JSON has no other keys
		b.ids = append(b.ids, string(id))
		b.inputs = append(b.inputs, merge(common, v.Value))
	})
	return b, nil
}

// checkExpansion refuses a batch whose common input, repeated for each of n
// inputs, is many times what the request may hold: each is recorded whole.
func (s *Server) checkExpansion(common ast.Object, n int) error {
	if common == nil {
		return nil
	}
	text, err := eval.AppendJSON(nil, common)
	if err != nil {
		return malformed(err)
	}
	limit := maxExpansion * s.limits.Load().RequestBody
	if int64(len(text))*int64(n) > limit {
		return malformed(fmt.Errorf("common_input of %d bytes for %d inputs exceeds %d bytes (%d times limits.request_body)",
			len(text), n, limit, maxExpansion))
	}
	return nil
}

// kindSample is a JSON text of the kind of v, for encoding/json's words.
func kindSample(v ast.Value) string {
	switch jsonKind(v) {
	case "array":
		return `[]`
	case "string":
		return `""`
	case "bool":
		return `true`
	}
	return `0`
}

// merge lays input over what all inputs have in common, member by member. Only
// objects are merged; anything else replaces.
func merge(common ast.Object, input ast.Value) ast.Value {
	own, ok := input.(ast.Object)
	if common == nil || !ok {
		return input
	}
	merged := ast.NewObject()
	common.Foreach(func(k, v *ast.Term) { merged.Insert(k, v) })
	own.Foreach(func(k, v *ast.Term) {
		if old := common.Get(k); old != nil {
			if below, ok := old.Value.(ast.Object); ok {
				v = ast.NewTerm(merge(below, v.Value))
			}
		}
		merged.Insert(k, v)
	})
	return merged
}
