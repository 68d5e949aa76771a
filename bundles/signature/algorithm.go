package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a signature algorithm by its name in RFC 7518 or RFC 8037.
type Algorithm string

// Algorithms are all that a key can be configured for: OPA's, and EdDSA.
func Algorithms() []Algorithm {
	return []Algorithm{
		"EdDSA", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512",
		"PS256", "PS384", "PS512", "RS256", "RS384", "RS512",
	}
}

// Secret tells whether the algorithm's key is a shared secret.
func (a Algorithm) Secret() bool { return strings.HasPrefix(string(a), "HS") }

// SecretLength is the least length of the algorithm's shared secret in bytes
// (RFC 7518, section 3.2); 0 when it has none.
func (a Algorithm) SecretLength() int {
	switch a {
	case "HS256":
		return 32
	case "HS384":
		return 48
	case "HS512":
		return 64
	}
	return 0
}

// method is the implementation, nil for an algorithm that is not one of
// Algorithms: "none" above all.
func (a Algorithm) method() jwt.SigningMethod {
	switch a {
	case "EdDSA":
		return jwt.SigningMethodEdDSA
	case "ES256":
		return jwt.SigningMethodES256
	case "ES384":
		return jwt.SigningMethodES384
	case "ES512":
		return jwt.SigningMethodES512
	case "HS256":
		return jwt.SigningMethodHS256
	case "HS384":
		return jwt.SigningMethodHS384
	case "HS512":
		return jwt.SigningMethodHS512
	case "PS256":
		return jwt.SigningMethodPS256
	case "PS384":
		return jwt.SigningMethodPS384
	case "PS512":
		return jwt.SigningMethodPS512
	case "RS256":
		return jwt.SigningMethodRS256
	case "RS384":
		return jwt.SigningMethodRS384
	case "RS512":
		return jwt.SigningMethodRS512
	}
	return nil
}

func (a Algorithm) known() error {
	if a.method() != nil {
		return nil
	}
	names := make([]string, 0, 13)
	for _, known := range Algorithms() {
		names = append(names, string(known))
	}
	return fmt.Errorf("unknown algorithm %q: write one of %s", string(a), strings.Join(names, ", "))
}

// Sizes of RSA keys: below is weak, above makes one verification take seconds.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// fits refuses a public key that is not of the algorithm's kind.
func (a Algorithm) fits(public any) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if !strings.HasPrefix(string(a), "RS") && !strings.HasPrefix(string(a), "PS") {
			return fmt.Errorf("an RSA key cannot be used with %s", a)
		}
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits; use one of %d to %d", bits, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		curve := k.Curve.Params().Name
		if want := map[Algorithm]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[a]; curve != want {
			return fmt.Errorf("an EC key on %s cannot be used with %s", curve, a)
		}
	case ed25519.PublicKey:
		if a != "EdDSA" {
			return fmt.Errorf("an Ed25519 key cannot be used with %s", a)
		}
	default:
		return fmt.Errorf("a key of type %T cannot be used to sign bundles", public)
	}
	return nil
}

// AlgorithmFor is the usual algorithm of a public or private key in PEM: RS256
// for RSA, ES256, ES384 or ES512 by the curve, EdDSA. A secret has none.
func AlgorithmFor(pem []byte) (Algorithm, error) {
	public, err := parsePublic(pem)
	if err != nil {
		private, privateErr := parsePrivate(pem)
		if privateErr != nil {
			return "", err
		}
		public = private.Public()
	}
	for _, a := range []Algorithm{"RS256", "ES256", "ES384", "ES512", "EdDSA"} {
		if err = a.fits(public); err == nil {
			return a, nil
		}
	}
	return "", err
}
