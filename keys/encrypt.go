package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Value is a value to encrypt.
type Value struct {
	Class   Class
	Context Context
	Data    []byte
}

// Encrypted is the result for a Value.
type Encrypted struct {
	Text string
	// KeyID and Version of the key that wraps the data key.
	KeyID   string
	Version uint32
	// Err is ErrNotEncrypted, ErrTooLarge, ErrUnavailable or of the backend;
	// the other fields are zero then.
	Err error
}

// EncryptOne encrypts one value.
func (r *Ring) EncryptOne(ctx context.Context, by By, v Value) (string, error) {
	results, err := r.Encrypt(ctx, by, []Value{v})
	if err != nil {
		return "", err
	}
	return results[0].Text, results[0].Err
}

// Encrypt encrypts values of any classes, at most MaxItems, and gives one
// result for each, in their order. Values of one call that are of class
// restricted and of one document share a data key; those of class internal or
// confidential share theirs with other calls of the tenant for as long as the
// policy allows; each of class top_secret has its own.
func (r *Ring) Encrypt(ctx context.Context, by By, values []Value) ([]Encrypted, error) {
	if len(values) > MaxItems {
		return nil, fmt.Errorf("%d values, at most %d: %w", len(values), MaxItems, ErrTooLarge)
	}
	started := time.Now()
	results := make([]Encrypted, len(values))
	batches := r.group(values, results)
	for _, b := range batches {
		r.prepare(ctx, by, b)
		for _, g := range b.groups {
			if err := r.seal(b, g, values, results); err != nil {
				return nil, err
			}
		}
		if b.typ != AES256 {
			r.authenticate(ctx, by, b, results)
		}
	}
	r.metrics.done("encrypt", started, len(results), func(i int) error { return results[i].Err })
	return results, nil
}

// batch is the values of one call under one key.
type batch struct {
	id     string
	class  Class
	typ    Type
	groups []*group
	epoch  uint64 // of the cache, before the backend was last asked for data keys
	// of an RSA key, until the MACs are made
	pending []pending
}

// pending is a sealed value that waits for its MAC.
type pending struct {
	item int
	raw  []byte
	mac  []byte // the message
}

// group is the values of one call under one data key.
type group struct {
	context Context // of the first value
	items   []int
	bytes   int64
	dek     *dataKey
	err     error
}

// groupKey is what values share that share a data key.
type groupKey struct {
	class Class
	scope Context
}

// scope leaves of a context what the data keys of a class are bound to.
func scope(class Class, c *Context) Context {
	switch class {
	case Internal, Confidential:
		return Context{Tenant: c.Tenant}
	case Restricted:
		return Context{Tenant: c.Tenant, Type: c.Type, ID: c.ID}
	}
	return *c
}

// group sorts the values by key and data key, and refuses those that cannot be
// encrypted.
func (r *Ring) group(values []Value, results []Encrypted) []*batch {
	batches := map[Class]*batch{}
	groups := map[groupKey]*group{}
	var ordered []*batch
	var last *group
	var lastKey groupKey
	for i := range values {
		v := &values[i]
		if err := checkValue(v); err != nil {
			results[i].Err = err
			continue
		}
		key := groupKey{v.Class, scope(v.Class, &v.Context)}
		if last != nil && key == lastKey && r.fits(last, v) {
			last.items, last.bytes = append(last.items, i), last.bytes+int64(len(v.Data))
			continue
		}
		g := groups[key]
		if g == nil || !r.fits(g, v) {
			g = &group{context: v.Context}
			groups[key] = g
			b := batches[v.Class]
			if b == nil {
				b = &batch{id: r.ClassID(v.Class), class: v.Class, typ: r.policies[v.Class].Algorithm}
				batches[v.Class] = b
				ordered = append(ordered, b)
			}
			b.groups = append(b.groups, g)
		}
		g.items, g.bytes = append(g.items, i), g.bytes+int64(len(v.Data))
		last, lastKey = g, key
	}
	return ordered
}

