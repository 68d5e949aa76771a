package transit

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
)

// minWrappingKey is the least size of Vault's wrapping key in bits; it has 4096.
const minWrappingKey = 2048

// Import implements keys.Manager. The material travels wrapped as transit wants
// it: a fresh AES-256 key under Vault's RSA wrapping key (OAEP with SHA-256), and
// the material under the AES key (KWP, NIST SP 800-38F, section 6.3). A key that
// was imported is not rotated inside of Vault: each of its versions is imported.
func (b *Backend) Import(ctx context.Context, name string, t keys.Type, material []byte) (keys.Key, error) {
	if !plain(name) {
		return keys.Key{}, fmt.Errorf("key name %.40q: %w", name, keys.ErrUnsupported)
	}
	if !fits(t, material) {
		return keys.Key{}, fmt.Errorf("material for key %s of type %s: %w", name, t, keys.ErrInvalidMaterial)
	}
	path := "import_version"
	body := map[string]any{"hash_function": "SHA256"}
	m, err := b.read(ctx, name)
	switch {
	case errors.Is(err, keys.ErrKeyUnknown):
		path = "import"
		body["type"], body["derived"], body["allow_rotation"], body["exportable"] = t, t == keys.AES256, false, false
	case err != nil:
		return keys.Key{}, err
	case m.Type != t || !m.Imported || t == keys.AES256 && !m.Derived:
		return keys.Key{}, fmt.Errorf("key %s is of type %s (imported: %v, derived: %v): %w", name, m.Type, m.Imported, m.Derived, keys.ErrKeyMismatch)
	}
	if body["ciphertext"], err = b.wrapMaterial(ctx, material); err != nil {
		return keys.Key{}, err
	}
	err = b.call(ctx, vault.Call{Operation: "key_" + path, Method: vault.Put, Path: "keys/" + name + "/" + path, Body: body, Patience: vault.MaxPatience, Once: true}, nil)
	if vault.KindOf(err) == vault.Refused {
		return keys.Key{}, fmt.Errorf("%w: %w", keys.ErrInvalidMaterial, err)
	}
	if err != nil {
		return keys.Key{}, unexplained(err)
	}
	return b.Describe(ctx, name)
}

// fits tells whether the material is a key of the type.
func fits(t keys.Type, material []byte) bool {
	if t == keys.AES256 || t == keys.HMAC {
		return len(material) == keys.DataKeySize
	}
	if len(material) > subtle.MaxWrapSize {
		return false
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return false
	}
	switch k := parsed.(type) {
	case ed25519.PrivateKey:
		return t == keys.Ed25519
	case *ecdsa.PrivateKey:
		return t == keys.ECDSAP256 && k.Curve == elliptic.P256()
	case *rsa.PrivateKey:
		return t == map[int]keys.Type{2048: keys.RSA2048, 3072: keys.RSA3072, 4096: keys.RSA4096}[k.N.BitLen()]
	}
	return false
}

// wrapMaterial wraps key material to Vault's wrapping key.
func (b *Backend) wrapMaterial(ctx context.Context, material []byte) ([]byte, error) {
	public, err := b.wrappingKey(ctx)
	if err != nil {
		return nil, err
	}
	ephemeral := make([]byte, 32)
	defer clear(ephemeral)
	if _, err := io.ReadFull(b.rand, ephemeral); err != nil {
		return nil, fmt.Errorf("make a key to wrap the material with: %w", err)
	}
	kwp, err := subtle.NewKWP(ephemeral)
	if err != nil {
		return nil, fmt.Errorf("wrap key material: %w", err)
	}
	wrapped, err := kwp.Wrap(material)
	if err != nil {
		return nil, fmt.Errorf("wrap key material: %w", err)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, ephemeral, nil)
	if err != nil {
		return nil, fmt.Errorf("wrap key material: %w", err)
	}
	return append(sealed, wrapped...), nil
}

// wrappingKey asks for the wrapping key, which Vault makes when it is first asked.
func (b *Backend) wrappingKey(ctx context.Context) (*rsa.PublicKey, error) {
	var out struct {
		Public string `json:"public_key"`
	}
	if err := b.call(ctx, vault.Call{Operation: "wrapping_key", Path: "wrapping_key", Patience: vault.MaxPatience}, &out); err != nil {
		return nil, unexplained(err)
	}
	if block, _ := pem.Decode([]byte(out.Public)); block != nil {
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if public, ok := parsed.(*rsa.PublicKey); err == nil && ok && public.N.BitLen() >= minWrappingKey {
			return public, nil
		}
	}
	return nil, &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: wrapping_key: %w", errAnswer)}
}
