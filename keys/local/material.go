package local

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/key"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	tinkhmac "github.com/tink-crypto/tink-go/v2/mac/hmac"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/signature"
	tinkecdsa "github.com/tink-crypto/tink-go/v2/signature/ecdsa"
	tinked25519 "github.com/tink-crypto/tink-go/v2/signature/ed25519"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/verdict-pdp/verdict/keys"
)

const saltLength = 12 // of XAES-256-GCM: with the nonce of 12 bytes, 192 bits at random

// material is one version of a key, open.
type material struct {
	// stored is a Tink keyset of one key in its binary form, or for RSA, which
	// Tink has no encryption for, PKCS #8.
	stored []byte
	public crypto.PublicKey

	wrap   tink.AEAD
	rsa    *rsa.PrivateKey
	signer tink.Signer
	mac    tink.MAC
}

// generate makes new material.
func generate(t keys.Type) (*material, error) {
	if bits := rsaBits(t); bits > 0 {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, fmt.Errorf("generate %s key: %w", t, err)
		}
		stored, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, fmt.Errorf("generate %s key: %w", t, err)
		}
		return openMaterial(t, stored)
	}
	parameters, err := parametersOf(t)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManager()
	id, err := m.AddNewKeyFromParameters(parameters)
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		return nil, fmt.Errorf("generate %s key: %w", t, err)
	}
	return fromManager(t, m)
}

// importMaterial takes material from outside: 32 bytes, or PKCS #8.
func importMaterial(t keys.Type, outside []byte) (*material, error) {
	if rsaBits(t) > 0 {
		return openMaterial(t, bytes.Clone(outside))
	}
	k, err := tinkKey(t, outside)
	if err != nil {
		return nil, err
	}
	m, err := managerOf(k)
	if err != nil {
		return nil, fmt.Errorf("import %s key: %w", t, err)
	}
	return fromManager(t, m)
}

// openMaterial makes material usable.
func openMaterial(t keys.Type, stored []byte) (*material, error) {
	m := &material{stored: stored}
	if bits := rsaBits(t); bits > 0 {
		parsed, err := x509.ParsePKCS8PrivateKey(stored)
		private, ok := parsed.(*rsa.PrivateKey)
		if err != nil || !ok || private.N.BitLen() != bits {
			return nil, fmt.Errorf("%s key: want an RSA key of %d bits in PKCS #8: %w", t, bits, keys.ErrInvalidMaterial)
		}
		m.rsa, m.public = private, &private.PublicKey
		return m, nil
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(stored)))
	if err != nil {
		return nil, fmt.Errorf("%s keyset: %w", t, err)
	}
	switch t {
	case keys.AES256:
		m.wrap, err = aead.New(handle)
	case keys.HMAC:
		m.mac, err = mac.New(handle)
	default:
		if m.signer, err = signature.NewSigner(handle); err == nil {
			m.public, err = publicOf(handle)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s keyset: %w", t, err)
	}
	return m, nil
}

// fromManager takes the keyset that a manager holds.
func fromManager(t keys.Type, m *keyset.Manager) (*material, error) {
	handle, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("%s keyset: %w", t, err)
	}
	var stored bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&stored)); err != nil {
		return nil, fmt.Errorf("%s keyset: %w", t, err)
	}
	return openMaterial(t, stored.Bytes())
}

func managerOf(k key.Key) (*keyset.Manager, error) {
	m := keyset.NewManager()
	id, err := m.AddKey(k)
	if err != nil {
		return nil, err
	}
	return m, m.SetPrimary(id)
}

func rsaBits(t keys.Type) int {
	switch t {
	case keys.RSA2048:
		return 2048
	case keys.RSA3072:
		return 3072
	case keys.RSA4096:
		return 4096
	}
	return 0
}

// parametersOf gives Tink's parameters of a type. None has an output prefix:
// ciphertexts and signatures name their version themselves.
func parametersOf(t keys.Type) (key.Parameters, error) {
	switch t {
	case keys.AES256:
		return xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, saltLength)
	case keys.HMAC:
		return tinkhmac.NewParameters(tinkhmac.ParametersOpts{
			KeySizeInBytes: 32, TagSizeInBytes: sha256.Size, HashType: tinkhmac.SHA256, Variant: tinkhmac.VariantNoPrefix,
		})
	case keys.Ed25519:
		p, err := tinked25519.NewParameters(tinked25519.VariantNoPrefix)
		return &p, err
	case keys.ECDSAP256:
		return tinkecdsa.NewParameters(tinkecdsa.NistP256, tinkecdsa.SHA256, tinkecdsa.IEEEP1363, tinkecdsa.VariantNoPrefix)
	}
	return nil, fmt.Errorf("keys of type %q: %w", t, keys.ErrUnsupported)
}

// tinkKey makes a Tink key of material from outside.
func tinkKey(t keys.Type, outside []byte) (key.Key, error) {
	parameters, err := parametersOf(t)
	if err != nil {
		return nil, err
	}
	wrong := fmt.Errorf("%s key of %d bytes: %w", t, len(outside), keys.ErrInvalidMaterial)
	switch p := parameters.(type) {
	case *xaesgcm.Parameters:
		if len(outside) != 32 {
			return nil, wrong
		}
		return xaesgcm.NewKey(secret(outside), 0, p)
	case *tinkhmac.Parameters:
		if len(outside) != 32 {
			return nil, wrong
		}
		return tinkhmac.NewKey(secret(outside), p, 0)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(outside)
	if err != nil {
		return nil, wrong
	}
	switch p := parameters.(type) {
	case *tinked25519.Parameters:
		if private, ok := parsed.(ed25519.PrivateKey); ok {
			return tinked25519.NewPrivateKey(secret(private.Seed()), 0, *p)
		}
	case *tinkecdsa.Parameters:
		if private, ok := parsed.(*ecdsa.PrivateKey); ok && private.Curve == elliptic.P256() {
			scalar, err := private.Bytes()
			if err != nil {
				return nil, wrong
			}
			return tinkecdsa.NewPrivateKey(secret(scalar), 0, p)
		}
	}
	return nil, wrong
}

func secret(b []byte) secretdata.Bytes {
	return secretdata.NewBytesFromData(b, insecuresecretdataaccess.Token{})
}

// publicOf gives the public key of a keyset that signs.
func publicOf(h *keyset.Handle) (crypto.PublicKey, error) {
	public, err := h.Public()
	if err != nil {
		return nil, err
	}
	entry, err := public.Primary()
	if err != nil {
		return nil, err
	}
	switch k := entry.Key().(type) {
	case *tinked25519.PublicKey:
		return ed25519.PublicKey(k.KeyBytes()), nil
	case *tinkecdsa.PublicKey:
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), k.PublicPoint())
	}
	return nil, fmt.Errorf("public key %T: %w", entry.Key(), keys.ErrUnsupported)
}

// xaesHandle makes a keyset of one XAES-256-GCM key.
func xaesHandle(b []byte) (*keyset.Handle, error) {
	k, err := tinkKey(keys.AES256, b)
	if err != nil {
		return nil, err
	}
	m, err := managerOf(k)
	if err != nil {
		return nil, err
	}
	return m.Handle()
}

func newAEAD(h *keyset.Handle) (tink.AEAD, error) { return aead.New(h) }
