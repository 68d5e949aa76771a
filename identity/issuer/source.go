package issuer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// When keys of a URL are fetched.
const (
	freshUsually = 10 * time.Minute // unless the answer's max-age says otherwise,
	freshLeast   = time.Minute      // within these bounds
	freshMost    = time.Hour

	retryLeast = 5 * time.Second // after a failure, then twice as long each time,
	retryMost  = 2 * time.Minute // up to this

	// An unknown key has them fetched before their time, three times and then
	// once in demandEvery: whoever makes up key ids must not keep the issuer busy.
	demandEvery = 10 * time.Second
	demandBurst = 3
	// maxWaiting bounds the tokens that wait for one fetch.
	maxWaiting = 64
)

// source is where the keys of one issuer come from.
type source struct {
	issuer    string
	url, file string
	stale     func(now time.Time) bool
	keys      atomic.Pointer[keySet] // nil: not known yet
	fetched   atomic.Int64           // Unix nanoseconds of the last success

	mu      sync.Mutex // guards what follows
	flight  *flight    // nil: nobody fetches
	demands *rate.Limiter
	waiting int
	next    time.Time // when they are fetched anyway
	retry   time.Duration

	// Of the last flight, owned by the one under way.

	seen    os.FileInfo // the file that was read
	problem string      // what was wrong; empty: nothing
}

// flight is one fetch, for all who wait for it.
type flight struct {
	begun bool
	done  chan struct{} // closed when it is over, however it ended
}

// source makes the source of a Config. A file is read at once.
func (v *Verifier) source(c Config) (*source, error) {
	s := &source{
		issuer: c.Issuer, url: c.JWKSURL, file: c.JWKSFile,
		demands: rate.NewLimiter(rate.Every(demandEvery), demandBurst),
	}
	s.stale = func(now time.Time) bool {
		return s.url != "" && now.Sub(time.Unix(0, s.fetched.Load())) > v.o.StaleAfter
	}
	if s.file == "" {
		return s, nil
	}
	keys, _, err := readSet(s.file, nil)
	if err != nil {
		return nil, err
	}
	s.keys.Store(keys)
	return s, nil
}

// take begins a flight when one is asked for or due, and tells whether.
func (s *source) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight == nil {
		if now.Before(s.next) {
			return false
		}
		s.flight = &flight{done: make(chan struct{})}
	}
	if s.flight.begun {
		return false
	}
	s.flight.begun = true
	return true
}

// demand is the flight to wait for, nil when there is none and it is too early
// for another, or too many wait. Whoever got one calls left.
func (s *source) demand(now time.Time) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= maxWaiting {
		return nil
	}
	if s.flight == nil {
		if !s.demands.AllowN(now, 1) {
			return nil
		}
		s.flight = &flight{done: make(chan struct{})}
	}
	s.waiting++
	return s.flight
}

func (s *source) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
}

// land ends the flight; fresh is how long what it brought will do, 0 when it
// failed.
func (s *source) land(now time.Time, fresh time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry = min(max(retryLeast, 2*s.retry), retryMost); fresh > 0 {
		s.retry = 0
	}
	s.next = now.Add(max(fresh, s.retry))
	close(s.flight.done)
	s.flight = nil
}

// refresh flies once.
func (v *Verifier) refresh(ctx context.Context, s *source) {
	keys, fresh, err := v.load(ctx, s)
	if err == nil && keys != nil {
		if err = v.exchange(ctx, s, keys); err != nil {
			s.seen, fresh = nil, 0 // it is read again
		}
	}
	now := v.o.Now()
	switch {
	case err != nil:
		v.failed(ctx, s, err)
	case keys != nil:
		s.problem = ""
		s.fetched.Store(now.UnixNano())
		v.metrics.keep(s.issuer, keys, now)
	}
	s.land(now, fresh)
}

// failed tells of keys that cannot be read, once for each way.
func (v *Verifier) failed(ctx context.Context, s *source, err error) {
	v.metrics.failed(s.issuer)
	if ctx.Err() != nil || s.problem == err.Error() {
		return
	}
	s.problem = err.Error()
	v.o.Logger.Warn().Err(err).Str("issuer", s.issuer).Bool("keys_known", s.keys.Load() != nil).
		Msg("the keys of an issuer cannot be read; those known are kept for a time")
}

// exchange puts keys in force once Changed has taken note of them, unless they
// are the same set: then that stays, and what was verified by it.
func (v *Verifier) exchange(ctx context.Context, s *source, keys *keySet) error {
	old := s.keys.Load()
	if old != nil && old.digest == keys.digest {
		return nil
	}
	c := old.change(s.issuer, keys)
	changed := len(c.Added)+len(c.Removed) > 0
	if changed {
		if err := v.o.Changed(ctx, c); err != nil {
			return fmt.Errorf("tell of other keys: %w", err)
		}
	}
	if len(keys.unused) > 0 {
		v.o.Logger.Warn().Str("issuer", s.issuer).Strs("keys", keys.unused).Msg("keys of an issuer are not used")
	}
	if changed {
		v.o.Logger.Info().Str("issuer", s.issuer).Strs("added", c.Added).Strs("removed", c.Removed).Msg("an issuer has other keys")
	}
	s.keys.Store(keys)
	return nil
}

// load reads the keys, and says for how long they will do. They are nil when a
// file has not changed.
func (v *Verifier) load(ctx context.Context, s *source) (*keySet, time.Duration, error) {
	if s.file != "" {
		keys, info, err := readSet(s.file, s.seen)
		if info != nil {
			s.seen = info
		}
		return keys, tick, err // a file is looked at as often when it is a bad one
	}
	raw, fresh, err := v.fetcher.get(ctx, s.url)
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseSet(raw)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", s.url, err)
	}
	return keys, fresh, nil
}

// readSet reads a JWK set from a file; nil when it is the one that was seen. A
// file is read once, also when it is a bad one.
func readSet(name string, seen os.FileInfo) (*keySet, os.FileInfo, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read keys: %w", err)
	}
	if seen != nil && os.SameFile(seen, info) && seen.Size() == info.Size() && seen.ModTime().Equal(info.ModTime()) {
		return nil, info, nil
	}
	if !info.Mode().IsRegular() {
		return nil, info, fmt.Errorf("read keys: %s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, info, fmt.Errorf("read keys: %w", err)
	}
	defer f.Close() // only read from
	raw, err := bounded(f)
	if err != nil {
		return nil, info, fmt.Errorf("read keys %s: %w", name, err)
	}
	keys, err := parseSet(raw)
	if err != nil {
		return nil, info, fmt.Errorf("read keys %s: %w", name, err)
	}
	return keys, info, nil
}

// errTooLarge is returned for a JWK set of more than maxSet bytes.
var errTooLarge = errors.New("the JWK set is larger than 1 MiB")

// bounded reads a JWK set, and no more than one may have.
func bounded(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSet+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxSet {
		return nil, errTooLarge
	}
	return raw, nil
}
