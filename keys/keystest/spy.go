package keystest

import (
	"context"
	"sync"

	"github.com/verdict-pdp/verdict/keys"
)

// Spy is a backend that counts the calls to another one and may fail them.
type Spy struct {
	keys.Backend
	// Before is called with the name of each operation and the key's; an error
	// is what the operation returns. Set it before use.
	Before func(operation, name string) error
	// After is called likewise when the operation succeeded: "failed, yet
	// applied".
	After func(operation, name string) error

	mu    sync.Mutex
	calls map[string]int
}

// Calls gives the number of calls of an operation, such as "DataKeys".
func (s *Spy) Calls(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[operation]
}

func spied[T any](s *Spy, operation, name string, call func() (T, error)) (T, error) {
	var zero T
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[operation]++
	s.mu.Unlock()
	if s.Before != nil {
		if err := s.Before(operation, name); err != nil {
			return zero, err
		}
	}
	result, err := call()
	if err == nil && s.After != nil {
		if err := s.After(operation, name); err != nil {
			return zero, err
		}
	}
	return result, err
}

// Ensure implements keys.Manager.
func (s *Spy) Ensure(ctx context.Context, name string, t keys.Type) (keys.Key, bool, error) {
	created := false
	key, err := spied(s, "Ensure", name, func() (k keys.Key, err error) {
		k, created, err = s.Backend.Ensure(ctx, name, t)
		return k, err
	})
	return key, created, err
}

// Describe implements keys.Manager.
func (s *Spy) Describe(ctx context.Context, name string) (keys.Key, error) {
	return spied(s, "Describe", name, func() (keys.Key, error) { return s.Backend.Describe(ctx, name) })
}

// Rotate implements keys.Manager.
func (s *Spy) Rotate(ctx context.Context, name string) (keys.Key, error) {
	return spied(s, "Rotate", name, func() (keys.Key, error) { return s.Backend.Rotate(ctx, name) })
}

// SetMinimums implements keys.Manager.
func (s *Spy) SetMinimums(ctx context.Context, name string, m keys.Minimums) (keys.Key, error) {
	return spied(s, "SetMinimums", name, func() (keys.Key, error) { return s.Backend.SetMinimums(ctx, name, m) })
}

// Import implements keys.Manager.
func (s *Spy) Import(ctx context.Context, name string, t keys.Type, material []byte) (keys.Key, error) {
	return spied(s, "Import", name, func() (keys.Key, error) { return s.Backend.Import(ctx, name, t, material) })
}

// DataKeys implements keys.Wrapper.
func (s *Spy) DataKeys(ctx context.Context, name string, contexts [][]byte) ([]keys.DataKey, error) {
	return spied(s, "DataKeys", name, func() ([]keys.DataKey, error) { return s.Backend.DataKeys(ctx, name, contexts) })
}

// Unwrap implements keys.Wrapper.
func (s *Spy) Unwrap(ctx context.Context, name string, items []keys.Sealed) ([]keys.Opened, error) {
	return spied(s, "Unwrap", name, func() ([]keys.Opened, error) { return s.Backend.Unwrap(ctx, name, items) })
}

// MAC implements keys.Signer.
func (s *Spy) MAC(ctx context.Context, name string, version uint32, messages [][]byte) ([]keys.Tag, error) {
	return spied(s, "MAC", name, func() ([]keys.Tag, error) { return s.Backend.MAC(ctx, name, version, messages) })
}
