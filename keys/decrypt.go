package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Ciphertext is a value to open, and where it is said to belong.
type Ciphertext struct {
	Text    string
	Context Context
}

// Decrypted is the result for a Ciphertext.
type Decrypted struct {
	Data    []byte
	Class   Class
	KeyID   string
	Version uint32
	// Err is ErrMalformed, ErrKeyUnknown, ErrVersionDisallowed, ErrInvalid,
	// ErrTooLarge (the context), or an *UnavailableError; Data is nil then.
	Err error
}

// failedContexts is how many contexts of values that did not open stand in a
// record.
const failedContexts = 10

// DecryptOne opens one value.
func (r *Ring) DecryptOne(ctx context.Context, by By, c Ciphertext) ([]byte, error) {
	results, err := r.Decrypt(ctx, by, []Ciphertext{c})
	if err != nil {
		return nil, err
	}
	return results[0].Data, results[0].Err
}

// Decrypt opens values, at most MaxItems, and gives one result for each, in
// their order. When some do not open, that is recorded, once, before it
// returns; when it cannot be recorded, nothing is given out.
func (r *Ring) Decrypt(ctx context.Context, by By, items []Ciphertext) ([]Decrypted, error) {
	if len(items) > MaxItems {
		return nil, fmt.Errorf("%d values, at most %d: %w", len(items), MaxItems, ErrTooLarge)
	}
	started := time.Now()
	results := make([]Decrypted, len(items))
	for i, o := range r.openAll(ctx, items) {
		if o.err != nil {
			results[i].Err = o.err
			if o.env != nil {
				results[i].Class, results[i].KeyID, results[i].Version = o.env.class, o.env.keyID, o.env.wrapped.Version
			}
			continue
		}
		results[i] = r.openBody(o)
	}
	r.metrics.done("decrypt", started, len(results), func(i int) error { return results[i].Err })
	if err := r.recordFailures(ctx, by, items, results); err != nil {
		for i := range results {
			clear(results[i].Data)
		}
		return nil, err
	}
	return results, nil
}

// opened is a ciphertext on the way to be opened.
type opened struct {
	env *envelope
	aad []byte
	typ Type
	key cacheKey // of the data key
	ctx []byte   // what the data key was wrapped with
	dek *dataKey
	err error
}

// openAll parses ciphertexts, checks their MACs and opens their data keys.
func (r *Ring) openAll(ctx context.Context, items []Ciphertext) []*opened {
	all := make([]*opened, len(items))
	byKey := map[string][]*opened{}
	var order []string
	for i := range items {
		o := r.start(&items[i])
		all[i] = o
		if o.err != nil {
			continue
		}
		if byKey[o.env.keyID] == nil {
			order = append(order, o.env.keyID)
		}
		byKey[o.env.keyID] = append(byKey[o.env.keyID], o)
	}
	for _, id := range order {
		group := byKey[id]
		if group[0].typ != AES256 {
			r.checkMACs(ctx, id+macSuffix, group)
		}
		r.refuseMissing(ctx, id, group, func(o *opened) uint32 { return o.env.wrapped.Version })
		r.openKeys(ctx, id, group)
	}
	return all
}

// start parses a ciphertext and says which key opens it.
func (r *Ring) start(c *Ciphertext) *opened {
	if err := c.Context.Validate(); err != nil {
		return &opened{err: err}
	}
	env, err := parse(c.Text)
	if err != nil {
		return &opened{err: err}
	}
	o := &opened{env: env}
	ref, ok := r.classes[env.keyID]
	switch {
	case !ok || ref.class != env.class:
		o.err = ErrKeyUnknown
		return o
	case (env.flags&flagMAC != 0) != (ref.typ != AES256):
		o.err = ErrInvalid
		return o
	}
	o.typ = ref.typ
	o.aad = appendAAD(nil, env.class, env.keyID, env.alg, &c.Context)
	o.ctx = wrapContext(env.class, env.keyID, ref.typ, &c.Context)
	o.key = openKey(env.keyID, c.Context.Tenant, env.wrapped, o.ctx)
	return o
}

// checkMACs refuses the values whose MAC is not the ring's, before anything of
// them is opened.
func (r *Ring) checkMACs(ctx context.Context, id string, group []*opened) {
	r.refuseMissing(ctx, id, group, func(o *opened) uint32 { return o.env.mac.Version })
	group = slices.DeleteFunc(slices.Clone(group), func(o *opened) bool { return o.err != nil })
	for rest := group; len(rest) > 0; {
		part := rest[:min(len(rest), MaxBatch)]
		rest = rest[len(part):]
		checks := make([]MACCheck, len(part))
		for i, o := range part {
			checks[i] = MACCheck{Message: macMessage(o.aad, o.env.raw), Tag: o.env.mac}
		}
		errs, err := r.backend.VerifyMAC(ctx, id, checks)
		for i, o := range part {
			switch {
			case err != nil:
				o.err = fmt.Errorf("check MACs by %s: %w", id, err)
			case len(errs) != len(part):
				o.err = fmt.Errorf("check MACs by %s: %d results for %d", id, len(errs), len(part))
			case errs[i] != nil:
				o.err = bare(errs[i])
			}
		}
	}
}

