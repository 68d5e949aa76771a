package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
)

// Request asks for one secret of the configuration.
type Request struct {
	// Key is the configuration key, which names the secret in errors.
	Key string
	// Reference is the value of the key.
	Reference Reference
	Rule      Rule
	// Needed says that nothing works without it: then a source that does not
	// answer is an error, too.
	Needed bool
}

// Error says what is wrong with the secret of a key.
type Error struct {
	Key string
	Err error // tells no secret
}

// Error names the key first.
func (e *Error) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Options of a Store. The zero value is the default.
type Options struct {
	// Lookup reads the environment; nil: os.LookupEnv.
	Lookup func(name string) (string, bool)
	// KV reads from Vault; nil: a reference to Vault is an error.
	KV KV
}

// Store holds the secrets of a configuration. Its methods may be called by
// several goroutines at once, Commit and Refresh by one at a time.
type Store struct {
	o Options

	mu      sync.Mutex // guards what follows
	secrets map[string]*Secret
}

// Secret is one secret. It stays the same value while its source and rule do,
// so that what holds it sees the secret change.
type Secret struct {
	request Request

	mu    sync.RWMutex // guards what follows
	value []byte       // nil: its source has not answered yet
	err   error        // of the last look; nil: it went well
}

// NewStore makes a store without secrets.
func NewStore(o Options) *Store {
	if o.Lookup == nil {
		o.Lookup = os.LookupEnv
	}
	return &Store{o: o, secrets: map[string]*Secret{}}
}

// Set is what Prepare has read.
type Set struct {
	store *Store
	next  map[string]*Secret // those that stay included
	fresh map[string][]byte
}

// Prepare reads secrets. Nothing in the store changes before Commit. The error
// is one *Error for each that is not there or is weak, joined. A secret that is
// not Needed, and whose source does not answer now, comes later, by Refresh.
func (s *Store) Prepare(ctx context.Context, requests []Request) (*Set, error) {
	set := &Set{store: s, next: make(map[string]*Secret, len(requests)), fresh: make(map[string][]byte, len(requests))}
	var failed []error
	for _, r := range requests {
		value, err := s.check(ctx, r)
		if err != nil && (r.Needed || !errors.Is(err, ErrUnavailable)) {
			failed = append(failed, &Error{r.Key, err})
			continue
		}
		known := s.Get(r.Key)
		if known == nil || known.request != r {
			known = &Secret{request: r, value: value, err: err}
		} else if value == nil {
			value, _ = known.Value() // what was known holds
		}
		set.next[r.Key], set.fresh[r.Key] = known, value
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	return set, nil
}

// Value gives what was read for a key; nil when its source does not answer.
func (s *Set) Value(key string) []byte { return s.fresh[key] }

// Get gives the secret of a key as it will be in the store; nil when it was not
// asked for.
func (s *Set) Get(key string) *Secret { return s.next[key] }

// Commit puts the secrets in place of those in the store.
func (s *Set) Commit() {
	for key, secret := range s.next {
		if secret.set(s.fresh[key]) {
			secret.note(nil)
		}
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.secrets = s.next
}

// check reads a secret and looks whether it is good.
func (s *Store) check(ctx context.Context, r Request) ([]byte, error) {
	value, err := s.read(ctx, r.Reference)
	if err != nil {
		return nil, err
	}
	if err := r.Rule.Check(value); err != nil {
		return nil, err
	}
	return value, nil
}

// Get gives the secret of a key; nil when the store has none.
func (s *Store) Get(key string) *Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.secrets[key]
}

// Refresh reads every secret again and gives the keys of those that have
// changed. One that cannot be read, or has become weak, stays as it was, and is
// an *Error in failed when that, or its cause, is new.
func (s *Store) Refresh(ctx context.Context) (changed []string, failed []*Error) {
	s.mu.Lock()
	all := make([]*Secret, 0, len(s.secrets))
	for _, secret := range s.secrets {
		all = append(all, secret)
	}
	s.mu.Unlock()
	for _, secret := range all {
		if secret.request.Reference.source == Inline {
			continue
		}
		value, err := s.check(ctx, secret.request)
		if news := secret.note(err); err != nil {
			if news {
				failed = append(failed, &Error{secret.request.Key, err})
			}
			continue
		}
		if secret.set(value) {
			changed = append(changed, secret.request.Key)
		}
	}
	return changed, failed
}

// Status is how one secret does.
type Status struct {
	Key string `json:"key"`
	// Reference is where it stands, or Redacted.
	Reference string `json:"reference"`
	// Missing: its source has not answered since the start.
	Missing bool `json:"missing,omitempty"`
	// Problem is why the last look gave nothing new; without secrets.
	Problem string `json:"problem,omitempty"`
}

// Status tells of each secret, in the order of their keys.
func (s *Store) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.secrets))
	for _, key := range slices.Sorted(maps.Keys(s.secrets)) {
		list = append(list, s.secrets[key].status())
	}
	return list
}

func (s *Secret) status() Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	status := Status{Key: s.request.Key, Reference: s.request.Reference.String(), Missing: s.value == nil}
	if s.err != nil {
		status.Problem = s.err.Error()
	}
	return status
}

// note keeps how a look went, and tells whether that is news.
func (s *Secret) note(err error) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = err != nil && (s.err == nil || s.err.Error() != err.Error())
	s.err = err
	return news
}

// set takes a value over and tells whether it is another one. The bytes of the
// old one stay as they are: somebody may be reading them.
func (s *Secret) set(value []byte) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == nil || s.value != nil && bytes.Equal(s.value, value) {
		return false
	}
	s.value = value
	return true
}

// Value gives the secret, which nobody may change, or ErrUnavailable while its
// source has not answered.
func (s *Secret) Value() ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.value == nil {
		return nil, fmt.Errorf("%s: %s: %w", s.request.Key, s.request.Reference, ErrUnavailable)
	}
	return s.value, nil
}

// Token gives the secret as text, for a header.
func (s *Secret) Token() (string, error) {
	value, err := s.Value()
	return string(value), err
}

// String keeps the secret out of what is printed, GoString out of %#v,
// MarshalText out of JSON and logs.
func (s *Secret) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s *Secret) GoString() string { return Redacted }

// MarshalText implements encoding.TextMarshaler.
func (s *Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }
