package signature

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// maxKeys bounds the keys of a ring: a signature without a key id may be tried
// against each.
const maxKeys = 1000

// Options are what a Keyring takes beside its keys. The zero value is the
// documented default.
type Options struct {
	Now    func() time.Time // default time.Now
	Limits Limits
}

// Keyring holds the keys that bundles may be signed with and verifies by them.
// Its methods may be called from several goroutines.
type Keyring struct {
	now    func() time.Time
	limits Limits
	keys   atomic.Pointer[[]*key]
}

// NewKeyring gives a ring without keys, which believes nothing.
func NewKeyring(o Options) *Keyring {
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Keyring{now: o.Now, limits: o.Limits.withDefaults()}
	r.keys.Store(&[]*key{})
	return r
}

// Prepare reads the keys and gives the function that puts them in place of
// those in use, all at once. Until it is called nothing changes, and an error
// changes nothing.
func (r *Keyring) Prepare(configs []KeyConfig) (commit func(), err error) {
	if len(configs) > maxKeys {
		return nil, fmt.Errorf("%d verification keys, at most %d", len(configs), maxKeys)
	}
	keys := make([]*key, 0, len(configs))
	ids := make(map[string]bool, len(configs))
	for _, c := range configs {
		k, err := c.load()
		if err == nil && ids[c.ID] {
			err = errors.New("the id is given twice")
		}
		if err != nil {
			return nil, fmt.Errorf("verification key %q: %w", c.ID, err)
		}
		ids[c.ID] = true
		keys = append(keys, k)
	}
	return func() { r.keys.Store(&keys) }, nil
}

// Len is the number of keys.
func (r *Keyring) Len() int { return len(*r.keys.Load()) }

// KeyStatus is a key and whether it is valid now.
type KeyStatus struct {
	ID        string    `json:"id"`
	Algorithm Algorithm `json:"algorithm"`
	Names     []string  `json:"names,omitempty"` // none: every bundle
	Scope     string    `json:"scope,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Valid     bool      `json:"valid"`
}

// Keys lists the keys in the order of the configuration.
func (r *Keyring) Keys() []KeyStatus {
	keys, now := *r.keys.Load(), r.now()
	list := make([]KeyStatus, 0, len(keys))
	for _, k := range keys {
		list = append(list, KeyStatus{
			ID: k.ID, Algorithm: k.Algorithm, Names: k.Names, Scope: k.Scope,
			NotBefore: k.NotBefore, NotAfter: k.NotAfter, Valid: k.outside(now) == "",
		})
	}
	return list
}

// Proof is what a verified signature says.
type Proof struct {
	KeyID     string
	Algorithm Algorithm
	Scope     string
	Files     int
	// Statement names what was signed, as 64 hex digits over the sorted names
	// and hashes. Two archives with one Statement are the same bundle even
	// where the bytes of their data files differ in white space, which the
	// format does not sign: who refuses to take an old bundle again must
	// remember this beside the digest of the bytes.
	Statement string
}

// Verify checks that a key which may sign the named bundle has signed exactly
// these files. signatures is the content of .signatures.json, nil when there is
// none. A refusal is an *Error; another error is one of reading.
func (r *Keyring) Verify(bundle string, signatures []byte, files Files) (*Proof, error) {
	proof, s, err := r.signed(bundle, signatures)
	if err != nil {
		return nil, err
	}
	if err := s.check(files, r.limits); err != nil {
		return nil, err
	}
	return proof, nil
}

// Vouch is Verify without a look at the files: for those that Verify compared
// with these signatures before, when keys or the time may have changed since.
func (r *Keyring) Vouch(bundle string, signatures []byte) (*Proof, error) {
	proof, _, err := r.signed(bundle, signatures)
	return proof, err
}

// signed checks that a key which may sign the named bundle now made the
// signatures.
func (r *Keyring) signed(bundle string, signatures []byte) (*Proof, *statement, error) {
	if signatures == nil {
		return nil, nil, refuse(NoSignature, "the bundle has no %s", Name)
	}
	e, err := openEnvelope(signatures, r.limits)
	if err != nil {
		return nil, nil, err
	}
	now := r.now()
	k, err := r.signer(e, bundle, now)
	if err != nil {
		return nil, nil, err
	}
	s, err := e.statement(r.limits)
	if err != nil {
		return nil, nil, err
	}
	if err := s.valid(now); err != nil {
		return nil, nil, err
	}
	if s.Scope != k.Scope {
		return nil, nil, refuse(ScopeMismatch, "it is signed for the scope %.100q, and the key %q is for %q", s.Scope, k.ID, k.Scope).key(k.ID)
	}
	return &Proof{KeyID: k.ID, Algorithm: k.Algorithm, Scope: s.Scope, Files: len(s.Files), Statement: s.digest()}, s, nil
}

// signer gives the key that made the signature.
func (r *Keyring) signer(e *envelope, bundle string, now time.Time) (*key, error) {
	keys := *r.keys.Load()
	if e.keyID != "" {
		for _, k := range keys {
			if k.ID != e.keyID {
				continue
			}
			if err := k.verify(e, bundle, now); err != nil {
				return nil, err
			}
			return k, nil
		}
		return nil, refuse(KeyUnknown, "the signature names the key %q, which is not configured", e.keyID).key(e.keyID)
	}
	// It names no key: the refusal is that of the key which came furthest.
	var nearest *Error
	for _, k := range keys {
		refused := k.verify(e, bundle, now)
		if refused == nil {
			return k, nil
		}
		if err, ok := errors.AsType[*Error](refused); ok && (nearest == nil || rank(err.Reason) > rank(nearest.Reason)) {
			nearest = err
		}
	}
	if nearest == nil {
		return nil, refuse(KeyUnknown, "the signature names no key, and none is configured")
	}
	return nil, &Error{Reason: nearest.Reason, Detail: "the signature names no key, and none of those configured made it; the nearest: " + nearest.Detail}
}

// rank orders the checks of verify.
func rank(r Reason) int {
	switch r {
	case KeyNotForBundle:
		return 1
	case KeyOutsideWindow:
		return 2
	case AlgorithmNotAllowed:
		return 3
	}
	return 4
}

// verify checks that the key may sign the bundle now and that it made the
// signature, by its own algorithm: one that the token announces instead is
// refused, never used.
func (k *key) verify(e *envelope, bundle string, now time.Time) error {
	if !k.allows(bundle) {
		return refuse(KeyNotForBundle, "the key %q may not sign bundles of the name %q", k.ID, bundle).key(k.ID)
	}
	if why := k.outside(now); why != "" {
		return refuse(KeyOutsideWindow, "the key %q %s", k.ID, why).key(k.ID)
	}
	if e.algorithm != k.Algorithm {
		return refuse(AlgorithmNotAllowed, "the signature announces %.50q, and the key %q is for %s only", string(e.algorithm), k.ID, k.Algorithm).key(k.ID)
	}
	if err := k.Algorithm.method().Verify(e.signed, e.signature, k.material); err != nil {
		refused := refuse(SignatureInvalid, "the key %q did not make this signature", k.ID).key(k.ID)
		refused.Err = err
		return refused
	}
	return nil
}
