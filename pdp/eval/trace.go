package eval

import (
	"strings"

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

// Lines returns the trace as text, one event a line with where it stands in a
// module, at most so many bytes of it.
func (t Trace) Lines(most int) []string {
	out := &boundedText{left: most}
	topdown.PrettyTraceWithLocation(out, t)
	text := strings.TrimSuffix(string(out.text), "\n")
	if text == "" {
		return []string{}
	}
	return strings.Split(text, "\n")
}

// boundedText keeps the beginning of what is written.
type boundedText struct {
	text []byte
	left int
}

// Write implements io.Writer. What is too much is left out without an error.
func (b *boundedText) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.text, b.left = append(b.text, p[:n]...), b.left-n
	return len(p), nil
}
