package keys

import (
	"context"
	"crypto"
	"time"
)

// Limits of every call to a Backend. The ring keeps to them; a backend may
// refuse what goes beyond them with ErrUnsupported.
const (
	// MaxBatch is the number of items in one call.
	MaxBatch = 1000
	// MaxName is the length of a key's name in bytes.
	MaxName = 128
	// MaxContext is the length of a wrapping context in bytes.
	MaxContext = 4 << 10
	// MaxMessage is the length of all messages of one call to Sign, MAC or
	// VerifyMAC in bytes.
	MaxMessage = 16 << 20
	// MaxWrapped is the length of a wrapped data key in bytes.
	MaxWrapped = 2 << 10
	// DataKeySize is the length of a data key in bytes.
	DataKeySize = 32
)

// Type is what a key is and can do; the words are those of Vault's transit
// engine.
type Type string

// The types of keys.
const (
	// AES256 wraps data keys. Each wrap is bound to a context, which is not
	// empty; in transit the key is `derived`.
	AES256 Type = "aes256-gcm96"
	// RSA2048, RSA3072 and RSA4096 wrap data keys (OAEP with SHA-256, without
	// a context) and sign (RS256, PS256).
	RSA2048 Type = "rsa-2048"
	RSA3072 Type = "rsa-3072"
	RSA4096 Type = "rsa-4096"
	// Ed25519 signs (EdDSA).
	Ed25519 Type = "ed25519"
	// ECDSAP256 signs (ES256).
	ECDSAP256 Type = "ecdsa-p256"
	// HMAC makes and checks HMAC-SHA256 with a key of 32 bytes.
	HMAC Type = "hmac"
)

// Algorithm is a signature algorithm by its name in RFC 7518, section 3.1, and
// RFC 8037, section 3.1. The signature is in the form of JWS: r and s of 32
// bytes each for ES256, never ASN.1. A message is hashed by the backend.
type Algorithm string

// The signature algorithms.
const (
	EdDSA Algorithm = "EdDSA"
	ES256 Algorithm = "ES256"
	RS256 Algorithm = "RS256"
	// PS256 has a salt as long as the hash (RFC 7518, section 3.5).
	PS256 Algorithm = "PS256"
)

// Key describes a key without its secret material.
type Key struct {
	Name string
	Type Type
	// Latest is the newest version, from 1 on.
	Latest uint32
	// MinDecrypt is the oldest version that may unwrap, and whose signatures
	// and MACs may be checked. At least 1.
	MinDecrypt uint32
	// MinEncrypt is the oldest version that may wrap, sign and make MACs. At
	// least MinDecrypt.
	MinEncrypt uint32
	// Imported says that the material came from Import; then rotation is by
	// Import too where the backend asks for it (ErrUnsupported from Rotate).
	Imported bool
	// Versions from MinDecrypt, or from an older one that the backend still
	// shows, to Latest, ascending.
	Versions []Version
}

// Version is one version of a key.
type Version struct {
	Number uint32
	// Created is when the version was made; zero where the backend does not
	// tell, as Vault does not of HMAC keys.
	Created time.Time
	// Public is an ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey; nil
	// for a symmetric key.
	Public crypto.PublicKey
}

// Minimums are the versions that a key's use begins at; 0 leaves one as it is.
type Minimums struct {
	// Decrypt: see Key.MinDecrypt.
	Decrypt uint32
	// Encrypt: see Key.MinEncrypt.
	Encrypt uint32
}

// WrappedKey is a data key under a version of a key, as stored in ciphertexts.
type WrappedKey struct {
	Version uint32
	// Blob is in the backend's own form, in raw bytes: no prefix that names
	// the version, no base64.
	Blob []byte
}

// DataKey is a new data key.
type DataKey struct {
	// Plaintext has DataKeySize random bytes and belongs to the caller, who
	// zeroes it.
	Plaintext []byte
	Wrapped   WrappedKey
	Err       error
}

// Sealed is a wrapped key with the context that it was wrapped with; the
// context is nil for an RSA key.
type Sealed struct {
	WrappedKey
	Context []byte
}

// Opened is an unwrapped data key.
type Opened struct {
	// Plaintext belongs to the caller, who zeroes it.
	Plaintext []byte
	Err       error
}

// Rewrapped is a key that was wrapped anew.
type Rewrapped struct {
	WrappedKey
	Err error
}

// Tag is a signature or a MAC and the version that made it.
type Tag struct {
	Version uint32
	Bytes   []byte
	Err     error
}

