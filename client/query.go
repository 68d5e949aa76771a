package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
)

// Query asks the decision at a path of the policy, "app/orders/allow" for
// example, over OPA's data API, and decodes its result into out. An undefined
// decision is ErrUndefined and leaves out as it is. id names the record, with
// most errors too.
func (c *Client) Query(ctx context.Context, path string, input, out any) (id string, err error) {
	return c.query(ctx, "query", path, input, out)
}

func (c *Client) query(ctx context.Context, op, path string, input, out any) (id string, err error) {
	where, err := dataPath("/v1/data/", path)
	if err != nil {
		return "", &Error{Op: op, Err: err, kind: ErrInvalid}
	}
	body, token, err := c.question(ctx, op, struct {
		Input any `json:"input"`
	}{input})
	if err != nil {
		return "", err
	}
	a, err := c.ask(ctx, &call{op: op, path: where, body: body, token: token})
	if err != nil {
		if failed, ok := errors.AsType[*Error](err); ok {
			id = failed.DecisionID
		}
		return id, err
	}
	var answered object
	if err := json.Unmarshal(a.body, &answered); err != nil {
		return a.header.Get(headerDecisionID), a.notUnderstood(op, err)
	}
	if _ = read(answered["decision_id"], &id); id == "" {
		id = a.header.Get(headerDecisionID)
	}
	if answered["result"] == nil {
		return id, &Error{Op: op, Status: a.status, DecisionID: id, kind: ErrUndefined}
	}
	if err := json.Unmarshal(answered["result"], out); err != nil {
		return id, a.notUnderstood(op, err)
	}
	return id, nil
}

// dataPath is the URL of a path below data, each segment as it is.
func dataPath(prefix, path string) (string, error) {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if segment == "" || segment == "." || segment == ".." {
			return "", errors.New(`the path must be names with slashes between them: "app/allow"`)
		}
		segments[i] = url.PathEscape(segment)
	}
	return prefix + strings.Join(segments, "/"), nil
}
