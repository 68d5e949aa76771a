package keys

import (
	"context"
	"fmt"
	"time"
)

// Reencryption is a value to encrypt anew.
type Reencryption struct {
	Ciphertext
	// Class to encrypt it in; zero: the one it has.
	Class Class
	// To is where it belongs from now on; nil: where it belonged.
	To *Context
}

// Reencrypt opens values and encrypts them with new data keys under the latest
// versions. After a key was compromised this is what helps: who unwrapped a
// data key keeps it. Results are those of Encrypt; an item's Err may be of
// Decrypt too. Plaintexts are zeroed.
func (r *Ring) Reencrypt(ctx context.Context, by By, items []Reencryption) ([]Encrypted, error) {
	texts := make([]Ciphertext, len(items))
	for i := range items {
		texts[i] = items[i].Ciphertext
	}
	plain, err := r.Decrypt(ctx, by, texts)
	if err != nil {
		return nil, err
	}
	defer func() {
		for i := range plain {
			clear(plain[i].Data)
		}
	}()
	results := make([]Encrypted, len(items))
	var values []Value
	var at []int
	for i, p := range plain {
		if p.Err != nil {
			results[i].Err = p.Err
			continue
		}
		v := Value{Class: p.Class, Context: items[i].Context, Data: p.Data}
		if items[i].Class != 0 {
			v.Class = items[i].Class
		}
		if items[i].To != nil {
			v.Context = *items[i].To
		}
		values, at = append(values, v), append(at, i)
	}
	sealed, err := r.Encrypt(ctx, by, values)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		results[i] = sealed[n]
	}
	return results, nil
}

// Rewrap wraps the data keys of values with the latest version of their key;
// the encrypted bodies stay. It is cheaper than Reencrypt, and enough after a
// rotation for age. A value whose context is wrong is refused where its data
// key is bound to that context, and may else come back as unusable as it was.
func (r *Ring) Rewrap(ctx context.Context, by By, items []Ciphertext) ([]Encrypted, error) {
	if len(items) > MaxItems {
		return nil, fmt.Errorf("%d values, at most %d: %w", len(items), MaxItems, ErrTooLarge)
	}
	started := time.Now()
	results := make([]Encrypted, len(items))
	batches := map[string]*rewrapBatch{}
	var order []*rewrapBatch
	for i := range items {
		o := r.start(&items[i])
		if o.err != nil {
			results[i].Err = o.err
			continue
		}
		b := batches[o.env.keyID]
		if b == nil {
			b = &rewrapBatch{id: o.env.keyID, typ: o.typ}
			batches[o.env.keyID] = b
			order = append(order, b)
		}
		b.opens, b.at = append(b.opens, o), append(b.at, i)
	}
	for _, b := range order {
		r.rewrap(ctx, by, b, results)
	}
	r.metrics.done("rewrap", started, len(results), func(i int) error { return results[i].Err })
	failures := make([]Decrypted, len(results))
	for i := range results {
		failures[i].Err = results[i].Err
	}
	if err := r.recordFailures(ctx, by, items, failures); err != nil {
		return nil, err
	}
	return results, nil
}

// rewrapBatch is the values of one call to Rewrap under one key.
type rewrapBatch struct {
	id    string
	typ   Type
	opens []*opened
	at    []int
}

func (r *Ring) rewrap(ctx context.Context, by By, b *rewrapBatch, results []Encrypted) {
	if b.typ != AES256 {
		r.checkMACs(ctx, b.id+macSuffix, b.opens)
	}
	r.refuseMissing(ctx, b.id, b.opens, func(o *opened) uint32 { return o.env.wrapped.Version })
	out := &batch{id: b.id, typ: b.typ}
	var sealed []Sealed
	var good []int
	for n, o := range b.opens {
		if o.err != nil {
			results[b.at[n]].Err = o.err
			continue
		}
		sealed, good = append(sealed, Sealed{WrappedKey: o.env.wrapped, Context: o.ctx}), append(good, n)
	}
	for len(sealed) > 0 {
		size := min(len(sealed), MaxBatch)
		wrapped, err := r.backend.Rewrap(ctx, b.id, sealed[:size])
		if err == nil && len(wrapped) != size {
			err = fmt.Errorf("%d results for %d", len(wrapped), size)
		}
		for i, n := range good[:size] {
			result, o := &results[b.at[n]], b.opens[n]
			switch {
			case err != nil:
				result.Err = fmt.Errorf("rewrap under %s: %w", b.id, err)
			case wrapped[i].Err != nil:
				result.Err = bare(wrapped[i].Err)
			default:
				r.reseal(out, b.at[n], o, wrapped[i].WrappedKey, result)
			}
		}
		sealed, good = sealed[size:], good[size:]
	}
	r.authenticate(ctx, by, out, results)
}

// reseal writes the envelope anew, with another wrapped key.
func (r *Ring) reseal(b *batch, at int, o *opened, w WrappedKey, result *Encrypted) {
	raw := appendHeader(nil, o.env.class, o.env.flags, o.env.keyID, w)
	raw = append(raw, o.env.nonce...)
	raw = append(raw, o.env.body...)
	result.KeyID, result.Version = o.env.keyID, w.Version
	if o.env.flags&flagMAC != 0 {
		b.pending = append(b.pending, pending{item: at, raw: raw, mac: macMessage(o.aad, raw)})
		return
	}
	result.Text = text(raw)
}
