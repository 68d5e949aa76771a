package main

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// callerPolicyPath is the rule that may refuse callers beyond their scopes.
const callerPolicyPath = "verdict/system/authz/allow"

// callerPolicy asks the active snapshot whether a caller may use a class of
// routes. Where no such rule is loaded everybody may whom the scopes let.
type callerPolicy struct {
	engine *eval.Engine
	now    func() time.Time
}

// Generation implements api.CallerPolicy.
func (c *callerPolicy) Generation() uint64 { return c.engine.Active().Generation() }

// MayCall implements api.CallerPolicy.
func (c *callerPolicy) MayCall(ctx context.Context, q *api.CallerQuestion) (api.CallerAnswer, error) {
	snapshot := c.engine.Active()
	answer := api.CallerAnswer{Allowed: true, Cacheable: true, Generation: snapshot.Generation()}
	ref, err := eval.ParsePath(callerPolicyPath)
	if err != nil {
		return api.CallerAnswer{}, err
	}
	if !snapshot.HasRules(ref) {
		return answer, nil
	}
	reach, err := snapshot.Reach(callerPolicyPath)
	if err != nil {
		return api.CallerAnswer{}, fmt.Errorf("prepare caller policy: %w", err)
	}
	res, err := snapshot.Eval(ctx, &eval.Query{Path: callerPolicyPath, Input: callerInput(q), Now: c.now()})
	if err != nil {
		return api.CallerAnswer{}, fmt.Errorf("evaluate caller policy: %w", err)
	}
	allowed, _ := res.Value.(ast.Boolean)
	answer.Allowed, answer.Cacheable = bool(allowed), dependsOnCallerAndClass(reach)
	if !answer.Allowed {
		answer.Reason = "the caller policy (data.verdict.system.authz) refuses this"
	}
	return answer, nil
}

// callerInput is the input of the caller policy.
func callerInput(q *api.CallerQuestion) ast.Value {
	item := func(key, value string) [2]*ast.Term { return ast.Item(ast.StringTerm(key), ast.StringTerm(value)) }
	caller := ast.NewObject(item("kind", q.Caller.Kind.String()))
	if q.Caller.Name != "" {
		caller.Insert(ast.StringTerm("name"), ast.StringTerm(q.Caller.Name))
	}
	var scopes []*ast.Term
	for _, name := range q.Caller.Scopes.Names() {
		scopes = append(scopes, ast.StringTerm(name))
	}
	caller.Insert(ast.StringTerm("scopes"), ast.ArrayTerm(scopes...))
	input := ast.NewObject(
		ast.Item(ast.StringTerm("caller"), ast.NewTerm(caller)),
		item("class", q.Class.String()), item("listener", q.Listener.String()),
		item("method", q.Method), item("path", q.Path),
	)
	if q.Bundle != "" {
		input.Insert(ast.StringTerm("bundle"), ast.StringTerm(q.Bundle))
	}
	if q.ClientIP != "" {
		input.Insert(ast.StringTerm("client_ip"), ast.StringTerm(q.ClientIP))
	}
	return input
}

// dependsOnCallerAndClass tells whether an answer holds for every request of
// the same caller and class.
func dependsOnCallerAndClass(reach eval.Reach) bool {
	if !reach.Deterministic {
		return false
	}
	for _, ref := range reach.Inputs {
		if len(ref) < 2 {
			return false
		}
		if name, ok := ref[1].Value.(ast.String); !ok || name != "caller" && name != "class" {
			return false
		}
	}
	return true
}
