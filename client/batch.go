package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Semantic says when a batch ends (AuthZEN Authorization API 1.0, section
// 7.1.2.1).
type Semantic string

// The three semantics.
const (
	// ExecuteAll answers every question.
	ExecuteAll Semantic = "execute_all"
	// DenyOnFirstDeny ends with the first denial: all must be allowed.
	DenyOnFirstDeny Semantic = "deny_on_first_deny"
	// PermitOnFirstPermit ends with the first permission: one is enough.
	PermitOnFirstPermit Semantic = "permit_on_first_permit"
)

// ends tells whether a decision ends the batch.
func (s Semantic) ends(allowed bool) bool {
	return (s == DenyOnFirstDeny && !allowed) || (s == PermitOnFirstPermit && allowed)
}

// AuthorizeAll asks many questions at once, all of them on one state of policy
// and data. The answers stand in the order of the questions; with another
// semantic than ExecuteAll (which is also the empty one) they end with the one
// that settles the batch. A question that could not be decided is a denial with
// Err. The cache has no part in it.
func (c *Client) AuthorizeAll(ctx context.Context, s Semantic, requests ...Request) ([]Decision, error) {
	const op = "authorize all"
	switch s {
	case "":
		s = ExecuteAll
	case ExecuteAll, DenyOnFirstDeny, PermitOnFirstPermit:
	default:
		return nil, &Error{Op: op, Err: fmt.Errorf("there is no semantic %q", string(s)), kind: ErrInvalid}
	}
	if len(requests) == 0 {
		return nil, nil
	}
	type options struct {
		Semantic Semantic `json:"evaluations_semantic"`
	}
	body, token, err := c.question(ctx, op, struct {
		Evaluations []Request `json:"evaluations"`
		Options     options   `json:"options"`
	}{requests, options{s}})
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, &call{op: op, path: pathEvaluations, body: body, token: token})
	if err != nil {
		return nil, err
	}
	decisions, err := parseDecisions(a.body, s, len(requests))
	if err != nil {
		return nil, a.notUnderstood(op, err)
	}
	return decisions, nil
}

// parseDecisions reads {"evaluations": [decision, ...]} and checks that it is an
// answer to n questions.
func parseDecisions(raw []byte, s Semantic, n int) ([]Decision, error) {
	var answer object
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(answer["evaluations"], &items); err != nil {
		return nil, fmt.Errorf("evaluations: %w", err)
	}
	decisions := make([]Decision, len(items))
	for i, item := range items {
		d, err := parseDecision(item)
		if err != nil {
			return nil, fmt.Errorf("evaluations[%d]: %w", i, err)
		}
		d.readFailure()
		decisions[i] = d
	}
	if len(decisions) == n || len(decisions) > 0 && len(decisions) < n && s.ends(decisions[len(decisions)-1].Allowed) {
		return decisions, nil
	}
	return nil, fmt.Errorf("%d answers to %d questions", len(decisions), n)
}

// readFailure reads context.error, which stands where a question could not be
// decided.
func (d *Decision) readFailure() {
	var context object
	if json.Unmarshal(d.Context, &context) != nil || context["error"] == nil || d.Allowed {
		return
	}
	failed := &Error{Op: "authorize", DecisionID: d.ID}
	var cause object
	if read(context["error"], &cause) == nil {
		_ = read(cause["status"], &failed.Status) // stays 0
		failed.Code, failed.Detail = describe(cause["message"])
	}
	failed.kind = kindOf(failed.Status)
	d.Err = failed
}

// Result is the answer to one input of QueryAll.
type Result struct {
	// ID names the record.
	ID string
	// Raw is the result as JSON; nil when there is none.
	Raw json.RawMessage
	// Err is why there is none: ErrUndefined, or an *Error.
	Err error
}

// Decode decodes the result, or returns Err.
func (r *Result) Decode(out any) error {
	if r.Err != nil {
		return r.Err
	}
	if err := json.Unmarshal(r.Raw, out); err != nil {
		return &Error{Op: "decode result", DecisionID: r.ID, Err: err, kind: ErrAnswer}
	}
	return nil
}

// QueryAll asks the decision at a path for several inputs, by names of the
// caller's choice, on one state of policy and data. There is a Result for each.
func (c *Client) QueryAll(ctx context.Context, path string, inputs map[string]any) (map[string]Result, error) {
	const op = "query all"
	if len(inputs) == 0 {
		return nil, nil
	}
	where, err := dataPath("/v1/batch/data/", path)
	if err != nil {
		return nil, &Error{Op: op, Err: err, kind: ErrInvalid}
	}
	body, token, err := c.question(ctx, op, map[string]any{"inputs": inputs})
	if err != nil {
		return nil, err
	}
	a, err := c.ask(ctx, &call{op: op, path: where, body: body, token: token, also: []int{http.StatusMultiStatus, http.StatusInternalServerError}})
	if err != nil {
		return nil, err
	}
	var answered object
	if err := json.Unmarshal(a.body, &answered); err != nil {
		return nil, a.notUnderstood(op, err)
	}
	if answered["responses"] == nil && a.status == http.StatusInternalServerError {
		return nil, errorOf(op, a)
	}
	var responses map[string]object
	if err := read(answered["responses"], &responses); err != nil {
		return nil, a.notUnderstood(op, err)
	}
	results := make(map[string]Result, len(inputs))
	for name := range inputs {
		response, ok := responses[name]
		if !ok {
			return nil, a.notUnderstood(op, errors.New("an input has no response"))
		}
		results[name] = response.result()
	}
	return results, nil
}

// result reads one response of a batch.
func (o object) result() Result {
	var r Result
	_ = read(o["decision_id"], &r.ID) // stays empty
	switch {
	case o["code"] != nil:
		failed := &Error{Op: "query", Status: http.StatusInternalServerError, DecisionID: r.ID}
		_ = read(o["code"], &failed.Code) // one that is no text stays empty
		_, failed.Detail = describe(o["message"])
		r.Err = failed
	case o["result"] == nil:
		r.Err = &Error{Op: "query", Status: http.StatusOK, DecisionID: r.ID, kind: ErrUndefined}
	default:
		r.Raw = o["result"]
	}
	return r
}
