package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// Rotate adds a version to a key, which wraps from then on; the older ones go
// on decrypting. ErrBusy when another node is doing it.
func (r *Ring) Rotate(ctx context.Context, by By, id string) (Key, error) {
	if err := r.manage.take(ctx); err != nil {
		return Key{}, err
	}
	defer r.manage.leave()
	now := r.o.Now()
	return r.rotate(ctx, by, id, now, func(Key, *keyState) Cause { return CauseRequest })
}

// SetNextRotation sets the date on which a key is rotated, once, beside what
// its policy asks for; the zero time removes it.
func (r *Ring) SetNextRotation(ctx context.Context, by By, id string, at time.Time) error {
	if err := r.manage.take(ctx); err != nil {
		return err
	}
	defer r.manage.leave()
	known, err := r.lookAgain(ctx, id)
	if err != nil {
		return err
	}
	class, _, _ := r.policyOf(id)
	err = r.recorder.RecordKey(ctx, Event{
		Kind: EventScheduled, KeyID: id, Class: class, Type: known.key.Type, Version: known.key.Latest, At: at, By: by,
	})
	if err != nil {
		return fmt.Errorf("record the date of key %s: %w", id, err)
	}
	err = r.change(ctx, id, func(s *keyState) error { s.NextRotation = at.UTC(); return nil })
	r.forget(id)
	return err
}

// RotateDue rotates the keys that are due: their date has come, they are as
// old as their policy allows, or their latest version is compromised. It goes
// on after an error and gives them all, with the ids of those it rotated.
func (r *Ring) RotateDue(ctx context.Context) (rotated []string, err error) {
	ids, err := r.backend.List(ctx, r.o.Prefix)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var failed []error
	for _, id := range ids {
		switch err := r.rotateIfDue(ctx, id); {
		case err == nil:
			rotated = append(rotated, id)
		case !errors.Is(err, errNotDue) && !errors.Is(err, ErrBusy):
			failed = append(failed, err)
		}
	}
	return rotated, errors.Join(failed...)
}

// errNotDue is returned when there is nothing to do.
var errNotDue = errors.New("key is not due")

func (r *Ring) rotateIfDue(ctx context.Context, id string) error {
	if err := r.manage.take(ctx); err != nil {
		return err
	}
	defer r.manage.leave()
	now := r.o.Now()
	if r.resting(id, now) {
		return errNotDue
	}
	var marks []uint32
	key, err := r.rotate(ctx, By{}, id, now, func(key Key, s *keyState) Cause {
		marks = s.Compromised
		return r.due(key, s, now)
	})
	if err == nil || errors.Is(err, errNotDue) {
		if _, failed := r.settle(ctx, key, marks); failed != nil {
			return failed
		}
	}
	r.rest(id, now, err != nil && !errors.Is(err, errNotDue) && !errors.Is(err, ErrBusy))
	return err
}

// maxRest is the longest time between two attempts to rotate a key.
const maxRest = 30 * time.Minute

// rest is how long a key whose rotation failed is left alone: each attempt
// leaves records.
type rest struct {
	pause time.Duration
	until time.Time
}

func (r *Ring) resting(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.rests[id].until)
}

// rest notes how an attempt went; the pause doubles with each that failed.
func (r *Ring) rest(id string, now time.Time, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !failed {
		delete(r.rests, id)
		return
	}
	pause := min(max(checkTime, 2*r.rests[id].pause), maxRest)
	r.rests[id] = rest{pause: pause, until: now.Add(pause)}
}

// due tells why a key is to be rotated now; empty: it is not.
func (r *Ring) due(key Key, s *keyState, now time.Time) Cause {
	next := r.nextRotation(key, s)
	switch {
	case s.compromised(key.Latest):
		return CauseCompromise
	case !s.NextRotation.IsZero() && !now.Before(s.NextRotation):
		return CauseDate
	case !next.IsZero() && !now.Before(next):
		return CausePeriod
	}
	return ""
}

// nextRotation is when a key is rotated next, by date or by age, whichever
// comes first; zero: never.
func (r *Ring) nextRotation(key Key, s *keyState) time.Time {
	next := s.NextRotation
	if _, policy, ok := r.policyOf(key.Name); ok {
		if byAge := since(key, s).Add(policy.rotation()); next.IsZero() || byAge.Before(next) {
			next = byAge
		}
	}
	return next
}

// since is when the latest version began: when the backend made it or, by the
// clock that is compared with, when the ring had it made, whichever is later.
func since(key Key, s *keyState) time.Time {
	began := s.Rotated
	if n := len(key.Versions); n > 0 && key.Versions[n-1].Created.After(began) {
		began = key.Versions[n-1].Created
	}
	return began
}

