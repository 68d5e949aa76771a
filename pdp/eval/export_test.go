package eval

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// KeptPatterns counts the patterns that e keeps between queries, of those that
// format makes of the numbers below n.
func KeptPatterns(e *Engine, format string, n int) (kept int) {
	for i := range n {
		if _, ok := e.values.Get(ast.String(fmt.Sprintf(format, i))); ok {
			kept++
		}
	}
	return kept
}

// Occupy takes every turn of an engine until free is called.
func (e *Engine) Occupy() (free func()) {
	for range cap(e.slots) {
		e.slots <- struct{}{}
	}
	return func() {
		for range cap(e.slots) {
			<-e.slots
		}
	}
}

// Of returns the reach of the document at ref, which may be a rule's, one above
// several rules, or one inside a rule's. A ref that no rule has to do with is
// base data and reaches nothing.
func (r *Reaches) Of(ref ast.Ref) Reach {
	s := r.union(ref)
	return Reach{Inputs: s.inputs.refs(), Deterministic: !s.anyhow && !r.opaque, Unrecorded: s.unkept || r.opaque}
}

// Bytes returns how much the kept results take.
func (m *Memo) Bytes() int64 { return m.used.Load() }
