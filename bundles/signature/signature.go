// Package signature verifies and makes the signatures of policy bundles, in
// OPA's format: a file .signatures.json at the root of the bundle with exactly
// one JWT, whose payload lists every other file with its hash.
//
//	{"signatures": ["HEADER.PAYLOAD.SIGNATURE"]}
//
//	header   {"alg": "ES256", "kid": "ci-2026"}
//	payload  {"files": [{"name": "app/policy.rego", "hash": HEX, "algorithm": "SHA-256"}, ...],
//	          "keyid": "ci-2026", "scope": ""}
//
// Which algorithm counts is said by the key that the operator configured, never
// by the token. Nothing of a bundle is believed, and no file of it is parsed,
// before the signature over the list of files is verified.
package signature

import (
	"fmt"
	"io"
)

// Name is the file that holds a bundle's signature. It is not signed itself.
const Name = ".signatures.json"

// Reason says in one word why a bundle is not believed. The words are part of
// the API: pipelines branch on them.
type Reason string

// The reasons.
const (
	// NoSignature: the bundle has no .signatures.json.
	NoSignature Reason = "no_signature"
	// Format: the signature file, the JWT or a signed file is not what the
	// format allows, or exceeds a bound.
	Format Reason = "format"
	// KeyUnknown: no key is configured that has the id which the signature
	// names, or none at all.
	KeyUnknown Reason = "key_unknown"
	// KeyNotForBundle: the key may not sign bundles of this name.
	KeyNotForBundle Reason = "key_not_for_bundle"
	// KeyOutsideWindow: the key is not valid yet, or no more.
	KeyOutsideWindow Reason = "key_outside_window"
	// AlgorithmNotAllowed: the token announces another algorithm than the key
	// is configured for, or a file's hash is of a broken algorithm.
	AlgorithmNotAllowed Reason = "algorithm_not_allowed"
	// SignatureInvalid: the key did not make this signature.
	SignatureInvalid Reason = "signature_invalid"
	// Expired: the token has a time of its own (exp, nbf) that excludes now.
	Expired Reason = "expired"
	// ScopeMismatch: the signed scope is not the one that the key is for.
	ScopeMismatch Reason = "scope_mismatch"
	// FileMissing: a signed file is not in the bundle.
	FileMissing Reason = "file_missing"
	// FileExtra: a file of the bundle is not signed.
	FileExtra Reason = "file_extra"
	// FileChanged: a file is not the one that was signed.
	FileChanged Reason = "file_changed"
)

// Error is why a bundle is not believed. Errors of another type mean that it
// could not be looked at.
type Error struct {
	Reason Reason
	KeyID  string // the key that the signature names, or that was tried; may be empty
	File   string // the file that it is about; may be empty
	Detail string
	Err    error // what a library said; may be nil
}

// Error gives the reason and what it is about.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }

// Unwrap gives the underlying error.
func (e *Error) Unwrap() error { return e.Err }

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) key(id string) *Error    { e.KeyID = id; return e }
func (e *Error) file(name string) *Error { e.File = name; return e }

// Files calls fn for every file of a bundle but .signatures.json, in any order,
// and ends with its error. Names are relative to the bundle's root, clean,
// slash-separated and without a slash at the start. What fn does not read of
// the content is skipped.
type Files func(fn func(name string, content io.Reader) error) error

// Limits bound what is read of a bundle that nobody believes yet. A zero field
// means its default.
type Limits struct {
	Signatures int64 // bytes of .signatures.json; default 16 MiB
	Files      int   // files in the signed list; default 20,000
	Document   int64 // bytes of a JSON or YAML file, which is parsed to be hashed; default 512 MiB
	Values     int   // values in a JSON file; default 20 million
	YAML       int64 // bytes of a YAML file, which takes more memory to parse; default 16 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Signatures == 0 {
		l.Signatures = 16 << 20
	}
	if l.Files == 0 {
		l.Files = 20_000
	}
	if l.Document == 0 {
		l.Document = 512 << 20
	}
	if l.Values == 0 {
		l.Values = 20_000_000
	}
	if l.YAML == 0 {
		l.YAML = 16 << 20
	}
	return l
}
