// Package notary signs notes (c2sp.org/signed-note) with an Ed25519 key of the
// ring: checkpoints of the audit log, above all.
package notary

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/verdict-pdp/verdict/keys"
)

const (
	// DefaultTimeout bounds a Sign.
	DefaultTimeout = 5 * time.Second
	// maxKeyName bounds the name of a key in notes, in bytes.
	maxKeyName = 255
)

// Ring is the key ring, as *keys.Ring has it.
type Ring interface {
	// Key describes a key; keys.ErrKeyUnknown when there is none of that id.
	Key(ctx context.Context, id string) (keys.Info, error)
	// Sign signs messages with exactly the version that is asked for.
	Sign(ctx context.Context, id string, version uint32, alg keys.Algorithm, messages [][]byte) ([]keys.Tag, error)
}

// Options of a Signer. The zero value is the default.
type Options struct {
	// Timeout bounds Sign, which has no context; zero: DefaultTimeout.
	Timeout time.Duration
}

// Signer signs notes with one version of a key. It is a note.Signer; its
// methods may be called by several goroutines at once. After a rotation a new
// one is made: the name stays, the key id differs, and verifiers need both
// verifier keys.
type Signer struct {
	ring    Ring
	id      string
	version uint32
	name    string
	key     note.Verifier
	vkey    string
	timeout time.Duration
}

// New makes the signer of a version, 0 for the latest, of the ring's key id.
// name is what notes call the key; for a log it is the origin. It asks the ring
// for the public key. keys.ErrUnsupported when the key is not an Ed25519 key,
// keys.ErrVersionDisallowed when it has no such version.
func New(ctx context.Context, ring Ring, id string, version uint32, name string, o Options) (*Signer, error) {
	if !validName(name) {
		return nil, fmt.Errorf("the name of a key in notes has 1 to %d bytes and no space or plus", maxKeyName)
	}
	info, err := ring.Key(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("look at key %s: %w", id, err)
	}
	if version == 0 {
		version = info.Latest
	}
	for _, v := range info.Versions {
		if v.Number != version {
			continue
		}
		public, ok := v.Public.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("notes are signed with Ed25519 and key %s is of type %s: %w", id, info.Type, keys.ErrUnsupported)
		}
		s := &Signer{ring: ring, id: id, version: version, name: name, timeout: o.Timeout}
		if s.timeout <= 0 {
			s.timeout = DefaultTimeout
		}
		if s.vkey, err = note.NewEd25519VerifierKey(name, public); err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
		if s.key, err = note.NewVerifier(s.vkey); err != nil {
			return nil, fmt.Errorf("key %s: %w", id, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("key %s has no version %d: %w", id, version, keys.ErrVersionDisallowed)
}

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer: the first four bytes of SHA-256 over the
// name, a line break, 0x01 and the public key (c2sp.org/signed-note, section
// "Signatures").
func (s *Signer) KeyHash() uint32 { return s.key.KeyHash() }

// Version is the version of the key that signs.
func (s *Signer) Version() uint32 { return s.version }

// VerifierKey is the public key in the form that note.NewVerifier and witnesses
// take (c2sp.org/signed-note, section "Verifier keys").
func (s *Signer) VerifierKey() string { return s.vkey }

// Sign implements note.Signer.
func (s *Signer) Sign(message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	return s.SignContext(ctx, message)
}

// SignContext is Sign with a context. What it returns has been verified with
// the public key that verifiers are given.
func (s *Signer) SignContext(ctx context.Context, message []byte) ([]byte, error) {
	tags, err := s.ring.Sign(ctx, s.id, s.version, keys.EdDSA, [][]byte{message})
	if err == nil && len(tags) == 1 {
		err = tags[0].Err
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("sign a note: %w", err)
	case len(tags) != 1 || !s.key.Verify(message, tags[0].Bytes):
		return nil, errors.New("sign a note: the signature is not by the key that was asked for")
	}
	return tags[0].Bytes, nil
}

// validName tells whether a name may stand in a note.
func validName(name string) bool {
	return name != "" && len(name) <= maxKeyName && utf8.ValidString(name) &&
		!strings.Contains(name, "+") && strings.IndexFunc(name, unicode.IsSpace) < 0
}
