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
