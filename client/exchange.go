package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
)

// call is one request to the server.
type call struct {
	op    string // for errors
	path  string
	body  []byte
	token string // empty: none
	// also are statuses beside 200 whose body is an answer.
	also []int
}

// answer is what came back, whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// notUnderstood is the error of an answer that is none.
func (a *answer) notUnderstood(op string, err error) *Error {
	return &Error{Op: op, Status: a.status, DecisionID: a.header.Get(headerDecisionID), Err: err, kind: ErrAnswer}
}

// ask sends a call, again where that is safe and may help, and returns an answer
// of status 200 or an *Error.
func (c *Client) ask(ctx context.Context, q *call) (*answer, error) {
	if c.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.Timeout)
		defer cancel()
	}
	c.budget.call()
	for attempt := 0; ; attempt++ {
		a, err := c.send(ctx, q)
		if err == nil && q.accepts(a.status) {
			if !isJSON(a.header) {
				return nil, a.notUnderstood(q.op, errors.New("it is not JSON"))
			}
			return a, nil
		}
		after, again := retryable(a, err)
		if !again || ctx.Err() != nil || attempt >= c.o.Retries || !c.budget.take() || !wait(ctx, pause(attempt, after)) {
			return nil, failure(ctx, q.op, a, err)
		}
	}
}

func (q *call) accepts(status int) bool {
	for _, also := range q.also {
		if status == also {
			return true
		}
	}
	return status == http.StatusOK
}

// failure is the error of a call that has no answer, or one with another status.
func failure(ctx context.Context, op string, a *answer, err error) *Error {
	if err == nil {
		return errorOf(op, a)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{Op: op, Err: err, kind: ErrUnavailable}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		e.Err = fmt.Errorf("%w: %w", cause, err)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.kind = nil // the caller's own doing
	}
	return e
}

// send sends a call once.
func (c *Client) send(ctx context.Context, q *call) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, &Error{Op: q.op, Err: err, kind: ErrInvalid}
	}
	c.o.Propagate(ctx, r.Header)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", c.o.UserAgent)
	if r.Header.Del("Authorization"); q.token != "" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	// The header is not sent: it tells net/http that the request may be sent
	// again when an idle connection turns out to be closed.
	r.Header["Idempotency-Key"] = nil
	res, err := c.http.Do(r)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // without the URL
		}
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, c.o.MaxAnswer+1))
	if err != nil {
		return nil, err
	}
	a := &answer{status: res.StatusCode, header: res.Header, body: body}
	if int64(len(body)) > c.o.MaxAnswer {
		a.body = nil
		return nil, a.notUnderstood(q.op, fmt.Errorf("it is longer than %d bytes", c.o.MaxAnswer))
	}
	return a, nil
}

func isJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/json"
}