// fits tells whether a value may share the data key of a group.
func (r *Ring) fits(g *group, v *Value) bool {
	return v.Class != TopSecret && int64(len(g.items)) < r.sealing.maxUses && g.bytes+int64(len(v.Data)) <= maxKeyBytes
}

func checkValue(v *Value) error {
	switch {
	case v.Class == Public:
		return ErrNotEncrypted
	case v.Class < Public || v.Class > TopSecret:
		return fmt.Errorf("classification %d: %w", v.Class, ErrNotEncrypted)
	case len(v.Data) > MaxPlaintext:
		return fmt.Errorf("value of %d bytes, at most %d: %w", len(v.Data), MaxPlaintext, ErrTooLarge)
	}
	return v.Context.Validate()
}

// prepare gives each group its data key, or the error that it has none.
func (r *Ring) prepare(ctx context.Context, by By, b *batch) {
	keep := r.policies[b.class].keeps(b.class)
	if keep > 0 && b.class <= Confidential {
		for _, g := range b.groups {
			g.dek, g.err = r.sharedKey(ctx, by, b, g, keep)
		}
		return
	}
	for rest := b.groups; len(rest) > 0; {
		part := rest[:min(len(rest), MaxBatch)]
		rest = rest[len(part):]
		deks, err := r.newKeys(ctx, by, b, part)
		for i, g := range part {
			if g.err = err; err == nil {
				g.dek, g.err = deks[i].dek, deks[i].err
			}
		}
	}
}

