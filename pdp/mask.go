package pdp

import (
	"context"
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

// applyMask asks the policy what to hide and returns the documents as the log
// may keep them. When the policy cannot say, nothing of them is kept: the
// decision stays recorded, its content does not leak.
func (p *PDP) applyMask(ctx context.Context, q *Query, d *Decision, now time.Time, docs documents) documents {
	r := &d.scratch.record
	docs.changed = true
	event := maskEvent(q, d, docs)
	policy := d.Snapshot
	if q.previewOf != nil { // who tries a policy does not say what the log may hold
		policy = q.previewOf
	}
	res, err := policy.Eval(ctx, &eval.Query{Path: maskPath, Input: event, Now: now})
	if err == nil {
		var rules []mask.Rule
		if rules, err = mask.ParseRules(res.Value); err == nil {
			var masked ast.Value
			if masked, r.Erased, r.Masked, err = mask.Apply(rules, event); err == nil {
				obj, _ := masked.(ast.Object)
				return documents{
					input: member(obj, p.names.input), result: member(obj, p.names.result),
					nd: member(obj, p.names.nd), changed: true,
				}
			}
		}
	}
	r.Erased, r.Masked = []string{"/input", "/result", "/nd_builtin_cache"}, nil
	r.Message = "nothing of the decision's content is kept: the masking policy failed"
	p.metrics.maskFailed.Inc()
	return documents{changed: true}
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
