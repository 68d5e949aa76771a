package signature

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Bounds of a key's configuration.
const (
	maxKeyFile = 64 << 10 // bytes
	maxKeyID   = 256      // bytes
)

// KeyConfig is a key that bundles may be signed with, as an operator writes it.
type KeyConfig struct {
	// ID is what a signature names the key by. Required, and unique.
	ID string
	// Algorithm is the only one that the key is used with.
	Algorithm Algorithm
	// File holds the public key or a certificate, PEM; for HS256, HS384 and
	// HS512 the secret, whose every byte counts, in a file that nobody but its
	// owner may read.
	File string
	// Secret is the secret of HS256, HS384 or HS512 in place of File.
	Secret []byte
	// Names are the bundles that the key may sign. None: every bundle.
	Names []string
	// Scope is what the signature's scope must be.
	Scope string
	// NotBefore and NotAfter bound when bundles are taken by this key. Zero:
	// unbounded.
	NotBefore, NotAfter time.Time
}

// key is a KeyConfig with its key read.
type key struct {
	KeyConfig
	material any // what golang-jwt's Verify takes
}

func (k *key) allows(bundle string) bool {
	return len(k.Names) == 0 || slices.Contains(k.Names, bundle)
}

// outside says in words why the key is not valid at a time.
func (k *key) outside(now time.Time) string {
	switch {
	case !k.NotBefore.IsZero() && now.Before(k.NotBefore):
		return "is not valid before " + k.NotBefore.UTC().Format(time.RFC3339)
	case !k.NotAfter.IsZero() && !now.Before(k.NotAfter):
		return "is not valid since " + k.NotAfter.UTC().Format(time.RFC3339)
	}
	return ""
}

// load reads the key that c describes.
func (c KeyConfig) load() (*key, error) {
	if c.ID == "" || len(c.ID) > maxKeyID {
		return nil, fmt.Errorf("the id is empty or longer than %d bytes", maxKeyID)
	}
	if err := c.Algorithm.known(); err != nil {
		return nil, err
	}
	if !c.NotBefore.IsZero() && !c.NotAfter.IsZero() && !c.NotBefore.Before(c.NotAfter) {
		return nil, errors.New("it ends before it begins")
	}
	raw, from, err := c.Secret, "the secret", error(nil)
	switch {
	case c.Secret == nil:
		if raw, err = ReadKeyFile(c.File, c.Algorithm.Secret()); err != nil {
			return nil, err
		}
		from = c.File
	case !c.Algorithm.Secret() || c.File != "":
		return nil, fmt.Errorf("it has a secret, which %s with a file does not take", c.Algorithm)
	}
	material, err := verificationKey(c.Algorithm, raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	c.Secret = nil // it is in the material
	c.Names = slices.Clone(c.Names)
	return &key{KeyConfig: c, material: material}, nil
}

// ReadKeyFile reads a key file within its bound. One that is private must be
// readable by nobody but its owner.
func ReadKeyFile(name string, private bool) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", name)
	} else if private && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s may be read or written by others (mode %04o); make it 0600", name, mode.Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if len(raw) > maxKeyFile {
		return nil, fmt.Errorf("key file %s is larger than %d bytes", name, maxKeyFile)
	}
	return raw, nil
}

func verificationKey(a Algorithm, raw []byte) (any, error) {
	if a.Secret() {
		return secret(a, raw)
	}
	public, err := parsePublic(raw)
	if err != nil {
		return nil, err
	}
	return public, a.fits(public)
}

// secret is the key of an HMAC: the bytes of the file as they are, as OPA takes
// them. RFC 7518, section 3.2 rules the least length; white space at the ends
// is not counted, since it comes from editors. A public key is refused: in
// place of the secret would let everybody sign.
func secret(a Algorithm, raw []byte) ([]byte, error) {
	_, err := x509.ParsePKIXPublicKey(raw)
	if err == nil || bytes.Contains(raw, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("it is a key or a certificate, and %s needs a secret that only signer and verifier know", a)
	}
	least := a.SecretLength()
	if n := len(bytes.TrimSpace(raw)); n < least {
		return nil, fmt.Errorf("a secret of %d bytes; %s needs at least %d", n, a, least)
	}
	return raw, nil
}

// block is the one PEM block of a file. More than one would leave open which
// is meant.
func block(raw []byte) (*pem.Block, error) {
	b, rest := pem.Decode(raw)
	if b == nil {
		return nil, errors.New("it holds no PEM block")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errors.New("it holds more than one PEM block")
	}
	return b, nil
}

func parsePublic(raw []byte) (any, error) {
	b, err := block(raw)
	if err != nil {
		return nil, err
	}
	switch b.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(b.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(b.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return nil, errors.New("it holds a private key, which verifying does not need; write the public key")
	}
	return nil, fmt.Errorf("it holds a PEM block of type %q; write a public key or a certificate", b.Type)
}

func parsePrivate(raw []byte) (crypto.Signer, error) {
	b, err := block(withoutParameters(raw))
	if err != nil {
		return nil, err
	}
	var found any
	switch b.Type {
	case "PRIVATE KEY":
		found, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		found, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		found, err = x509.ParseECPrivateKey(b.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the private key is encrypted; decrypt it before signing")
	default:
		return nil, fmt.Errorf("it holds a PEM block of type %q; write a private key", b.Type)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := found.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot be used to sign bundles", found)
	}
	return signer, nil
}

// withoutParameters drops the curve's parameters, which openssl ecparam writes
// before the key.
func withoutParameters(raw []byte) []byte {
	if b, rest := pem.Decode(raw); b != nil && b.Type == "EC PARAMETERS" {
		return rest
	}
	return raw
}