// openKeys gives each value of a group its data key: from memory, from a call
// that fetches it already, or by one call for all the others.
func (r *Ring) openKeys(ctx context.Context, id string, group []*opened) {
	keep := r.policies[group[0].env.class].keeps(group[0].env.class)
	epoch := r.opening.current()
	mine, theirs := map[cacheKey][]*opened{}, map[*opened]*flight{}
	flights := map[cacheKey]*flight{}
	var order []cacheKey
	for _, o := range group {
		if o.err != nil {
			continue
		}
		if mine[o.key] == nil && keep > 0 {
			dek, f, pilot := r.opening.board(o.key, 1, 0)
			switch {
			case dek != nil:
				o.dek = dek
				r.metrics.hit("decrypt")
				continue
			case !pilot:
				theirs[o] = f
				continue
			}
			flights[o.key] = f
			r.metrics.miss("decrypt")
		}
		if mine[o.key] == nil {
			order = append(order, o.key)
		}
		mine[o.key] = append(mine[o.key], o)
	}
	r.unwrap(ctx, id, order, mine)
	for k, f := range flights {
		f.dek, f.err = mine[k][0].dek, mine[k][0].err
		r.opening.land(k, f, keep, epoch, 1, 0)
	}
	r.join(ctx, id, theirs)
}

// unwrap opens the data keys that are waited for.
func (r *Ring) unwrap(ctx context.Context, id string, order []cacheKey, waiting map[cacheKey][]*opened) {
	for rest := order; len(rest) > 0; {
		part := rest[:min(len(rest), MaxBatch)]
		rest = rest[len(part):]
		r.unwrapPart(ctx, id, part, waiting)
	}
}

// unwrapPart opens data keys by one call.
func (r *Ring) unwrapPart(ctx context.Context, id string, part []cacheKey, waiting map[cacheKey][]*opened) {
	sealed := make([]Sealed, len(part))
	for i, k := range part {
		first := waiting[k][0]
		sealed[i] = Sealed{WrappedKey: first.env.wrapped, Context: first.ctx}
	}
	plain, err := r.backend.Unwrap(ctx, id, sealed)
	if err == nil && len(plain) != len(part) {
		err = fmt.Errorf("%d results for %d", len(plain), len(part))
	}
	for i, k := range part {
		var dek *dataKey
		failed := err
		switch {
		case err != nil:
			failed = fmt.Errorf("open data keys under %s: %w", id, err)
		case plain[i].Err != nil:
			failed = bare(plain[i].Err)
		default:
			dek, failed = newDataKey(plain[i].Plaintext, sealed[i].WrappedKey)
		}
		for _, o := range waiting[k] {
			o.dek, o.err = dek, failed
		}
	}
}

// join waits for the data keys that other calls fetch. Where such a call was
// given up, it is made again here.
func (r *Ring) join(ctx context.Context, id string, theirs map[*opened]*flight) {
	again := map[cacheKey][]*opened{}
	var order []cacheKey
	for o, f := range theirs {
		o.dek, o.err = f.wait(ctx)
		if o.err == nil || ctx.Err() != nil || !isContext(o.err) {
			continue
		}
		if again[o.key] == nil {
			order = append(order, o.key)
		}
		again[o.key] = append(again[o.key], o)
	}
	r.unwrap(ctx, id, order, again)
}

// openBody opens the value itself.
func (r *Ring) openBody(o *opened) Decrypted {
	d := Decrypted{Class: o.env.class, KeyID: o.env.keyID, Version: o.env.wrapped.Version}
	data, err := o.dek.aead.Open(nil, o.env.nonce, o.env.body, o.aad)
	if err != nil {
		d.Err = ErrInvalid
		return d
	}
	if d.Data = data; data == nil {
		d.Data = []byte{}
	}
	return d
}

// bare gives the error of the list that err is, without what stands around
// it, so that all failures of one kind read alike.
func bare(err error) error {
	for _, known := range []error{ErrInvalid, ErrVersionDisallowed, ErrKeyUnknown, ErrMalformed} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

// recordFailures records the values of a call that did not open. A backend
// that is unavailable is no failure of a value.
func (r *Ring) recordFailures(ctx context.Context, by By, items []Ciphertext, results []Decrypted) error {
	e := Event{Kind: EventOpeningFailed, By: by, Failures: map[string]int{}}
	for i := range results {
		known := bare(results[i].Err)
		switch known {
		case ErrInvalid, ErrVersionDisallowed, ErrKeyUnknown, ErrMalformed:
		default:
			continue
		}
		e.Failures[known.Error()]++
		if len(e.Contexts) < failedContexts {
			e.Contexts = append(e.Contexts, items[i].Context)
		}
		if e.KeyID == "" && known != ErrMalformed && known != ErrKeyUnknown {
			e.KeyID, e.Class, e.Version = results[i].KeyID, results[i].Class, results[i].Version
			e.Type = r.classes[e.KeyID].typ
		}
	}
	if len(e.Failures) == 0 {
		return nil
	}
	if err := r.recorder.RecordKey(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("record that values did not open: %w", err)
	}
	return nil
}
