package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Compromise marks a version of a key, 0 for the latest, as known to others:
// nothing new is encrypted, signed or authenticated with it or with an older
// one from then on, and what it signed does not verify any more. Values under
// it go on opening, since their owners must encrypt them anew, until Retire.
// When the version is the latest, the key is rotated; while that fails, the
// mark holds and the ring goes on trying.
func (r *Ring) Compromise(ctx context.Context, by By, id string, version uint32) (Key, error) {
	if err := r.manage.take(ctx); err != nil {
		return Key{}, err
	}
	defer r.manage.leave()
	key, version, err := r.versionOf(ctx, id, version)
	if err != nil {
		return Key{}, err
	}
	if version > key.Latest {
		return Key{}, fmt.Errorf("key %s has no version %d: %w", id, version, ErrVersionDisallowed)
	}
	class, _, _ := r.policyOf(id)
	event := Event{Kind: EventCompromised, KeyID: id, Class: class, Type: key.Type, Version: version, By: by}
	if err := r.recorder.RecordKey(ctx, event); err != nil {
		return Key{}, fmt.Errorf("record that key %s is compromised: %w", id, err)
	}
	err = r.change(ctx, id, func(s *keyState) error {
		if !s.compromised(version) {
			s.Compromised = append(s.Compromised, version)
			slices.Sort(s.Compromised)
		}
		return nil
	})
	r.forget(id)
	if err != nil {
		return Key{}, err
	}
	r.metrics.changes.WithLabelValues(string(EventCompromised)).Inc()
	next, err := r.leave(ctx, by, key, version)
	if err != nil {
		return Key{}, r.changeFailed(ctx, event, err)
	}
	return next, nil
}

// versionOf describes a key, and tells which of its versions is meant: 0 is the
// latest.
func (r *Ring) versionOf(ctx context.Context, id string, version uint32) (Key, uint32, error) {
	key, err := r.backend.Describe(ctx, id)
	if err != nil {
		return Key{}, 0, fmt.Errorf("describe key %s: %w", id, err)
	}
	if version == 0 {
		version = key.Latest
	}
	return key, version, nil
}

// changeFailed records that a change which is in the log already did not happen,
// or not wholly, and returns why.
func (r *Ring) changeFailed(ctx context.Context, event Event, err error) error {
	event.Kind, event.Failed = EventChangeFailed, err.Error()
	return errors.Join(err, r.recorder.RecordKey(context.WithoutCancel(ctx), event))
}

// leave makes a compromised version one that nothing new is made with.
func (r *Ring) leave(ctx context.Context, by By, key Key, version uint32) (Key, error) {
	var err error
	if key.Latest == version {
		key, err = r.rotate(ctx, by, key.Name, r.o.Now(), func(Key, *keyState) Cause { return CauseCompromise })
		if err != nil {
			return Key{}, err
		}
	}
	return r.settle(ctx, key, []uint32{version})
}

// settle raises the version that encryption begins at above those that are
// compromised and not the latest.
func (r *Ring) settle(ctx context.Context, key Key, compromised []uint32) (Key, error) {
	above := key.MinEncrypt
	for _, version := range compromised {
		if version >= above && version < key.Latest {
			above = version + 1
		}
	}
	if above == key.MinEncrypt {
		return key, nil
	}
	next, err := r.backend.SetMinimums(ctx, key.Name, Minimums{Encrypt: above})
	if err != nil {
		return Key{}, fmt.Errorf("stop wrapping with key %s below version %d: %w", key.Name, above, err)
	}
	r.forget(key.Name)
	return next, nil
}

