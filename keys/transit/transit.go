// Package transit holds keys in the transit secrets engine of HashiCorp Vault
// or OpenBao. Key material never leaves Vault, but for what Import brings
// there.
package transit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
)

// DefaultMount is where the engine is mounted unless the operator says
// otherwise.
const DefaultMount = "transit"

// Options of a Backend. The zero value is the default.
type Options struct {
	// Mount is where the engine is mounted; empty: DefaultMount.
	Mount string
	// Rand is where data keys come from; nil: crypto/rand.
	Rand io.Reader
}

// Backend implements keys.Backend. Each of its calls to Vault has the bound of
// the client; whoever makes several of them for one request gives them a
// context with that deadline.
type Backend struct {
	client *vault.Client
	mount  string
	rand   io.Reader

	mu    sync.Mutex
	types map[string]keys.Type // of the keys that were seen; a type never changes
}

// New gives the backend of a client. It calls nobody.
func New(client *vault.Client, o Options) (*Backend, error) {
	if client == nil {
		return nil, errors.New("transit needs a client of Vault")
	}
	if o.Mount = strings.Trim(o.Mount, "/"); o.Mount == "" {
		o.Mount = DefaultMount
	}
	for part := range strings.SplitSeq(o.Mount, "/") {
		if !plain(part) {
			return nil, fmt.Errorf("transit's mount %q is not a path of letters, digits, dots, underscores and hyphens", o.Mount)
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return &Backend{client: client, mount: o.Mount, rand: o.Rand, types: map[string]keys.Type{}}, nil
}

// State implements keys.Backend.
func (b *Backend) State() keys.State {
	s := b.client.Status()
	if s.State == vault.Healthy {
		return keys.State{Since: s.Since}
	}
	return keys.State{Reason: reason(s.State), Detail: s.Detail, Since: s.Since}
}

// reason gives the word of package keys; they are the same but for what cannot
// be a state.
func reason(kind vault.Kind) keys.Reason {
	switch kind {
	case vault.Sealed, vault.Standby, vault.Unreachable, vault.Timeout, vault.RateLimited, vault.Denied:
		return keys.Reason(kind)
	}
	return keys.ReasonFailed
}

// plain tells whether a name can stand in a path as it is.
func plain(name string) bool {
	return name != "" && len(name) <= keys.MaxName && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
		})
}

// call makes a call under the mount. What it gives is fit for callers of
// package keys, but for vault.Refused and vault.NotFound, which only the
// operation can explain.
func (b *Backend) call(ctx context.Context, c vault.Call, out any) error {
	c.Path = b.mount + "/" + c.Path
	err := b.client.Do(ctx, c, out)
	e, ok := errors.AsType[*vault.Error](err)
	switch {
	case err == nil:
		return nil
	case !ok && errors.Is(err, context.DeadlineExceeded):
		return &keys.UnavailableError{Reason: keys.ReasonTimeout, Err: err}
	case !ok || !e.Unavailable():
		return err
	}
	return &keys.UnavailableError{Reason: reason(e.Kind), RetryAfter: e.RetryAfter, Err: err}
}

// refused tells whether Vault understood the call and would not do it.
func refused(err error) bool {
	if e, ok := errors.AsType[*keys.UnavailableError](err); ok {
		// A key that does not exist is denied to who may not create it.
		return e.Reason == keys.ReasonDenied
	}
	return vault.KindOf(err) == vault.Refused || vault.KindOf(err) == vault.NotFound
}

// result is one item of a batch's answer.
type result struct {
	Ciphertext string `json:"ciphertext"`
	Plaintext  []byte `json:"plaintext"`
	Signature  string `json:"signature"`
	HMAC       string `json:"hmac"`
	Valid      bool   `json:"valid"`
	Error      string `json:"error"`
}

// maxItems and maxSlow are the items of one call to Vault. OpenBao takes 1,000
// strings in a request, the names of members included; and a call with RSA keys
// of 5 ms an item has to end in time.
const (
	maxItems = 200
	maxSlow  = 50
)

// perCall is how many items of a key of that type go into one call.
func perCall(t keys.Type) int {
	switch t {
	case keys.RSA2048, keys.RSA3072, keys.RSA4096:
		return maxSlow
	}
	return maxItems
}

// request is a call with several items.
type request[T any] struct {
	operation, path string
	body            map[string]any // what is beside the items
	items           []T
	perCall         int
}

// batch makes as many calls as the items need, one after the other, and gives
// one result for each item.
func batch[T any](ctx context.Context, b *Backend, r request[T]) ([]result, error) {
	r.body["partial_failure_response_code"] = 200 // one bad item costs all results otherwise
	results := make([]result, 0, len(r.items))
	for rest := r.items; len(rest) > 0; {
		part := rest[:min(len(rest), r.perCall)]
		rest = rest[len(part):]
		r.body["batch_input"] = part
		got, err := b.some(ctx, r.operation, r.path, r.body, len(part))
		if err != nil {
			return nil, err
		}
		results = append(results, got...)
	}
	return results, nil
}

// some makes one call with several items. A batch of which every item failed is
// an error to Vault and none here: each item has its own.
func (b *Backend) some(ctx context.Context, operation, path string, body map[string]any, items int) ([]result, error) {
	var out struct {
		Results []result `json:"batch_results"`
	}
	err := b.call(ctx, vault.Call{Operation: operation, Method: vault.Put, Path: path, Body: body}, &out)
	if len(out.Results) == items && (err == nil || failedAll(out.Results)) {
		return out.Results, nil
	}
	if err == nil {
		err = &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: %s: %d results for %d items", operation, len(out.Results), items)}
	}
	return nil, err
}

func failedAll(results []result) bool {
	for _, r := range results {
		if r.Error == "" {
			return false
		}
	}
	return true
}