// MACCheck is a message and the MAC that it should have.
type MACCheck struct {
	Message []byte
	Tag     Tag // its Err is not looked at
}

// Backend holds keys and never gives them out. A ring has one: Vault's transit
// engine, or keysets sealed in the data folder. Package keystest holds the
// suite that each must pass.
//
// All methods may be called by several goroutines at once, end when ctx does,
// and may return an *UnavailableError and, for a key that does not exist,
// ErrKeyUnknown. A method that takes several items gives one result for each,
// in their order, and the result's Err is that item's alone: one bad item
// leaves the others good. When the method itself returns an error there are no
// results. No error holds key material, plaintext, a token or a message.
type Backend interface {
	Manager
	Wrapper
	Signer

	// State tells how the backend does by what it saw last; it asks nobody.
	State() State
}

// Manager is the part of a Backend that changes and describes keys.
type Manager interface {
	// Ensure gives the key of that name and creates it when it does not exist;
	// created tells which. ErrKeyMismatch when the key is of another type, an
	// *UnavailableError with ReasonDenied when the key is missing and may not
	// be created. What it returned is durable.
	Ensure(ctx context.Context, name string, t Type) (key Key, created bool, err error)

	// Describe gives the key as it is now.
	Describe(ctx context.Context, name string) (Key, error)

	// List gives the names of all keys that begin with the prefix, sorted.
	List(ctx context.Context, prefix string) ([]string, error)

	// Rotate adds a version, which is the latest from then on, and leaves the
	// minimums. The new version is durable when it returns.
	Rotate(ctx context.Context, name string) (Key, error)

	// SetMinimums raises or lowers the minimums, both at once.
	// ErrVersionDisallowed when one is above Latest, below the oldest version
	// that is still held, or when Decrypt would be above Encrypt.
	SetMinimums(ctx context.Context, name string, m Minimums) (Key, error)

	// Trim destroys the versions below MinDecrypt for ever.
	Trim(ctx context.Context, name string) (Key, error)

	// Import adds the material as the next version of the key: version 1 of a
	// key that does not exist. Material is 32 bytes for AES256 and HMAC and
	// PKCS #8 (DER) otherwise; it is not kept and not changed. ErrKeyMismatch
	// when the key exists with another type, or was not imported and the
	// backend does not mix the two; ErrInvalidMaterial when the material does
	// not fit the type.
	Import(ctx context.Context, name string, t Type, material []byte) (Key, error)
}

// Wrapper is the part of a Backend that makes and opens data keys. The key is
// of type AES256 or RSA; ErrUnsupported for another.
type Wrapper interface {
	// DataKeys makes one data key for each context and wraps it with the
	// latest version. The contexts are nil for an RSA key.
	DataKeys(ctx context.Context, name string, contexts [][]byte) ([]DataKey, error)

	// Unwrap opens wrapped keys. An item's error is ErrInvalid when the blob
	// or the context is not what was wrapped, whatever is wrong with it;
	// ErrVersionDisallowed when its version is below MinDecrypt or above
	// Latest, or 0.
	Unwrap(ctx context.Context, name string, items []Sealed) ([]Opened, error)

	// Rewrap wraps keys anew with the latest version, same context; the data
	// keys stay the same and stay inside the backend where it can do that. The
	// errors of items are those of Unwrap.
	Rewrap(ctx context.Context, name string, items []Sealed) ([]Rewrapped, error)
}

// Signer is the part of a Backend that signs and makes MACs. Signatures are
// checked by the ring with the public keys of Describe.
type Signer interface {
	// Sign signs each message with the version, 0 for the latest, and tells
	// which version it was. ErrVersionDisallowed, for all, when the version is
	// below MinEncrypt or above Latest; ErrUnsupported when the key's type
	// does not have the algorithm.
	Sign(ctx context.Context, name string, version uint32, alg Algorithm, messages [][]byte) ([]Tag, error)

	// MAC makes the HMAC-SHA256 of each message with the version, 0 for the
	// latest. Errors as in Sign.
	MAC(ctx context.Context, name string, version uint32, messages [][]byte) ([]Tag, error)

	// VerifyMAC checks MACs in constant time; a result is nil, ErrInvalid, or
	// ErrVersionDisallowed when the tag's version is below MinDecrypt or above
	// Latest, or 0.
	VerifyMAC(ctx context.Context, name string, items []MACCheck) ([]error, error)
}

// State is how a backend does.
type State struct {
	// Reason is empty when all is well, and else why the backend cannot be
	// used.
	Reason Reason
	// Detail is one line for an operator, without secrets.
	Detail string
	// Since is when it began to be so.
	Since time.Time
}
