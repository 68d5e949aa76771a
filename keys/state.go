package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// Store is the bucket in which the ring keeps what a backend does not know of
// its keys: dates, marks and claims. It is a part of storage.Bucket, whose
// words hold.
type Store interface {
	Get(ctx context.Context, key string) (storage.Entry, error)
	List(ctx context.Context, prefix, cursor string, limit int) (storage.Page, error)
	Apply(ctx context.Context, ops ...storage.Op) ([]uint64, error)
	Watch(ctx context.Context, prefix string, after uint64, fn func(storage.Event) error) error
}

const (
	statePart    = "key"           // first part of the store's keys
	leaseTime    = 2 * time.Minute // longer than any call to a backend
	stateRetries = 5
)

// keyState is what the store holds of one key.
type keyState struct {
	// NextRotation is the date that somebody set; zero: none.
	NextRotation time.Time `json:"next_rotation,omitzero"`
	// Rotated is when the ring rotated last, by its own clock.
	Rotated time.Time `json:"rotated,omitzero"`
	// Versions is the newest version that there was.
	Versions uint32 `json:"versions,omitempty"`
	// Retired is the oldest version that is not retired; 0: none was.
	Retired uint32 `json:"retired,omitempty"`
	// Compromised versions, ascending.
	Compromised []uint32 `json:"compromised,omitempty"`
	// Missing versions did not come back with a key that was lost, ascending:
	// something else has their numbers.
	Missing []uint32 `json:"missing,omitempty"`
	// Claim says who is rotating the key.
	Claim *claim `json:"claim,omitempty"`
	// Retiring: versions are being destroyed.
	Retiring *retiring `json:"retiring,omitempty"`
	// Creating: the key is created and that is not recorded yet.
	Creating bool `json:"creating,omitempty"`
	// Holds names the jobs that still need the old versions, ascending.
	Holds []string `json:"holds,omitempty"`

	revision uint64
}

// claim is the intent to rotate a version. When the key has a newer version,
// the intent was carried out.
type claim struct {
	Owner string    `json:"owner"`
	From  uint32    `json:"from"`
	Cause Cause     `json:"cause"`
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// Recorded: the rotation stands in the audit log already.
	Recorded bool `json:"recorded,omitempty"`
}

// retiring is the intent to destroy the versions below one. Where whoever had it
// stopped, it is over after a while.
type retiring struct {
	Below uint32    `json:"below"`
	Until time.Time `json:"until"`
}

func (s *keyState) compromised(version uint32) bool {
	return slices.Contains(s.Compromised, version)
}

// load reads the state of a key; one that was never written is empty.
func (r *Ring) load(ctx context.Context, id string) (*keyState, error) {
	e, err := r.store.Get(ctx, storage.Key(statePart, id))
	if errors.Is(err, storage.ErrNotFound) {
		return &keyState{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of key %s: %w", id, err)
	}
	s := &keyState{revision: e.Revision}
	if err := json.Unmarshal(e.Value, s); err != nil {
		return nil, fmt.Errorf("read the state of key %s: %w", id, err)
	}
	return s, nil
}

// save writes the state, or gives storage.ErrConflict when it changed since.
func (r *Ring) save(ctx context.Context, id string, s *keyState) error {
	value, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state of key %s: %w", id, err)
	}
	revisions, err := r.store.Apply(ctx, storage.Replace(storage.Key(statePart, id), value, s.revision))
	if err != nil {
		return fmt.Errorf("write the state of key %s: %w", id, err)
	}
	s.revision = revisions[0]
	return nil
}

// change reads, changes and writes the state, again when somebody else wrote
// in between. When change returns an error nothing is written.
func (r *Ring) change(ctx context.Context, id string, change func(*keyState) error) error {
	var err error
	for range stateRetries {
		var s *keyState
		if s, err = r.load(ctx, id); err != nil {
			return err
		}
		if err = change(s); err != nil {
			return err
		}
		if err = r.save(ctx, id, s); !errors.Is(err, storage.ErrConflict) {
			return err
		}
	}
	return err
}
