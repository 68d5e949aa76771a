package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"

	"github.com/verdict-pdp/verdict/keys"
)

// MediaType is that of a JWK Set (RFC 7517, section 8.5.2).
const MediaType = "application/jwk-set+json"

// Set is a JWK Set (RFC 7517, section 5).
type Set struct {
	Keys []JWK `json:"keys"`
}

// JWK is a public key that signatures are verified with (RFC 7517, section 4;
// RFC 7518, section 6; RFC 8037, section 2). It has no place for a private one.
type JWK struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	Modulus   string `json:"n,omitempty"`
	Exponent  string `json:"e,omitempty"`
}

// NewJWK gives the JWK of a public key. keys.ErrUnsupported when the key is not
// one that the algorithm takes.
func NewJWK(public crypto.PublicKey, alg keys.Algorithm, kid string) (JWK, error) {
	k := JWK{Use: "sig", Algorithm: string(alg), KeyID: kid}
	encode := base64.RawURLEncoding.EncodeToString
	switch p := public.(type) {
	case ed25519.PublicKey:
		if alg == keys.EdDSA && len(p) == ed25519.PublicKeySize {
			k.KeyType, k.Curve, k.X = "OKP", "Ed25519", encode(p)
			return k, nil
		}
	case *ecdsa.PublicKey:
		if alg != keys.ES256 || p.Curve != elliptic.P256() {
			break
		}
		point, err := p.Bytes() // 4, then x and y of the curve's full length
		if err != nil {
			return JWK{}, fmt.Errorf("public key %s: %w", kid, err)
		}
		half := len(point) / 2
		k.KeyType, k.Curve, k.X, k.Y = "EC", "P-256", encode(point[1:1+half]), encode(point[1+half:])
		return k, nil
	case *rsa.PublicKey:
		if alg == keys.RS256 || alg == keys.PS256 {
			k.KeyType, k.Modulus, k.Exponent = "RSA", encode(p.N.Bytes()), encode(big.NewInt(int64(p.E)).Bytes())
			return k, nil
		}
	}
	return JWK{}, fmt.Errorf("public key %s of type %T with %s: %w", kid, public, alg, keys.ErrUnsupported)
}
