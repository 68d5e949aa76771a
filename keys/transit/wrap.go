package transit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/verdict-pdp/verdict/keys"
)

// errAnswer is returned when Vault's answer is not in its own form.
var errAnswer = errors.New("the answer is not in Vault's form")

// item is one item of a batch's request.
type item struct {
	Plaintext  []byte `json:"plaintext,omitempty"`
	Ciphertext string `json:"ciphertext,omitempty"`
	Context    []byte `json:"context,omitempty"`
}

// format writes Vault's own form of what a version made.
func format(version uint32, b []byte, encoding *base64.Encoding) string {
	return "vault:v" + strconv.FormatUint(uint64(version), 10) + ":" + encoding.EncodeToString(b)
}

// parse reads it.
func parse(text string, encoding *base64.Encoding) (version uint32, b []byte, err error) {
	rest, ok := strings.CutPrefix(text, "vault:v")
	number, body, found := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || !found || err != nil || n == 0 || number[0] == '+' {
		return 0, nil, errAnswer
	}
	if b, err = encoding.DecodeString(body); err != nil || len(b) == 0 {
		return 0, nil, errAnswer
	}
	return uint32(n), b, nil
}

// wraps checks that the key can wrap data keys bound to the contexts.
func (b *Backend) wraps(ctx context.Context, name string, contexts iter.Seq[[]byte]) (keys.Type, error) {
	t, err := b.typeOf(ctx, name)
	if err != nil {
		return "", err
	}
	var bound bool
	switch t {
	case keys.AES256:
		bound = true
	case keys.RSA2048, keys.RSA3072, keys.RSA4096:
	default:
		return "", fmt.Errorf("key %s of type %s wraps no data keys: %w", name, t, keys.ErrUnsupported)
	}
	for c := range contexts {
		switch {
		case bound && len(c) == 0:
			return "", fmt.Errorf("key %s of type %s without a context: %w", name, t, keys.ErrUnsupported)
		case !bound && len(c) != 0, len(c) > keys.MaxContext:
			return "", fmt.Errorf("key %s of type %s with a context of %d bytes: %w", name, t, len(c), keys.ErrUnsupported)
		}
	}
	return t, nil
}

// DataKeys implements keys.Wrapper. The data keys are made here, and one call
// wraps many of them.
func (b *Backend) DataKeys(ctx context.Context, name string, contexts [][]byte) ([]keys.DataKey, error) {
	if len(contexts) == 0 {
		return nil, nil
	}
	t, err := b.wraps(ctx, name, slices.Values(contexts))
	if err != nil {
		return nil, err
	}
	made, items := make([]keys.DataKey, len(contexts)), make([]item, len(contexts))
	for i, c := range contexts {
		made[i].Plaintext = make([]byte, keys.DataKeySize)
		if _, err := io.ReadFull(b.rand, made[i].Plaintext); err != nil {
			return nil, fmt.Errorf("make data key: %w", err)
		}
		items[i] = item{Plaintext: made[i].Plaintext, Context: c}
	}
	results, err := batch(ctx, b, request[item]{operation: "encrypt", path: "encrypt/" + name, body: map[string]any{}, items: items, perCall: perCall(t)})
	if err != nil {
		return nil, b.explain(ctx, name, err)
	}
	for i, r := range results {
		version, blob, err := parse(r.Ciphertext, base64.StdEncoding)
		if err != nil || r.Error != "" || len(blob) > keys.MaxWrapped {
			clear(made[i].Plaintext)
			made[i] = keys.DataKey{Err: &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: encrypt: %w", errAnswer)}}
			continue
		}
		made[i].Wrapped = keys.WrappedKey{Version: version, Blob: blob}
	}
	return made, nil
}

// explain says what a refusal of a whole call means: the key is gone, or it is
// another's fault.
func (b *Backend) explain(ctx context.Context, name string, err error) error {
	if refused(err) {
		if _, failed := b.read(ctx, name); failed != nil {
			return failed
		}
	}
	return unexplained(err)
}

// open hands wrapped keys to Vault.
func (b *Backend) open(ctx context.Context, operation, name string, sealed []keys.Sealed) ([]result, error) {
	t, err := b.wraps(ctx, name, func(yield func([]byte) bool) {
		for _, s := range sealed {
			if !yield(s.Context) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	items := make([]item, len(sealed))
	for i, s := range sealed {
		items[i] = item{Ciphertext: format(s.Version, s.Blob, base64.StdEncoding), Context: s.Context}
	}
	results, err := batch(ctx, b, request[item]{operation: operation, path: operation + "/" + name, body: map[string]any{}, items: items, perCall: perCall(t)})
	if err != nil {
		return nil, b.explain(ctx, name, err)
	}
	return results, nil
}

// blame says why each item failed: its version, or it is not what was wrapped.
// It goes by the key's versions, not by Vault's words, which change; only the
// one that is certain spares the question.
func (b *Backend) blame(ctx context.Context, name string, results []result, version func(int) uint32) ([]error, error) {
	errs := make([]error, len(results))
	var m *material
	for i, r := range results {
		switch v := version(i); {
		case v == 0: // to Vault it is version 1
			errs[i] = keys.ErrVersionDisallowed
		case r.Error == "":
		case strings.Contains(r.Error, "message authentication failed"):
			errs[i] = keys.ErrInvalid
		default:
			if m == nil {
				var err error
				if m, err = b.read(ctx, name); err != nil {
					return nil, err
				}
			}
			if errs[i] = keys.ErrInvalid; !m.decrypts(v) {
				errs[i] = keys.ErrVersionDisallowed
			}
		}
	}
	return errs, nil
}

// Unwrap implements keys.Wrapper.
func (b *Backend) Unwrap(ctx context.Context, name string, sealed []keys.Sealed) ([]keys.Opened, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	results, err := b.open(ctx, "decrypt", name, sealed)
	if err != nil {
		return nil, err
	}
	errs, err := b.blame(ctx, name, results, func(i int) uint32 { return sealed[i].Version })
	if err != nil {
		return nil, err
	}
	opened := make([]keys.Opened, len(results))
	for i, r := range results {
		switch {
		case errs[i] == nil && len(r.Plaintext) == keys.DataKeySize:
			opened[i].Plaintext = r.Plaintext
			continue
		case errs[i] == nil: // the key wrapped something that is no data key
			errs[i] = keys.ErrInvalid
		}
		opened[i].Err = errs[i]
		clear(r.Plaintext)
	}
	return opened, nil
}

// Rewrap implements keys.Wrapper. The data keys stay inside of Vault.
func (b *Backend) Rewrap(ctx context.Context, name string, sealed []keys.Sealed) ([]keys.Rewrapped, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	results, err := b.open(ctx, "rewrap", name, sealed)
	if err != nil {
		return nil, err
	}
	errs, err := b.blame(ctx, name, results, func(i int) uint32 { return sealed[i].Version })
	if err != nil {
		return nil, err
	}
	wrapped := make([]keys.Rewrapped, len(results))
	for i, r := range results {
		if wrapped[i].Err = errs[i]; errs[i] != nil {
			continue
		}
		version, blob, err := parse(r.Ciphertext, base64.StdEncoding)
		if err != nil || len(blob) > keys.MaxWrapped {
			wrapped[i].Err = &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: rewrap: %w", errAnswer)}
			continue
		}
		wrapped[i].WrappedKey = keys.WrappedKey{Version: version, Blob: blob}
	}
	return wrapped, nil
}
