package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Loss is what is known of a key that the backend does not hold, or of which
// it holds too few versions.
type Loss struct {
	// Held is the newest version that the backend holds; 0: it has no such key.
	Held uint32
	// Versions is the newest version that there was.
	Versions uint32
	// Retired is the oldest version that was not retired.
	Retired uint32
}

// Recovery is what brings a key back.
type Recovery struct {
	Type Type
	// Material of each version, from 1 on; the caller zeroes it.
	Material [][]byte
	// Missing versions were not in escrow: their material is lost, and something
	// stands in its place. They are refused from now on, and never used.
	Missing []uint32
	// Shares of the escrow key and the Principals that gave them, for the
	// record.
	Shares     int
	Principals []string
}

// Lost tells what is missing of a key: ErrKeyPresent when nothing is,
// ErrKeyUnknown when there never was such a key.
func (r *Ring) Lost(ctx context.Context, id string) (Loss, error) {
	if !validName(id) {
		return Loss{}, fmt.Errorf("key id %q: %w", bounded(id), ErrKeyUnknown)
	}
	s, err := r.load(ctx, id)
	if err != nil {
		return Loss{}, err
	}
	loss := Loss{Versions: s.Versions, Retired: max(s.Retired, 1)}
	key, err := r.backend.Describe(ctx, id)
	switch {
	case err != nil && !errors.Is(err, ErrKeyUnknown):
		return Loss{}, fmt.Errorf("describe key %s: %w", id, err)
	case err == nil && key.Latest >= s.Versions:
		return Loss{}, fmt.Errorf("key %s has version %d: %w", id, key.Latest, ErrKeyPresent)
	case s.Versions == 0:
		return Loss{}, fmt.Errorf("key %s: %w", id, ErrKeyUnknown)
	}
	loss.Held = key.Latest
	return loss, nil
}

// Recover brings back a key that is lost, with the versions that it had. Those
// that were retired stay so. What it began and did not end is taken up again
// by the next call.
func (r *Ring) Recover(ctx context.Context, by By, id string, rec Recovery) (Key, error) {
	if err := r.manage.take(ctx); err != nil {
		return Key{}, err
	}
	defer r.manage.leave()
	loss, err := r.Lost(ctx, id)
	if err != nil {
		return Key{}, err
	}
	latest := uint32(len(rec.Material))
	if latest < loss.Versions {
		return Key{}, fmt.Errorf("key %s had %d versions, not %d: %w", id, loss.Versions, latest, ErrInvalidMaterial)
	}
	class, _, _ := r.policyOf(id)
	event := Event{
		Kind: EventRecovered, KeyID: id, Class: class, Type: rec.Type, Version: latest, From: loss.Held,
		Shares: rec.Shares, Principals: rec.Principals, Missing: rec.Missing, By: by,
	}
	if err := r.recorder.RecordKey(ctx, event); err != nil {
		return Key{}, fmt.Errorf("record the recovery of key %s: %w", id, err)
	}
	key, err := r.bringBack(ctx, id, loss, rec)
	r.forget(id)
	if err != nil {
		return Key{}, r.changeFailed(ctx, event, fmt.Errorf("recover key %s: %w", id, err))
	}
	r.metrics.changes.WithLabelValues(string(EventRecovered)).Inc()
	r.setReady(id)
	return key, nil
}

// bringBack imports the versions that are missing and sets the minimums that
// held before. What stands in a version's place is marked before it is there.
func (r *Ring) bringBack(ctx context.Context, id string, loss Loss, rec Recovery) (key Key, err error) {
	if len(rec.Missing) > 0 {
		err = r.change(ctx, id, func(s *keyState) error {
			s.Missing = slices.Compact(slices.Sorted(slices.Values(slices.Concat(s.Missing, rec.Missing))))
			return nil
		})
		if err != nil {
			return Key{}, err
		}
	}
	for i := loss.Held; i < uint32(len(rec.Material)); i++ {
		key, err = r.backend.Import(ctx, id, rec.Type, rec.Material[i])
		if err != nil {
			return Key{}, fmt.Errorf("import version %d: %w", i+1, err)
		}
		if key.Latest != i+1 {
			return Key{}, fmt.Errorf("version %d was imported as version %d: %w", i+1, key.Latest, ErrVersionDisallowed)
		}
	}
	if loss.Retired > key.MinDecrypt {
		if _, err = r.backend.SetMinimums(ctx, id, Minimums{Decrypt: loss.Retired, Encrypt: loss.Retired}); err == nil {
			key, err = r.backend.Trim(ctx, id)
		}
		if err != nil {
			return Key{}, fmt.Errorf("retire versions below %d: %w", loss.Retired, err)
		}
	}
	var marks []uint32
	err = r.change(ctx, id, func(s *keyState) error {
		s.Creating, s.Versions, marks = false, key.Latest, s.Compromised
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	return r.settle(ctx, key, marks)
}

// refuseMissing refuses the values whose version, as of tells it, did not come back
// with the key: what has its number now never encrypted anything.
func (r *Ring) refuseMissing(ctx context.Context, id string, group []*opened, of func(*opened) uint32) {
	state, err := r.marks(ctx, id)
	for _, o := range group {
		switch {
		case o.err != nil:
		case err != nil:
			o.err = err
		case slices.Contains(state.Missing, of(o)):
			o.err = ErrVersionDisallowed
		}
	}
}

// lost refuses to make a key anew whose material is in escrow; held is the
// newest version that the backend has.
func (r *Ring) lost(ctx context.Context, id string, held uint32, s *keyState, policy Policy) error {
	if r.o.Escrow == nil || !policy.RequireKeyEscrow || held >= s.Versions {
		return nil
	}
	has, err := r.o.Escrow.Has(ctx, id)
	if err != nil {
		return fmt.Errorf("look for key %s in escrow: %w", id, err)
	}
	if !has {
		return nil
	}
	return fmt.Errorf("key %s had version %d and has %d: %w", id, s.Versions, held, ErrKeyLost)
}

// NotEscrowed gives the keys that must be escrowed and whose latest version is
// not, as Run saw them last.
func (r *Ring) NotEscrowed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bare)
}

// countEscrow looks which keys are not escrowed.
func (r *Ring) countEscrow(ctx context.Context, infos []Info) {
	var bare []string
	for _, i := range infos {
		if _, policy, ok := r.policyOf(i.Name); !ok || !policy.RequireKeyEscrow {
			continue
		}
		var versions []uint32
		if r.o.Escrow != nil {
			var err error
			if versions, err = r.o.Escrow.Versions(ctx, i.Name); err != nil {
				return // what was known stays
			}
		}
		if !slices.Contains(versions, i.Latest) {
			bare = append(bare, i.Name)
		}
	}
	r.metrics.bare.Set(float64(len(bare)))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bare = bare
}
