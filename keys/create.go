package keys

import (
	"context"
	"errors"
	"fmt"
)

// EnsureKey gives the key with that id and creates it when it does not exist.
// ErrKeyMismatch when it is of another type.
func (r *Ring) EnsureKey(ctx context.Context, by By, id string, t Type) (Key, error) {
	if !validName(id) {
		return Key{}, fmt.Errorf("key id %q: want 1 to %d letters, digits, dots, underscores and hyphens: %w", bounded(id), MaxName, ErrUnsupported)
	}
	known, err := r.look(ctx, id)
	if errors.Is(err, ErrKeyUnknown) {
		if err = r.create(ctx, by, id, t); err != nil {
			return Key{}, err
		}
		known, err = r.look(ctx, id)
	}
	switch {
	case err != nil:
		return Key{}, err
	case known.key.Type != t:
		return Key{}, fmt.Errorf("key %s is of type %s, not %s: %w", id, known.key.Type, t, ErrKeyMismatch)
	}
	return known.key, nil
}

// Prepare creates the keys that the classifications need and that do not exist
// yet. It goes on after an error and gives them all.
func (r *Ring) Prepare(ctx context.Context, by By) error {
	var failed []error
	for _, c := range Classes() {
		if c == Public {
			continue
		}
		id, alg := r.ClassID(c), r.policies[c].Algorithm
		_, err := r.EnsureKey(ctx, by, id, alg)
		failed = append(failed, err)
		if alg != AES256 {
			_, err = r.EnsureKey(ctx, by, id+macSuffix, HMAC)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// withKey calls use for a key that exists and whose creation is recorded; it
// creates the key when there is none.
func (r *Ring) withKey(ctx context.Context, by By, id string, t Type, use func() error) error {
	r.mu.Lock()
	ready := r.ready[id]
	r.mu.Unlock()
	if ready {
		if err := use(); !errors.Is(err, ErrKeyUnknown) {
			return err
		}
	}
	if err := r.create(ctx, by, id, t); err != nil {
		return err
	}
	return use()
}

// create creates a key that does not exist. The intent is durable before the
// key is made, so that a key which was made and not recorded is recorded by
// whoever comes next; nobody uses it before.
func (r *Ring) create(ctx context.Context, by By, id string, t Type) error {
	if err := r.manage.take(ctx); err != nil {
		return err
	}
	defer r.manage.leave()
	class, policy, _ := r.policyOf(id)
	state, err := r.load(ctx, id)
	if err != nil {
		return err
	}
	key, err := r.backend.Describe(ctx, id)
	switch {
	case err == nil && state.Creating && key.Latest > max(state.Versions, 1):
		return notOne(id, key.Latest)
	case err == nil && !state.Creating:
		r.setReady(id)
		return nil
	case err != nil && !errors.Is(err, ErrKeyUnknown):
		return fmt.Errorf("describe key %s: %w", id, err)
	case err != nil:
		if err := r.lost(ctx, id, 0, state, policy); err != nil {
			return err
		}
		if err := r.make(ctx, id, t, policy); err != nil {
			return err
		}
	}
	if err := r.recorder.RecordKey(ctx, Event{Kind: EventCreated, KeyID: id, Class: class, Type: t, Version: 1, By: by}); err != nil {
		return fmt.Errorf("record that key %s was created: %w", id, err)
	}
	err = r.change(ctx, id, func(s *keyState) error {
		s.Creating, s.Rotated, s.Versions, s.Retired, s.Missing = false, r.o.Now(), 1, 0, nil
		return nil
	})
	if err != nil {
		return err
	}
	r.forget(id)
	r.setReady(id)
	return nil
}

func (r *Ring) setReady(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready[id] = true
}

// make writes the intent and makes the key.
func (r *Ring) make(ctx context.Context, id string, t Type, policy Policy) error {
	material, err := r.escrowed(ctx, id, t, 1, policy)
	if err != nil {
		return err
	}
	defer clear(material)
	if err := r.change(ctx, id, func(s *keyState) error { s.Creating = true; return nil }); err != nil {
		return err
	}
	if material != nil {
		var key Key
		key, err = r.backend.Import(ctx, id, t, material)
		if err == nil && key.Latest != 1 {
			return r.changeFailed(ctx, Event{Kind: EventCreated, KeyID: id, Type: t, Version: key.Latest}, notOne(id, key.Latest))
		}
	} else {
		_, _, err = r.backend.Ensure(ctx, id, t)
	}
	if err != nil {
		return fmt.Errorf("create key %s: %w", id, err)
	}
	return nil
}

// notOne says that a new key has another version than the one that is in escrow:
// somebody else made it at the same moment. It is not used then, since what is in
// escrow may not be its material.
func notOne(id string, version uint32) error {
	return &UnavailableError{Reason: ReasonFailed, Err: fmt.Errorf(
		"the new key %s has version %d, not 1: something else made it at the same moment; delete it where it is held, and it is made again", id, version)}
}

// escrowed gives the material of a version that must be escrowed, and nil for
// one that need not be or, unless that is enforced, cannot be.
func (r *Ring) escrowed(ctx context.Context, id string, t Type, version uint32, policy Policy) ([]byte, error) {
	switch {
	case !policy.RequireKeyEscrow:
		return nil, nil
	case r.o.Escrow == nil && r.o.EnforceEscrow:
		return nil, fmt.Errorf("key %s must be escrowed and no escrow key is configured: %w", id, ErrNoEscrow)
	case r.o.Escrow == nil:
		return nil, nil
	}
	material, err := r.o.Escrow.Generate(ctx, id, t, version)
	if err != nil {
		return nil, fmt.Errorf("escrow key %s: %w", id, err)
	}
	return material, nil
}

// marks gives the state of a key as known, to see what is compromised.
func (r *Ring) marks(ctx context.Context, id string) (*keyState, error) {
	r.mu.Lock()
	known := r.infos[id]
	r.mu.Unlock()
	if known != nil {
		return known.state, nil
	}
	return r.load(ctx, id)
}
