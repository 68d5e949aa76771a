package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Info is what the ring knows of a key.
type Info struct {
	Key
	// Class that the key wraps data keys for, or makes MACs for; zero: none.
	Class Class
	// Since is when the latest version began, Age how long ago.
	Since time.Time
	Age   time.Duration
	// NextRotation is the earlier of the date and the age at which the key is
	// rotated; zero: never.
	NextRotation time.Time
	// Scheduled is the date that somebody set; zero: none.
	Scheduled   time.Time
	Compromised []uint32
	Holds       []string
}

// Key describes one key.
func (r *Ring) Key(ctx context.Context, id string) (Info, error) {
	known, err := r.look(ctx, id)
	if err != nil {
		return Info{}, err
	}
	return r.info(known), nil
}

// Keys describes all keys of the ring that are rotated within a time from now,
// those overdue included; 0: all keys.
func (r *Ring) Keys(ctx context.Context, expiresWithin time.Duration) ([]Info, error) {
	ids, err := r.backend.List(ctx, r.o.Prefix)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	until := r.o.Now().Add(expiresWithin)
	infos := make([]Info, 0, len(ids))
	for _, id := range ids {
		i, err := r.Key(ctx, id)
		switch {
		case errors.Is(err, ErrKeyUnknown): // deleted meanwhile
		case err != nil:
			return nil, err
		case expiresWithin == 0 || !i.NextRotation.IsZero() && !i.NextRotation.After(until):
			infos = append(infos, i)
		}
	}
	return infos, nil
}

func (r *Ring) info(known *info) Info {
	class, _, _ := r.policyOf(known.key.Name)
	from := since(known.key, known.state)
	return Info{
		Key: known.key, Class: class, Since: from, Age: r.o.Now().Sub(from),
		NextRotation: r.nextRotation(known.key, known.state), Scheduled: known.state.NextRotation,
		Compromised: slices.Clone(known.state.Compromised), Holds: slices.Clone(known.state.Holds),
	}
}

// State tells how the backend does.
func (r *Ring) State() State { return r.backend.State() }
