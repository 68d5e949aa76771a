// Package jose signs JWTs with keys of the ring and publishes the public keys
// as a JWK Set. The private keys stay where the ring has them; what was signed
// is verified here, with public keys.
package jose

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"github.com/verdict-pdp/verdict/keys"
)

// Ring is the key ring, as *keys.Ring has it.
type Ring interface {
	// Key describes a key; keys.ErrKeyUnknown when there is none of that id.
	Key(ctx context.Context, id string) (keys.Info, error)
	// Sign signs messages with exactly the version that is asked for.
	Sign(ctx context.Context, id string, version uint32, alg keys.Algorithm, messages [][]byte) ([]keys.Tag, error)
}

// Method is a way of signing for golang-jwt that asks the ring. It is meant to
// be given to jwt.NewWithClaims and is registered nowhere: who verifies uses
// the methods that golang-jwt has.
type Method struct {
	alg keys.Algorithm
}

// Key is what Method.Sign takes as its key: everything that one signature
// needs. golang-jwt hands no context on, so the key carries it, for one call.
type Key struct {
	Context context.Context
	Ring    Ring
	// ID and Version are of the key that signs. The version is never 0: the
	// header, which is signed too, names it, and a rotation in between would
	// make the two differ.
	ID      string
	Version uint32
}

// NewMethod gives the method of EdDSA, ES256, RS256 or PS256.
func NewMethod(alg keys.Algorithm) (*Method, error) {
	if stock(alg) == nil {
		return nil, fmt.Errorf("signature algorithm %q: want EdDSA, ES256, RS256 or PS256: %w", string(alg), keys.ErrUnsupported)
	}
	return &Method{alg: alg}, nil
}

// stock is golang-jwt's own implementation.
func stock(alg keys.Algorithm) jwt.SigningMethod {
	switch alg {
	case keys.EdDSA:
		return jwt.SigningMethodEdDSA
	case keys.ES256:
		return jwt.SigningMethodES256
	case keys.RS256:
		return jwt.SigningMethodRS256
	case keys.PS256:
		return jwt.SigningMethodPS256
	}
	return nil
}

// Alg implements jwt.SigningMethod.
func (m *Method) Alg() string { return string(m.alg) }

// Sign implements jwt.SigningMethod; the key is a Key.
func (m *Method) Sign(signing string, key any) ([]byte, error) {
	k, ok := key.(Key)
	if !ok {
		return nil, jwt.ErrInvalidKeyType
	}
	if k.Context == nil || k.Ring == nil || k.ID == "" || k.Version == 0 {
		return nil, fmt.Errorf("a context, a ring, a key id and a version are needed: %w", jwt.ErrInvalidKey)
	}
	tags, err := k.Ring.Sign(k.Context, k.ID, k.Version, m.alg, [][]byte{[]byte(signing)})
	if err != nil {
		return nil, err
	}
	if len(tags) != 1 {
		return nil, errors.New("the key ring gave no signature")
	}
	return tags[0].Bytes, tags[0].Err
}

// Verify implements jwt.SigningMethod; the key is a public key.
func (m *Method) Verify(signing string, signature []byte, key any) error {
	public, ok := key.(crypto.PublicKey)
	if !ok {
		return jwt.ErrInvalidKeyType
	}
	switch err := keys.VerifySignature(public, m.alg, []byte(signing), signature); {
	case errors.Is(err, keys.ErrInvalid):
		return jwt.ErrSignatureInvalid
	case err != nil:
		return jwt.ErrInvalidKeyType
	}
	return nil
}
