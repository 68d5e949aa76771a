package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// MaxPatience bounds every call.
	MaxPatience = 10 * time.Second

	maxRetries = 2
	retryWait  = 50 * time.Millisecond
)

// CallMethod is what a Call does.
type CallMethod int

// The methods.
const (
	Get CallMethod = iota
	List
	Put
	Delete
)

// Call is one call to Vault.
type Call struct {
	// Operation names the call in metrics and errors; a constant.
	Operation string
	Method    CallMethod
	// Path is the path after /v1/. Its parts come from configuration or are
	// checked by the caller.
	Path string
	// Body is encoded as JSON with Put; nil: an empty object.
	Body any
	// Patience is the bound of this call where Options.Timeout is too short
	// for what Vault has to do, such as making an RSA key; at most MaxPatience.
	Patience time.Duration
	// Once says that the call must not be made again when it may have taken
	// effect.
	Once bool
}

// Do makes a call and decodes the member data of the answer into out, unless
// out is nil. The error is an *Error or, when ctx was cancelled, ctx's.
//
// With an answer that is an error out is filled in too when the answer has
// data: a batch of which every item failed has.
//
// A call is made again at most twice, and only when the connection broke, a
// gateway had no Vault, or Vault asked to slow down, and only as long as not too
// many calls are made again. When Vault refuses the token, Do logs in and makes
// the call once more.
func (c *Client) Do(ctx context.Context, call Call, out any) error {
	body, err := encode(call)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("vault: %s: %w", call.Operation, err)
	}
	if e := c.health.admit(call.Operation); e != nil {
		return e
	}
	bound, cancel := context.WithTimeout(ctx, max(c.o.Timeout, min(call.Patience, MaxPatience)))
	defer cancel()
	started := c.o.Now()
	e, err := c.attempt(bound, ctx, call, body, out)
	switch {
	case err != nil:
		return err // of the login, which has told of it
	case e != nil && context.Cause(ctx) == context.Canceled:
		c.health.abandon()
		return fmt.Errorf("vault: %s: %w", call.Operation, context.Canceled)
	case e != nil && e.Status == 0 && ctx.Err() != nil && c.o.Now().Sub(started) < c.o.Timeout/2:
		c.health.abandon() // its caller had no time: that says nothing about Vault
		return e
	}
	c.health.report(e, false)
	return asError(e)
}

// attempt makes the call until it is answered or must not be made again. The
// second error is that of a login. parent is the context without the client's
// own deadline.
func (c *Client) attempt(ctx, parent context.Context, call Call, body []byte, out any) (*Error, error) {
	var again bool
	for tries := 0; ; tries++ {
		s, err := c.loggedIn(ctx, parent)
		if err != nil {
			return nil, err
		}
		e := c.once(ctx, s, call, body, out)
		switch {
		case e == nil || parent.Err() != nil:
			return e, nil
		case e.Kind == Denied && !again && c.lost(ctx, s, e):
			again = true
		case !c.mayRetry(ctx, call, e, tries):
			return e, nil
		}
	}
}

func encode(call Call) ([]byte, error) {
	if call.Method != Put {
		return nil, nil
	}
	if call.Body == nil {
		return []byte("{}"), nil
	}
	body, err := json.Marshal(call.Body)
	if err != nil {
		return nil, fmt.Errorf("vault: %s: encode: %w", call.Operation, err)
	}
	return body, nil
}

// once makes the call once.
func (c *Client) once(ctx context.Context, s *session, call Call, body []byte, out any) *Error {
	started := c.o.Now()
	resp, err := send(ctx, s.api, call, body)
	if err == nil && resp.StatusCode/100 == 3 { // the library takes it for an answer
		err = errors.New("sent to another host")
	}
	e := c.read(ctx, call, resp, err, out)
	c.metrics.observe(call.Operation, KindOf(asError(e)), c.o.Now().Sub(started))
	return e
}

// read reads the answer and closes it.
func (c *Client) read(ctx context.Context, call Call, resp *api.Response, err error, out any) *Error {
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close()
	}
	var e *Error
	if err != nil {
		e = failure(ctx, call.Operation, resp, err)
	}
	if resp == nil || out == nil || resp.StatusCode == 204 || resp.StatusCode/100 == 3 {
		return e
	}
	answer := struct {
		Data any `json:"data"`
	}{out}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil && e == nil {
		if ctx.Err() != nil || isConnection(err) {
			return failure(ctx, call.Operation, nil, err)
		}
		return &Error{Kind: Failed, Operation: call.Operation, Status: resp.StatusCode, Err: errors.New("the answer is not the JSON that it should be")}
	}
	return e
}

// isConnection tells an error of reading from one of what was read.
func isConnection(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return !syntax && !kind && !errors.Is(err, errTooLong)
}

// send hands the call to the library.
func send(ctx context.Context, client *api.Client, call Call, body []byte) (*api.Response, error) {
	logical := client.Logical()
	switch call.Method {
	case List:
		return logical.ReadRawWithDataWithContext(ctx, call.Path, map[string][]string{"list": {"true"}})
	case Put:
		return logical.WriteRawWithContext(ctx, call.Path, body)
	case Delete:
		return logical.DeleteRawWithContext(ctx, call.Path)
	default:
		return logical.ReadRawWithContext(ctx, call.Path)
	}
}

// mayRetry waits until the call may be made again, or tells that it may not.
func (c *Client) mayRetry(ctx context.Context, call Call, e *Error, tries int) bool {
	if tries >= maxRetries {
		return false
	}
	wait := retryWait << tries
	switch e.Kind {
	case RateLimited:
		wait = max(wait, e.RetryAfter) // nothing was done
	case Unreachable:
		if call.Once && e.Status == 0 {
			return false // it may have been done
		}
	default:
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && wait*2 > time.Until(deadline) {
		return false
	}
	if !c.retries.Allow() {
		return false
	}
	c.metrics.retries.Inc()
	return pause(ctx, 2*wait)
}

// lost tells whether Vault does not know the token of s any more, rather than
// that the token may not make the call; then s is not used again.
func (c *Client) lost(ctx context.Context, s *session, e *Error) bool {
	if c.session.Load() != s {
		return true // somebody has found out
	}
	if !unknownToken(e.Messages) {
		resp, err := s.api.Logical().ReadRawWithContext(ctx, "auth/token/lookup-self")
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		if err == nil || failure(ctx, "lookup", resp, err).Kind != Denied {
			return false
		}
	}
	if !c.relogins.AllowN(c.o.Now(), 1) {
		return false
	}
	if c.session.CompareAndSwap(s, nil) {
		c.metrics.lost.Inc()
		s.end()
		c.observe(Event{Kind: TokenLost, State: Denied, Detail: "Vault refused a token that should have been good"})
		c.o.Logger.Warn().Msg("Vault has lost our token; logging in again")
	}
	return true
}

// unknownToken tells whether Vault says so itself: newer versions do.
func unknownToken(messages []string) bool {
	for _, m := range messages {
		if strings.Contains(m, "invalid token") || strings.Contains(m, "bad token") {
			return true
		}
	}
	return false
}

// decodeSecret reads an answer as the library has it.
func decodeSecret(resp *api.Response) (*api.Secret, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	secret, err := api.ParseSecret(&b)
	if err != nil || secret == nil {
		return nil, errors.New("the answer is not the JSON that it should be")
	}
	return secret, nil
}
