package vault

import "context"

// ReadKV gives the fields of the newest version of a secret in a KV engine,
// version 2. mount and path are checked by the caller. The error is as Do's; a
// deleted version is NotFound.
func (c *Client) ReadKV(ctx context.Context, mount, path string) (map[string]any, error) {
	var out struct {
		Data map[string]any `json:"data"`
	}
	if err := c.Do(ctx, Call{Operation: "kv", Method: Get, Path: mount + "/data/" + path}, &out); err != nil {
		return nil, err
	}
	if out.Data == nil {
		return nil, &Error{Kind: NotFound, Operation: "kv"}
	}
	return out.Data, nil
}
