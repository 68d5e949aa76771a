package pdp

import (
	"context"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maskPath is where a policy says what of a decision must not be recorded, as
// in OPA: a set of JSON pointers, or of {op, path, value}.
const maskPath = "system/log/mask"

// documents are the parts of a decision that may hold secrets. Nil: absent.
type documents struct {
	input, result, nd ast.Value
	changed           bool // by the mask
}

// applyMasks returns the documents as the log may keep them. For an answer of a
// canary the mask of the active policy comes first, and the canary's own is
// asked about what that left: it may hide more, and cannot show what is hidden.
func (p *PDP) applyMasks(ctx context.Context, q *Query, d *Decision, now time.Time, docs documents) documents {
	policy := d.Snapshot
	if q.previewOf != nil { // who tries a policy does not say what the log may hold
		policy = q.previewOf
	}
	if d.active != nil && d.active != policy && q.previewOf == nil && d.active.Masks() {
		var ok bool
		if docs, ok = p.applyMask(ctx, d.active, q, d, now, docs); !ok {
			return docs
		}
	}
	if policy.Masks() {
		docs, _ = p.applyMask(ctx, policy, q, d, now, docs)
	}
	return docs
}

// applyMask asks the policy what to hide and returns the documents without it.
// When the policy cannot say, nothing of them is kept, and ok is false: the
// decision stays recorded, its content does not leak.
func (p *PDP) applyMask(ctx context.Context, policy *eval.Snapshot, q *Query, d *Decision, now time.Time, docs documents) (left documents, ok bool) {
	r := &d.scratch.record
	event := maskEvent(q, d, docs)
	res, err := policy.Eval(ctx, &eval.Query{Path: maskPath, Input: event, Now: now})
	if err == nil {
		var rules []mask.Rule
		if rules, err = mask.ParseRules(res.Value); err == nil {
			masked, erased, replaced, err := mask.Apply(rules, event)
			if err == nil {
				r.Erased, r.Masked = appendNew(r.Erased, erased), appendNew(r.Masked, replaced)
				obj, _ := masked.(ast.Object)
				return documents{
					input: member(obj, p.names.input), result: member(obj, p.names.result),
					nd: member(obj, p.names.nd), changed: true,
				}, true
			}
		}
	}
	r.Erased, r.Masked = []string{"/input", "/result", "/nd_builtin_cache"}, nil
	r.Message = "nothing of the decision's content is kept: the masking policy failed"
	p.metrics.maskFailed.Inc()
	return documents{changed: true}, false
}

// appendNew appends the paths that are not in the list.
func appendNew(list, paths []string) []string {
	for _, path := range paths {
		if !slices.Contains(list, path) {
			list = append(list, path)
		}
	}
	return list
}

// maskEvent is the input of the masking policy: the members of OPA's decision
// log event that a policy can ask for.
func maskEvent(q *Query, d *Decision, docs documents) ast.Object {
	event := ast.NewObject(
		ast.Item(ast.StringTerm("decision_id"), ast.StringTerm(d.ID)),
		ast.Item(ast.StringTerm("path"), ast.StringTerm(q.Path)),
		ast.Item(ast.StringTerm("requested_by"), ast.StringTerm(q.ClientIP)),
	)
	put := func(key string, v ast.Value) {
		if v != nil {
			event.Insert(ast.StringTerm(key), ast.NewTerm(v))
		}
	}
	put("input", docs.input)
	put("result", docs.result)
	put("nd_builtin_cache", docs.nd)
	return event
}

// withoutArguments removes from the non-deterministic results the calls that had
// arguments: their text is a key there, and may hold what is masked elsewhere.
// erased gets the built-ins that lost a call. What has no arguments, such as the
// clock, stays.
func withoutArguments(nd ast.Value, erased *[]string) ast.Value {
	calls, ok := nd.(ast.Object)
	if !ok {
		return nd
	}
	kept := ast.NewObject()
	calls.Foreach(func(name, results *ast.Term) {
		byArguments, ok := results.Value.(ast.Object)
		if !ok {
			return
		}
		plain := ast.NewObject()
		byArguments.Foreach(func(arguments, result *ast.Term) {
			if list, ok := arguments.Value.(*ast.Array); ok && list.Len() == 0 {
				plain.Insert(arguments, result)
			}
		})
		if plain.Len() < byArguments.Len() {
			*erased = append(*erased, "/nd_builtin_cache/"+text(name.Value))
		}
		if plain.Len() > 0 {
			kept.Insert(name, ast.NewTerm(plain))
		}
	})
	if kept.Len() == 0 {
		return nil
	}
	return kept
}
