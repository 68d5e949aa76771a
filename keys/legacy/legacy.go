// Package legacy reads encrypted fields of the framework that verdict comes
// after: Fernet, AES-256-GCM with a separate iv, and RSA with OAEP. It only
// decrypts; what it reads is encrypted anew by a key ring.
//
// These ciphertexts are bound to nothing: whoever could write them could
// exchange one for another. What they are said to be is bound from then on.
package legacy

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/fernet/fernet-go"
)

const (
	// MaxField is the length of a field as JSON in bytes.
	MaxField = 32 << 20

	keySize   = 32
	minFernet = 1 + 8 + aes.BlockSize + aes.BlockSize + sha256.Size // version, time, iv, one block, HMAC
	minRSA    = 2048
	maxRSA    = 8192
	// fernetStart is how every Fernet token begins: version 128 and the first
	// bytes of the time, in base64.
	fernetStart = "gAAAAA"
)

var (
	// ErrMalformed is returned when a field is not one of the framework's.
	ErrMalformed = errors.New("field_malformed")
	// ErrKeyUnknown is returned when there is no key with the field's key id,
	// or it is not of the field's algorithm.
	ErrKeyUnknown = errors.New("key_unknown")
	// ErrInvalid is returned when a field does not open with its key.
	ErrInvalid = errors.New("ciphertext_invalid")
)

// Algorithm is the framework's name of an algorithm.
type Algorithm string

// The framework's algorithms.
const (
	Fernet    Algorithm = "fernet"
	AES256GCM Algorithm = "aes_256_gcm"
	RSA2048   Algorithm = "rsa_2048"
	RSA4096   Algorithm = "rsa_4096"
)

// Field is an encrypted field as the framework stores it.
type Field struct {
	// Data is base64, with either alphabet; of Fernet also the token itself.
	Data      string    `json:"encrypted_data"`
	KeyID     string    `json:"key_id"`
	Algorithm Algorithm `json:"algorithm"` // in lower or upper case
	// IV is base64, of AES only.
	IV string `json:"iv,omitempty"`
	// CreatedAt is as the framework writes it; it is not looked at.
	CreatedAt string `json:"created_at,omitempty"`
}

// Parse reads a field from its JSON. Members that it does not know are passed
// over.
func Parse(text []byte) (Field, error) {
	if len(text) > MaxField {
		return Field{}, ErrMalformed
	}
	var f Field
	if err := json.Unmarshal(text, &f); err != nil || f.Data == "" || f.KeyID == "" {
		return Field{}, ErrMalformed
	}
	switch f.Algorithm = Algorithm(strings.ToLower(string(f.Algorithm))); f.Algorithm {
	case Fernet, AES256GCM, RSA2048, RSA4096:
		return f, nil
	}
	return Field{}, ErrMalformed
}

// Keys holds the framework's keys by their ids. It is made once and then only
// read.
type Keys struct {
	symmetric map[string][]byte
	rsa       map[string]*rsa.PrivateKey
}

// NewKeys returns an empty set.
func NewKeys() *Keys {
	return &Keys{symmetric: map[string][]byte{}, rsa: map[string]*rsa.PrivateKey{}}
}

// Add adds a key: 32 bytes in base64 for Fernet and AES, or an RSA key in PEM
// (PKCS #1 or PKCS #8). An error does not hold the material.
func (k *Keys) Add(id string, material []byte) error {
	material = bytes.TrimSpace(material)
	if block, _ := pem.Decode(material); block != nil {
		private, err := parseRSA(block)
		if err != nil {
			return fmt.Errorf("key %q: %w", id, err)
		}
		k.rsa[id] = private
		return nil
	}
	raw, err := decode(string(material))
	if err != nil || len(raw) != keySize {
		return fmt.Errorf("key %q: want %d bytes in base64, or an RSA key in PEM", id, keySize)
	}
	k.symmetric[id] = raw
	return nil
}

func parseRSA(block *pem.Block) (*rsa.PrivateKey, error) {
	private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("want an RSA key in PKCS #1 or PKCS #8")
		}
		var ok bool
		if private, ok = parsed.(*rsa.PrivateKey); !ok {
			return nil, errors.New("want an RSA key")
		}
	}
	if bits := private.N.BitLen(); bits < minRSA || bits > maxRSA {
		return nil, fmt.Errorf("an RSA key of %d bits, want %d to %d", bits, minRSA, maxRSA)
	}
	return private, nil
}

// Open decrypts a field: ErrKeyUnknown, ErrMalformed or ErrInvalid, and no more
// is told. The age of a Fernet token is not looked at.
func (k *Keys) Open(f Field) ([]byte, error) {
	switch f.Algorithm {
	case Fernet, AES256GCM:
		key, ok := k.symmetric[f.KeyID]
		switch {
		case !ok:
			return nil, ErrKeyUnknown
		case f.Algorithm == Fernet:
			return openFernet(key, f.Data)
		}
		return openAES(key, f)
	case RSA2048, RSA4096:
		private, ok := k.rsa[f.KeyID]
		if !ok {
			return nil, ErrKeyUnknown
		}
		data, err := decode(f.Data)
		if err != nil || len(data) != private.Size() {
			return nil, ErrMalformed
		}
		plain, err := rsa.DecryptOAEP(sha256.New(), nil, private, data, nil)
		if err != nil {
			return nil, ErrInvalid
		}
		return plain, nil
	}
	return nil, ErrMalformed
}

// openFernet takes the token as it is, or in base64 once more.
func openFernet(key []byte, data string) ([]byte, error) {
	token, err := decode(data)
	if err == nil && bytes.HasPrefix(token, []byte(fernetStart)) {
		token, err = decode(string(token))
	}
	// The library takes the lengths for granted.
	if err != nil || len(token) < minFernet || (len(token)-minFernet)%aes.BlockSize != 0 {
		return nil, ErrMalformed
	}
	canonical := base64.URLEncoding.AppendEncode(nil, token)
	plain := fernet.VerifyAndDecrypt(canonical, 0, []*fernet.Key{(*fernet.Key)(key)})
	if plain == nil {
		return nil, ErrInvalid
	}
	return plain, nil
}

func openAES(key []byte, f Field) ([]byte, error) {
	data, err := decode(f.Data)
	if err != nil {
		return nil, ErrMalformed
	}
	iv, err := decode(f.IV)
	if err != nil {
		return nil, ErrMalformed
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrKeyUnknown
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, ErrKeyUnknown
	}
	if len(iv) != aead.NonceSize() || len(data) < aead.Overhead() {
		return nil, ErrMalformed
	}
	plain, err := aead.Open(nil, iv, data, nil)
	if err != nil {
		return nil, ErrInvalid
	}
	return plain, nil
}

// decode reads base64 with either alphabet, with padding or without.
func decode(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if strings.ContainsAny(s, "-_") {
		return base64.RawURLEncoding.Strict().DecodeString(s)
	}
	return base64.RawStdEncoding.Strict().DecodeString(s)
}
