package keys

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Limits of the ring.
const (
	// MaxItems is the number of values in one call.
	MaxItems = 1 << 17
	// maxUses is the number of values that one data key encrypts: random
	// 96-bit nonces allow 2^32 (NIST SP 800-38D, section 8.3), and what one
	// data key opens is bounded too.
	maxUses = 1 << 20
	// maxKeyBytes is the length of all values that one data key encrypts.
	maxKeyBytes = 1 << 32

	defaultPrefix       = "verdict-"
	defaultCacheEntries = 10_000
	defaultCacheBytes   = 64 << 20
	describeTime        = time.Minute
	describeAgain       = 5 * time.Second // after a backend that was unavailable
	checkTime           = 30 * time.Second
	prepareTime         = time.Second // after the first attempt to make keys that failed
	macSuffix           = "-mac"
)

// Escrow makes the material of keys that must be recoverable.
type Escrow interface {
	// Generate makes material for a version of a key, in the form that
	// Manager.Import takes, and keeps it wrapped to the escrow key; that is
	// durable when it returns. The caller zeroes the material.
	Generate(ctx context.Context, id string, t Type, version uint32) ([]byte, error)

	// Versions gives the versions of a key that can be recovered, ascending.
	Versions(ctx context.Context, id string) ([]uint32, error)

	// Has tells whether anything is kept of a key, such as what is wrapped to
	// another escrow key than that of now and cannot be recovered with it.
	Has(ctx context.Context, id string) (bool, error)

	// Forget destroys what is kept of the versions of a key from first on and
	// below end.
	Forget(ctx context.Context, id string, first, end uint32) error
}

// Options are what a Ring can do without. The zero value is the default.
type Options struct {
	// Prefix is what the names of the ring's keys begin with; empty:
	// "verdict-".
	Prefix string
	// Policies of the classifications; those that are missing have the
	// default.
	Policies Policies
	// Escrow; nil: keys are made by the backend alone.
	Escrow Escrow
	// EnforceEscrow refuses to create and rotate keys that must be escrowed
	// when there is no Escrow.
	EnforceEscrow bool
	// Prepare has Run make the keys of all classifications, which are else made
	// when they are first needed: where that takes longer than a caller waits.
	Prepare bool
	// CacheEntries and CacheBytes bound the data keys in memory, of those that
	// encrypt and of those that decrypt each; 0: 10,000 and 64 MiB.
	CacheEntries int
	CacheBytes   int64
	// DataKeyUses is the number of values that one data key encrypts; 0, or
	// more: 2^20.
	DataKeyUses int64
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Rand is where nonces come from; nil: crypto/rand.
	Rand io.Reader
	Log  zerolog.Logger
}

// Ring encrypts, signs and authenticates. Its methods may be called by several
// goroutines at once. A key's id is its name in the backend, the prefix
// included, and stands in ciphertexts.
type Ring struct {
	backend  Backend
	store    Store
	recorder Recorder
	o        Options
	policies Policies
	classes  map[string]classRef // by id
	owner    string              // of claims: this ring and no other
	sealing  *cache              // data keys that encrypt
	opening  *cache              // data keys that decrypt
	metrics  *metrics

	manage turns // taken while keys are created and changed

	mu    sync.Mutex // guards what follows
	infos map[string]*info
	epoch uint64          // grows with every forget
	ready map[string]bool // keys that exist, their creation recorded
	bare  []string        // keys that should be escrowed and are not
	rests map[string]rest // keys whose rotation failed
}

// turns is a lock that is waited for no longer than a context lives: a key that is
// being rotated may take long, and callers that need another one do not.
type turns chan struct{}

func (t turns) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a change of keys: %w", ctx.Err())
	}
}

func (t turns) leave() { <-t }

// info is what was last seen of a key.
type info struct {
	key   Key
	state *keyState
	until time.Time // when it is looked at again; guarded by Ring.mu
}

