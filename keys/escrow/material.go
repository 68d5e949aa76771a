package escrow

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/verdict-pdp/verdict/keys"
)

// newMaterial makes key material in the form of keys.Manager.Import: 32 bytes,
// or PKCS #8.
func newMaterial(t keys.Type) ([]byte, error) {
	var private any
	var err error
	switch t {
	case keys.AES256, keys.HMAC:
		material := make([]byte, keys.DataKeySize)
		if _, err := rand.Read(material); err != nil {
			return nil, fmt.Errorf("make %s key: %w", t, err)
		}
		return material, nil
	case keys.Ed25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case keys.ECDSAP256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keys.RSA2048:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case keys.RSA3072:
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	case keys.RSA4096:
		private, err = rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, fmt.Errorf("make key of type %q: %w", t, keys.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s key: %w", t, err)
	}
	material, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make %s key: %w", t, err)
	}
	return material, nil
}