// rotate rotates a key when cause gives one. The claim is durable before the
// key changes, and names the version that it leaves: whoever finds an older
// claim sees by the key's latest version whether it was carried out. The
// caller holds r.manage.
func (r *Ring) rotate(ctx context.Context, by By, id string, now time.Time, cause func(Key, *keyState) Cause) (Key, error) {
	key, err := r.backend.Describe(ctx, id)
	if err != nil {
		return Key{}, fmt.Errorf("describe key %s: %w", id, err)
	}
	s, err := r.load(ctx, id)
	if err != nil {
		return Key{}, err
	}
	if c := s.Claim; c != nil && key.Latest > c.From {
		if err := r.finish(ctx, id, *c); err != nil {
			return Key{}, err
		}
		if s, err = r.load(ctx, id); err != nil {
			return Key{}, err
		}
	}
	if c := s.Claim; c != nil && c.Owner != r.owner && now.Before(c.Until) {
		return Key{}, ErrBusy
	}
	if _, policy, _ := r.policyOf(id); r.o.Escrow != nil {
		if err := r.lost(ctx, id, key.Latest, s, policy); err != nil {
			return Key{}, err
		}
	}
	why := cause(key, s)
	if why == "" {
		return key, errNotDue
	}
	recorded := s.Claim != nil && s.Claim.From == key.Latest && s.Claim.Recorded && s.Claim.Cause == why
	s.Claim = &claim{Owner: r.owner, From: key.Latest, Cause: why, At: now.UTC(), Until: now.Add(leaseTime).UTC(), Recorded: recorded}
	if err := r.save(ctx, id, s); err != nil {
		if errors.Is(err, storage.ErrConflict) {
			return Key{}, ErrBusy
		}
		return Key{}, err
	}
	return r.carryOut(ctx, by, key, *s.Claim)
}

// carryOut does what a claim says.
func (r *Ring) carryOut(ctx context.Context, by By, key Key, c claim) (Key, error) {
	id := key.Name
	class, policy, _ := r.policyOf(id)
	event := Event{
		Kind: EventRotated, KeyID: id, Class: class, Type: key.Type, Version: key.Latest + 1, From: key.Latest, Cause: c.Cause, By: by,
	}
	if !c.Recorded {
		if err := r.recorder.RecordKey(ctx, event); err != nil {
			return Key{}, fmt.Errorf("record the rotation of key %s: %w", id, err)
		}
		if err := r.setRecorded(ctx, id, c, true); err != nil {
			return Key{}, err
		}
	}
	next, err := r.addVersion(ctx, key, policy)
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		err = fmt.Errorf("rotate key %s: %w", id, err)
		event.Kind, event.Failed = EventRotationFailed, err.Error()
		return Key{}, errors.Join(err, r.recorder.RecordKey(ctx, event), r.setRecorded(ctx, id, c, false))
	}
	if err := r.finish(ctx, id, c); err != nil {
		return Key{}, fmt.Errorf("key %s has version %d now: %w", id, next.Latest, err)
	}
	r.metrics.changes.WithLabelValues(string(EventRotated)).Inc()
	return next, nil
}

// setRecorded notes in a claim whether its rotation stands in the log.
func (r *Ring) setRecorded(ctx context.Context, id string, c claim, recorded bool) error {
	return r.change(ctx, id, func(s *keyState) error {
		if s.Claim == nil || s.Claim.Owner != c.Owner || s.Claim.From != c.From {
			return ErrBusy
		}
		s.Claim.Recorded = recorded
		return nil
	})
}

// addVersion rotates in the backend, or imports material that is escrowed.
func (r *Ring) addVersion(ctx context.Context, key Key, policy Policy) (Key, error) {
	material, err := r.escrowed(ctx, key.Name, key.Type, key.Latest+1, policy)
	if err != nil {
		return Key{}, err
	}
	defer clear(material)
	if material == nil {
		return r.backend.Rotate(ctx, key.Name)
	}
	next, err := r.backend.Import(ctx, key.Name, key.Type, material)
	if errors.Is(err, ErrKeyMismatch) && !r.o.EnforceEscrow {
		// It was made before there was an escrow and cannot take material.
		if err := r.o.Escrow.Forget(ctx, key.Name, key.Latest+1, key.Latest+2); err != nil {
			return Key{}, err
		}
		return r.backend.Rotate(ctx, key.Name)
	}
	if err == nil && next.Latest != key.Latest+1 {
		return Key{}, fmt.Errorf("version %d was imported as version %d: %w", key.Latest+1, next.Latest, ErrVersionDisallowed)
	}
	return next, err
}

// finish removes a claim that was carried out, unless somebody else who saw
// that did.
func (r *Ring) finish(ctx context.Context, id string, c claim) error {
	err := r.change(ctx, id, func(s *keyState) error {
		if s.Claim == nil || s.Claim.From != c.From {
			return errNotDue
		}
		s.Rotated, s.Claim, s.Versions = c.At, nil, max(s.Versions, c.From+1)
		if !s.NextRotation.IsZero() && !s.NextRotation.After(c.At) {
			s.NextRotation = time.Time{}
		}
		return nil
	})
	r.forget(id)
	if errors.Is(err, errNotDue) {
		return nil
	}
	if err == nil {
		r.metrics.rotations.WithLabelValues(string(c.Cause)).Inc()
	}
	return err
}