// New returns a ring over a backend. It asks nobody yet: keys are created when
// they are first used, and a backend that cannot be reached is an error of the
// call that needs it.
func New(b Backend, s Store, rec Recorder, o Options) (*Ring, error) {
	if b == nil || s == nil || rec == nil {
		return nil, errors.New("a key ring needs a backend, a store and a recorder")
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if !validName(o.Prefix) || len(o.Prefix) > MaxName/2 {
		return nil, fmt.Errorf("key prefix %q: want 1 to %d letters, digits, dots, underscores and hyphens", bounded(o.Prefix), MaxName/2)
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = defaultCacheEntries
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	policies, err := o.Policies.complete()
	if err != nil {
		return nil, err
	}
	owner := make([]byte, 16)
	if _, err := io.ReadFull(o.Rand, owner); err != nil {
		return nil, fmt.Errorf("name the key ring: %w", err)
	}
	r := &Ring{
		backend: b, store: s, recorder: rec, o: o, policies: policies,
		classes: classKeys(o.Prefix), owner: hex.EncodeToString(owner),
		sealing: newCache(o.CacheEntries, o.CacheBytes, o.Now),
		opening: newCache(o.CacheEntries, o.CacheBytes, o.Now),
		manage:  make(turns, 1),
		infos:   map[string]*info{}, ready: map[string]bool{}, rests: map[string]rest{},
	}
	if o.DataKeyUses > 0 {
		r.sealing.maxUses = min(o.DataKeyUses, maxUses)
	}
	r.opening.maxUses, r.opening.maxBytes = 1<<62, 1<<62 // opening wears no key out
	r.metrics = newMetrics(r)
	return r, nil
}

// Policy gives the policy of a classification.
func (r *Ring) Policy(c Class) Policy { return r.policies[c] }

// ID gives the id of the key with that name.
func (r *Ring) ID(name string) string { return r.o.Prefix + name }

// ClassID gives the id of the key that wraps the data keys of a
// classification: the prefix and the class, and the algorithm when it is not
// the default one of the class.
func (r *Ring) ClassID(c Class) string {
	id := r.ID(c.String())
	if alg := r.policies[c].Algorithm; alg != DefaultPolicies()[c].Algorithm {
		id += "-" + string(alg)
	}
	return id
}

// classRef is what a key of the ring is for.
type classRef struct {
	class Class
	typ   Type
}

// classKeys lists the keys that data keys may be wrapped with: those of the
// policies of now, and of those that may have held before.
func classKeys(prefix string) map[string]classRef {
	ids := map[string]classRef{}
	for c, p := range DefaultPolicies() {
		if c == Public {
			continue
		}
		ids[prefix+c.String()] = classRef{c, p.Algorithm}
		for _, alg := range []Type{AES256, RSA4096} {
			if alg != p.Algorithm {
				ids[prefix+c.String()+"-"+string(alg)] = classRef{c, alg}
			}
		}
	}
	return ids
}

// policyOf gives the class of a key that the ring encrypts with, or of the one
// that makes its MACs, and the policy.
func (r *Ring) policyOf(id string) (Class, Policy, bool) {
	ref, ok := r.classes[strings.TrimSuffix(id, macSuffix)]
	return ref.class, r.policies[ref.class], ok
}

// look gives what is known of a key. After a minute one caller asks for it
// again, while others go on with what was known; that holds too when the
// backend is unavailable.
func (r *Ring) look(ctx context.Context, id string) (*info, error) {
	now := r.o.Now()
	r.mu.Lock()
	known := r.infos[id]
	fresh := known != nil && now.Before(known.until)
	if known != nil && !fresh {
		known.until = now.Add(describeAgain)
	}
	r.mu.Unlock()
	if fresh {
		return known, nil
	}
	again, err := r.lookAgain(ctx, id)
	if errors.Is(err, ErrUnavailable) && known != nil {
		return known, nil
	}
	return again, err
}

// lookAgain asks the backend and the store.
func (r *Ring) lookAgain(ctx context.Context, id string) (*info, error) {
	r.mu.Lock()
	epoch := r.epoch
	r.mu.Unlock()
	key, err := r.backend.Describe(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("describe key %s: %w", id, err)
	}
	state, err := r.load(ctx, id)
	if err != nil {
		return nil, err
	}
	fresh := &info{key: key, state: state, until: r.o.Now().Add(describeTime)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == epoch {
		r.infos[id] = fresh
	}
	return fresh, nil
}

// forget drops what is in memory of a key, or of all when the id is empty.
func (r *Ring) forget(id string) {
	r.mu.Lock()
	r.epoch++
	if id == "" {
		clear(r.infos)
	}
	delete(r.infos, id)
	r.mu.Unlock()
	// Data keys last: one that is made meanwhile is held against the new marks, or
	// not kept.
	r.sealing.forget(id)
	r.opening.forget(id)
}
