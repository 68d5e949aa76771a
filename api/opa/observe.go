package opa

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/server/types"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// explainTurns is how many answers with an explanation are made at once: each may
// take a hundred megabytes and seconds of a processor. explainWait is how long
// another one waits for its turn.
const (
	explainTurns = 2
	explainWait  = 10 * time.Second
)

// explained lets requests for an explanation take turns.
func (s *Server) explained(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "" || parseParams(r.URL.RawQuery).explain == "" {
			next(w, r)
			return
		}
		timer := time.NewTimer(explainWait)
		defer timer.Stop()
		select {
		case s.explaining <- struct{}{}:
			defer func() { <-s.explaining }()
			next(w, r)
		case <-r.Context().Done(): // nobody waits for an answer
		case <-timer.C:
			w.Header().Set("Retry-After", retrySeconds(explainWait))
			s.replyErrorV1(w, r, http.StatusServiceUnavailable, types.NewErrorV1(CodeBusy, "too many explanations are being made; ask again without explain or later"))
		}
	}
}

// dataResponse is the answer of /v1/data with what was asked for beside the
// result.
func (s *Server) dataResponse(d *pdp.Decision, observed *pdp.Observe, p *params) (*types.DataResponseV1, error) {
	res := &types.DataResponseV1{}
	if !s.options.OmitDecisionID {
		res.DecisionID = d.ID
	}
	if m := observed.Metrics; m != nil {
		m.Timer(metrics.ServerHandler).Stop()
		res.Metrics = m.All()
	}
	if p.provenance {
		res.Provenance = s.provenance(d.Snapshot)
	}
	if d.JSON != nil {
		var result any = json.RawMessage(d.JSON)
		res.Result = &result
		if p.ruleLabels {
			res.RuleLabels = d.Result.RuleLabels
		}
	}
	var err error
	if d.JSON != nil || p.explain == types.ExplainFullV1 {
		res.Explanation, err = explanation(d.Result.Trace, p)
	}
	return res, err
}

// explanation is the part of a trace that was asked for.
func explanation(trace eval.Trace, p *params) (types.TraceV1, error) {
	switch p.explain {
	case types.ExplainNotesV1:
		return types.NewTraceV1(trace.Notes(), p.pretty)
	case types.ExplainFailsV1:
		return types.NewTraceV1(trace.Fails(), p.pretty)
	case types.ExplainFullV1:
		return types.NewTraceV1(trace.Full(), p.pretty)
	case types.ExplainDebugV1:
		return types.NewTraceV1(trace.Debug(), p.pretty)
	}
	return nil, nil
}

func (s *Server) provenance(snapshot *eval.Snapshot) *types.ProvenanceV1 {
	b := s.options.Build
	p := &types.ProvenanceV1{
		Version: b.Version, Vcs: b.Commit, Timestamp: b.Timestamp, Hostname: b.Hostname,
		Bundles: map[string]types.ProvenanceBundleV1{},
	}
	for name, revision := range snapshot.Revisions() {
		p.Bundles[name] = types.ProvenanceBundleV1{Revision: revision}
	}
	return p
}

// startTimers starts OPA's timers of a handler. The function returned stops the
// one of the input; that of the handler runs on.
func startTimers(m pdp.Metrics) (inputRead func()) {
	if m == nil {
		return func() {}
	}
	m.Timer(metrics.ServerHandler).Start()
	m.Timer(metrics.RegoInputParse).Start()
	return func() { m.Timer(metrics.RegoInputParse).Stop() }
}