// Retire makes the versions below the given one, 0 for the latest, unusable
// for ever: their values do not open any more. ErrHeld when a job still needs
// them, ErrBusy while another node retires versions of the key.
func (r *Ring) Retire(ctx context.Context, by By, id string, version uint32) (Key, error) {
	if err := r.manage.take(ctx); err != nil {
		return Key{}, err
	}
	defer r.manage.leave()
	key, version, err := r.versionOf(ctx, id, version)
	if err != nil {
		return Key{}, err
	}
	if version > key.Latest || version < key.MinDecrypt {
		return Key{}, fmt.Errorf("key %s has versions %d to %d, not %d: %w", id, key.MinDecrypt, key.Latest, version, ErrVersionDisallowed)
	}
	if err := r.beginRetire(ctx, id, version); err != nil {
		return Key{}, err
	}
	class, _, _ := r.policyOf(id)
	event := Event{Kind: EventRetired, KeyID: id, Class: class, Type: key.Type, Version: version, From: key.MinDecrypt, By: by}
	if err := r.recorder.RecordKey(ctx, event); err != nil {
		return Key{}, errors.Join(fmt.Errorf("record the retirement of key %s: %w", id, err), r.endRetire(ctx, id))
	}
	next, err := r.backend.SetMinimums(ctx, id, Minimums{Decrypt: version, Encrypt: max(version, key.MinEncrypt)})
	if err == nil {
		next, err = r.backend.Trim(ctx, id)
	}
	r.forget(id)
	if err != nil {
		err = fmt.Errorf("retire versions of key %s below %d: %w", id, version, err)
		return Key{}, errors.Join(r.changeFailed(ctx, event, err), r.endRetire(ctx, id))
	}
	r.metrics.changes.WithLabelValues(string(EventRetired)).Inc()
	if r.o.Escrow != nil {
		if err := r.o.Escrow.Forget(ctx, id, 1, version); err != nil {
			return Key{}, fmt.Errorf("retire versions of key %s below %d in escrow: %w", id, version, err)
		}
	}
	// The store changes last: that tells other nodes to forget what they hold.
	return next, r.change(ctx, id, func(s *keyState) error {
		s.Compromised = slices.DeleteFunc(s.Compromised, func(v uint32) bool { return v < version })
		s.Missing = slices.DeleteFunc(s.Missing, func(v uint32) bool { return v < version })
		s.Retired, s.Retiring = version, nil
		return nil
	})
}

// beginRetire writes that versions below the given one are about to be destroyed,
// unless something holds them. The holds are in the same entry of the store: a hold
// is there first, and the retirement is refused, or it comes after and is refused.
func (r *Ring) beginRetire(ctx context.Context, id string, version uint32) error {
	return r.change(ctx, id, func(s *keyState) error {
		if len(s.Holds) > 0 {
			return fmt.Errorf("old versions of key %s are needed by %s: %w", id, s.Holds[0], ErrHeld)
		}
		if s.Retiring != nil && r.o.Now().Before(s.Retiring.Until) { // whoever ended first would end the other's too
			return fmt.Errorf("versions of key %s below %d are being retired: %w", id, s.Retiring.Below, ErrBusy)
		}
		s.Retiring = &retiring{Below: version, Until: r.o.Now().Add(leaseTime).UTC()}
		return nil
	})
}

// endRetire takes back what beginRetire wrote.
func (r *Ring) endRetire(ctx context.Context, id string) error {
	return r.change(context.WithoutCancel(ctx), id, func(s *keyState) error { s.Retiring = nil; return nil })
}

// Hold says that a job needs the old versions of a key, so that they are not
// retired until Release. Holds survive a restart. ErrBusy while versions of the key
// are being retired.
func (r *Ring) Hold(ctx context.Context, id, job string) error {
	return r.change(ctx, id, func(s *keyState) error {
		if s.Retiring != nil && r.o.Now().Before(s.Retiring.Until) {
			return fmt.Errorf("versions of key %s below %d are being retired: %w", id, s.Retiring.Below, ErrBusy)
		}
		if !slices.Contains(s.Holds, job) {
			s.Holds = append(s.Holds, job)
			slices.Sort(s.Holds)
		}
		return nil
	})
}

// Release ends a hold; one that is not there is no error.
func (r *Ring) Release(ctx context.Context, id, job string) error {
	return r.change(ctx, id, func(s *keyState) error {
		s.Holds = slices.DeleteFunc(s.Holds, func(held string) bool { return held == job })
		return nil
	})
}
