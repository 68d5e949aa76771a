package eval

import (
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/lineage"
)

// Trace is what an evaluation did, step by step, in OPA's form.
type Trace []*topdown.Event

// Notes keeps the events that lead to a note of the policy.
func (t Trace) Notes() Trace { return lineage.Notes(t) }

// Fails keeps the events that lead to a failing expression.
func (t Trace) Fails() Trace { return lineage.Fails(t) }

// Debug keeps what is useful to find a fault in a policy.
func (t Trace) Debug() Trace { return lineage.Debug(t) }

// Full keeps everything.
func (t Trace) Full() Trace { return lineage.Full(t) }
