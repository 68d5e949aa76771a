package opa

import (
	"net/url"
	"strings"

	"github.com/open-policy-agent/opa/v1/server/types"
)

// params are the query parameters of a decision or a write. The zero value is
// what a request without a query string asks for.
type params struct {
	pretty, metrics, instrument, provenance, strict, ruleLabels bool

	explain  types.ExplainModeV1 // empty: off
	input    string              // the last input parameter
	hasInput bool
}

// parseParams reads a query string. As in OPA, pairs that cannot be decoded are
// skipped.
func parseParams(rawQuery string) params {
	if rawQuery == "" {
		return params{}
	}
	values, _ := url.ParseQuery(rawQuery) // what could be read is there
	p := params{
		pretty:     isTrue(values, types.ParamPrettyV1),
		metrics:    isTrue(values, types.ParamMetricsV1),
		instrument: isTrue(values, types.ParamInstrumentV1),
		provenance: isTrue(values, types.ParamProvenanceV1),
		strict:     isTrue(values, types.ParamStrictBuiltinErrors),
		ruleLabels: isTrue(values, types.ParamRuleLabelsV1),
		explain:    explainMode(values[types.ParamExplainV1]),
	}
	if inputs := values[types.ParamInputV1]; len(inputs) > 0 {
		p.input, p.hasInput = inputs[len(inputs)-1], true
	}
	return p
}

// plain tells whether the answer holds nothing but the result.
func (p *params) plain() bool {
	return !p.pretty && !p.metrics && !p.instrument && !p.provenance && !p.ruleLabels && p.explain == ""
}

// isTrue reads a boolean parameter: given alone, given empty, or true in any case.
func isTrue(values url.Values, name string) bool {
	given, ok := values[name]
	if !ok {
		return false
	}
	if len(given) == 1 && given[0] == "" {
		return true
	}
	for _, v := range given {
		if strings.EqualFold(v, "true") {
			return true
		}
	}
	return false
}

// explainMode returns the first mode that exists.
func explainMode(given []string) types.ExplainModeV1 {
	for _, v := range given {
		switch mode := types.ExplainModeV1(v); mode {
		case types.ExplainNotesV1, types.ExplainFailsV1, types.ExplainFullV1, types.ExplainDebugV1:
			return mode
		}
	}
	return ""
}
