package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// Bounds of a JWK set.
const (
	maxSet  = 1 << 20 // bytes
	maxKeys = 100

	minRSABits = 2048
	maxRSABits = 8192 // above it one verification takes long
)

// Algorithms are all that an issuer can be configured for: those of a public
// key. There is neither none nor a shared secret.
func Algorithms() []string {
	return []string{"EdDSA", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// key is a public key that verifies tokens.
type key struct {
	id         string // kid; empty: it has none
	thumbprint string
	algorithms []string // those that it may be used with
	public     any      // what golang-jwt's Verify takes
}

// name is what the key is known by in logs and records.
func (k *key) name() string {
	if k.id != "" {
		return k.id
	}
	return k.thumbprint
}

// keySet is a JWK set (RFC 7517). It is never changed.
type keySet struct {
	digest [sha256.Size]byte // of the document
	keys   []*key
	byID   map[string][]*key
	// unused says why keys of the document are not used.
	unused []string
}

// parseSet reads a JWK set. A key that cannot be used is left out: sets hold
// keys for other purposes too (RFC 7517, section 5).
func parseSet(raw []byte) (*keySet, error) {
	if len(raw) > maxSet {
		return nil, fmt.Errorf("larger than %d bytes", maxSet)
	}
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, errors.New("not a JWK set")
	}
	if n := len(document.Keys); n == 0 || n > maxKeys {
		return nil, fmt.Errorf("it holds %d keys; a set of 1 to %d is taken", n, maxKeys)
	}
	s := &keySet{digest: sha256.Sum256(raw), byID: map[string][]*key{}}
	for i, one := range document.Keys {
		k, err := parseKey(one)
		if err != nil {
			s.unused = append(s.unused, fmt.Sprintf("keys[%d]: %v", i, err))
			continue
		}
		same := func(other *key) bool { return other.thumbprint == k.thumbprint }
		if k.id == "" && slices.ContainsFunc(s.keys, same) || slices.ContainsFunc(s.byID[k.id], same) {
			continue
		}
		s.keys = append(s.keys, k)
		if k.id != "" {
			s.byID[k.id] = append(s.byID[k.id], k)
		}
	}
	if len(s.keys) == 0 {
		return nil, fmt.Errorf("none of its keys can be used: %s", s.unused[0])
	}
	return s, nil
}

func parseKey(raw []byte) (*key, error) {
	parsed, err := jwk.ParseKey(raw)
	if err != nil {
		return nil, errors.New("not a key that is known here")
	}
	switch private, err := jwk.IsPrivateKey(parsed); {
	case err != nil:
		return nil, errors.New("not a public key")
	case private:
		return nil, errors.New("a private key, which everybody who reads the set has")
	}
	if use, ok := parsed.KeyUsage(); ok && use != "sig" {
		return nil, errors.New("not for signatures")
	}
	if ops, ok := parsed.KeyOps(); ok && !slices.Contains(ops, jwk.KeyOpVerify) {
		return nil, errors.New("not for verification")
	}
	k := &key{}
	if k.id, _ = parsed.KeyID(); len(k.id) > maxKeyID {
		return nil, fmt.Errorf("a kid of more than %d bytes", maxKeyID)
	}
	if err := jwk.Export(parsed, &k.public); err != nil {
		return nil, errors.New("its parts do not make a key")
	}
	if k.algorithms, err = algorithmsOf(k.public); err != nil {
		return nil, err
	}
	if announced, ok := parsed.Algorithm(); ok {
		name := announced.String()
		if name == "Ed25519" { // RFC 9864
			name = "EdDSA"
		}
		if !slices.Contains(k.algorithms, name) {
			return nil, errors.New("its alg is not one of its kind of key")
		}
		k.algorithms = []string{name}
	}
	sum, err := parsed.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, errors.New("its parts do not make a key")
	}
	k.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return k, nil
}

// algorithmsOf lists what a public key can be used with; it refuses a weak one,
// and one that is none.
func algorithmsOf(public any) ([]string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits; use one of %d to %d", bits, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E%2 == 0 || k.N.Bit(0) == 0 {
			return nil, errors.New("not an RSA key")
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil { // the point is not on the curve
			return nil, errors.New("not an EC key")
		}
		name := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Params().Name]
		return []string{name}, nil
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	}
	return nil, fmt.Errorf("a key of type %T", public)
}

// find is the key for a header. Without a kid there must be one only that fits.
func (s *keySet) find(h *header) (any, Reason) {
	candidates := s.keys
	if h.named {
		if candidates = s.byID[h.keyID]; len(candidates) == 0 {
			return nil, KeyUnknown
		}
	}
	var found *key
	for _, k := range candidates {
		if !slices.Contains(k.algorithms, h.algorithm) {
			continue
		}
		if found != nil {
			return nil, KeyUnclear
		}
		found = k
	}
	if found == nil {
		return nil, Algorithm
	}
	return found.public, ""
}

// names are what the keys are known by.
func (s *keySet) names() []string {
	if s == nil {
		return nil
	}
	list := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		list = append(list, k.name())
	}
	return list
}

// change is what became different from s to next.
func (s *keySet) change(issuer string, next *keySet) Change {
	c := Change{Issuer: issuer}
	before, after := s.names(), next.names()
	for _, name := range after {
		if !slices.Contains(before, name) {
			c.Added = append(c.Added, name)
		}
	}
	for _, name := range before {
		if !slices.Contains(after, name) {
			c.Removed = append(c.Removed, name)
		}
	}
	return c
}
