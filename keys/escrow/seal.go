package escrow

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/verdict-pdp/verdict/keys"
)

const (
	minRSA     = 2048
	maxJWE     = 64 << 10
	contentTyp = "verdict-escrow+json"
)

// PublicKey is the escrow key: of P-256, P-384, P-521, X25519, or RSA of at
// least 2048 bits.
type PublicKey struct {
	key        crypto.PublicKey
	algorithm  jwa.KeyEncryptionAlgorithm
	thumbprint string
}

// Thumbprint names the key (RFC 7638, SHA-256).
func (p *PublicKey) Thumbprint() string { return p.thumbprint }

// ParsePublicKey reads a public key in PEM (PKIX).
func ParsePublicKey(text []byte) (*PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block with a public key")
	}
	if block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("a PEM block %.40q: want PUBLIC KEY", block.Type)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return newPublicKey(key)
}

func newPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	p := &PublicKey{key: key, algorithm: jwa.ECDH_ES_A256KW()}
	switch k := key.(type) {
	case *ecdsa.PublicKey:
	case *ecdh.PublicKey:
		if k.Curve() != ecdh.X25519() {
			return nil, errors.New("public key: want P-256, P-384, P-521, X25519 or RSA")
		}
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("public key: RSA of %d bits, want at least %d", k.N.BitLen(), minRSA)
		}
		p.algorithm = jwa.RSA_OAEP_256()
	default:
		return nil, fmt.Errorf("public key: %T, want P-256, P-384, P-521, X25519 or RSA", key)
	}
	imported, err := jwk.Import(key)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	sum, err := imported.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p, nil
}

// PEM gives the key as ParsePublicKey reads it.
func (p *PublicKey) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Content is what a package holds, and what a recovery file is.
type Content struct {
	Format  int       `json:"format"`
	Key     string    `json:"key"`
	Type    keys.Type `json:"type"`
	Version uint32    `json:"version"`
	Created time.Time `json:"created"`
	// Material is 32 bytes, or PKCS #8 (DER).
	Material []byte `json:"material"`
}

// seal wraps material to the key.
func (p *PublicKey) seal(of Package, material []byte) (string, error) {
	payload, err := json.Marshal(Content{Format: 1, Key: of.Key, Type: of.Type, Version: of.Version, Created: of.Created, Material: material})
	if err != nil {
		return "", fmt.Errorf("seal escrow package: %w", err)
	}
	defer clear(payload)
	headers := jwe.NewHeaders()
	if err := errors.Join(headers.Set(jwe.KeyIDKey, p.thumbprint), headers.Set(jwe.ContentTypeKey, contentTyp)); err != nil {
		return "", fmt.Errorf("seal escrow package: %w", err)
	}
	sealed, err := jwe.Encrypt(payload, jwe.WithKey(p.algorithm, p.key), jwe.WithContentEncryption(jwa.A256GCM()), jwe.WithProtectedHeaders(headers))
	if err != nil {
		return "", fmt.Errorf("seal escrow package: %w", err)
	}
	return string(sealed), nil
}

// PrivateKey opens packages. Forget it when it is not needed any more: it
// cannot be zeroed.
type PrivateKey struct {
	key    crypto.PrivateKey
	public *PublicKey
}

// PublicKey is the public half.
func (k *PrivateKey) PublicKey() *PublicKey { return k.public }

// Open opens a package: ErrPackage when it does not, or when it holds another
// key or version than it says. The caller zeroes the content's Material.
func (k *PrivateKey) Open(p Package) (Content, error) {
	if len(p.JWE) > maxJWE || p.Recipient != k.public.thumbprint {
		return Content{}, fmt.Errorf("package of key %.128s version %d, for another escrow key: %w", p.Key, p.Version, ErrPackage)
	}
	payload, err := jwe.Decrypt([]byte(p.JWE), jwe.WithKey(k.public.algorithm, k.key))
	if err != nil {
		return Content{}, fmt.Errorf("package of key %.128s version %d: %w", p.Key, p.Version, ErrPackage)
	}
	defer clear(payload)
	var c Content
	err = json.Unmarshal(payload, &c)
	if err != nil || c.Format != 1 || c.Key != p.Key || c.Type != p.Type || c.Version != p.Version {
		clear(c.Material)
		return Content{}, fmt.Errorf("package of key %.128s version %d holds something else: %w", p.Key, p.Version, ErrPackage)
	}
	return c, nil
}
