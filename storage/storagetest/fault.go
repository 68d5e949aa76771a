package storagetest

import (
	"context"
	"fmt"

	"github.com/verdict-pdp/verdict/storage"
)

// Faulty is a bucket whose writes fail when the test says so, for the tests of
// those who use a bucket.
type Faulty struct {
	storage.Bucket
	// Before, if it gives an error, makes Apply fail without being applied:
	// the error wraps storage.ErrUnavailable.
	Before func(ops []storage.Op) error
	// After, if it gives an error, makes Apply fail though it was applied: the
	// error wraps storage.ErrUncertain.
	After func(ops []storage.Op) error
}

// Apply applies the operations unless Before fails, and tells unless After
// fails.
func (f *Faulty) Apply(ctx context.Context, ops ...storage.Op) ([]uint64, error) {
	if f.Before != nil {
		if err := f.Before(ops); err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
	}
	revisions, err := f.Bucket.Apply(ctx, ops...)
	if err == nil && f.After != nil {
		if err := f.After(ops); err != nil {
			return nil, fmt.Errorf("%w: %w", storage.ErrUncertain, err)
		}
	}
	return revisions, err
}