// sharedKey gives the tenant's data key, the one in memory or a new one that
// one caller fetches for all who ask meanwhile.
func (r *Ring) sharedKey(ctx context.Context, by By, b *batch, g *group, keep time.Duration) (*dataKey, error) {
	k := cacheKey{keyID: b.id, tenant: g.context.Tenant}
	uses := int64(len(g.items))
	for {
		dek, f, pilot := r.sealing.board(k, uses, g.bytes)
		if dek != nil {
			r.metrics.hit("encrypt")
			return dek, nil
		}
		if pilot {
			r.metrics.miss("encrypt")
			deks, err := r.newKeys(ctx, by, b, []*group{g})
			if err == nil {
				f.dek, err = deks[0].dek, deks[0].err
			}
			f.err = err
			r.sealing.land(k, f, keep, b.epoch, uses, g.bytes)
			return f.dek, f.err
		}
		if _, err := f.wait(ctx); err != nil && (ctx.Err() != nil || !isContext(err)) {
			return nil, err
		}
		// It is in memory now, is used up already, or the pilot gave up: ask again.
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// newKey is a data key just made.
type newKey struct {
	dek *dataKey
	err error
}

// newKeys has data keys made for the groups, at most MaxBatch, and creates the
// key when it does not exist.
func (r *Ring) newKeys(ctx context.Context, by By, b *batch, groups []*group) ([]newKey, error) {
	contexts := make([][]byte, len(groups))
	for i, g := range groups {
		contexts[i] = wrapContext(b.class, b.id, b.typ, &g.context)
	}
	var made []DataKey
	err := r.withKey(ctx, by, b.id, b.typ, func() (err error) {
		b.epoch = r.sealing.current()
		made, err = r.backend.DataKeys(ctx, b.id, contexts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("data keys under %s: %w", b.id, err)
	}
	if len(made) != len(groups) {
		return nil, fmt.Errorf("data keys under %s: %d for %d", b.id, len(made), len(groups))
	}
	marks, err := r.marks(ctx, b.id)
	keys := make([]newKey, len(made))
	for i, m := range made {
		switch {
		case err != nil:
			keys[i].err = err
		case m.Err != nil:
			keys[i].err = fmt.Errorf("data key under %s: %w", b.id, m.Err)
		case marks.compromised(m.Wrapped.Version):
			keys[i].err = fmt.Errorf("key %s version %d is compromised and not rotated yet: %w", b.id, m.Wrapped.Version, ErrVersionDisallowed)
		case len(m.Wrapped.Blob) == 0 || len(m.Wrapped.Blob) > MaxWrapped || m.Wrapped.Version == 0:
			keys[i].err = fmt.Errorf("data key under %s: wrapped form of %d bytes: %w", b.id, len(m.Wrapped.Blob), ErrUnsupported)
		default:
			keys[i].dek, keys[i].err = newDataKey(m.Plaintext, m.Wrapped)
		}
		clear(m.Plaintext)
	}
	return keys, nil
}

// seal encrypts the values of a group.
func (r *Ring) seal(b *batch, g *group, values []Value, results []Encrypted) error {
	if g.err != nil {
		for _, i := range g.items {
			results[i].Err = g.err
		}
		return nil
	}
	flags := uint8(0)
	if b.typ != AES256 {
		flags = flagMAC
	}
	nonces := make([]byte, nonceSize*len(g.items))
	if _, err := io.ReadFull(r.o.Rand, nonces); err != nil {
		return fmt.Errorf("read nonces: %w", err)
	}
	raw := appendHeader(nil, b.class, flags, b.id, g.dek.wrapped)
	head := len(raw)
	var aad []byte
	out := newTexts(len(g.items), raw)
	for n, i := range g.items {
		v := &values[i]
		aad = appendAAD(aad[:0], b.class, b.id, bodyAES256GCM, &v.Context)
		nonce := nonces[n*nonceSize : (n+1)*nonceSize]
		raw = append(raw[:head], nonce...)
		raw = g.dek.aead.Seal(raw, nonce, v.Data, aad)
		results[i].KeyID, results[i].Version = b.id, g.dek.wrapped.Version
		if flags&flagMAC != 0 {
			b.pending = append(b.pending, pending{item: i, raw: append([]byte(nil), raw...), mac: macMessage(aad, raw)})
			continue
		}
		results[i].Text = out.add(raw)
	}
	return nil
}

// authenticate makes the MACs of values whose data keys anybody could have
// wrapped.
func (r *Ring) authenticate(ctx context.Context, by By, b *batch, results []Encrypted) {
	for rest := b.pending; len(rest) > 0; {
		part := rest[:min(len(rest), MaxBatch)]
		rest = rest[len(part):]
		messages := make([][]byte, len(part))
		for i, p := range part {
			messages[i] = p.mac
		}
		tags, err := r.makeMACs(ctx, by, b.id+macSuffix, messages)
		for i, p := range part {
			switch {
			case err != nil:
				results[p.item] = Encrypted{Err: err}
			case tags[i].Err != nil:
				results[p.item] = Encrypted{Err: fmt.Errorf("MAC by %s: %w", b.id+macSuffix, tags[i].Err)}
			default:
				results[p.item].Text = text(appendMAC(p.raw, tags[i]))
			}
		}
	}
}

// makeMACs makes MACs with the latest version of a key that is not
// compromised.
func (r *Ring) makeMACs(ctx context.Context, by By, id string, messages [][]byte) ([]Tag, error) {
	var tags []Tag
	err := r.withKey(ctx, by, id, HMAC, func() (err error) {
		tags, err = r.backend.MAC(ctx, id, 0, messages)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("MAC by %s: %w", id, err)
	}
	marks, err := r.marks(ctx, id)
	if err != nil {
		return nil, err
	}
	for i := range tags {
		t := &tags[i]
		if t.Err == nil && (marks.compromised(t.Version) || len(t.Bytes) != macSize || t.Version == 0) {
			*t = Tag{Err: ErrVersionDisallowed}
		}
	}
	if len(tags) != len(messages) {
		return nil, fmt.Errorf("MAC by %s: %d for %d", id, len(tags), len(messages))
	}
	return tags, nil
}
