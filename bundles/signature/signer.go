package signature

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// SignerOptions say how bundles are signed.
type SignerOptions struct {
	// Algorithm is required.
	Algorithm Algorithm
	// KeyID is put into the signature. OPA refuses to verify without one
	// unless it is told which key to use.
	KeyID string
	// Scope is put into the signature.
	Scope string
	// Limits bound what is signed.
	Limits Limits
}

// Signer signs bundles with one key.
type Signer struct {
	o        SignerOptions
	method   jwt.SigningMethod
	material any // what the method's Sign takes
}

// NewSigner takes a private key in PEM, or the secret of HS256, HS384 or HS512
// as the bytes of its file.
func NewSigner(key []byte, o SignerOptions) (*Signer, error) {
	o.Limits = o.Limits.withDefaults()
	if err := o.Algorithm.known(); err != nil {
		return nil, err
	}
	if len(o.KeyID) > maxKeyID {
		return nil, fmt.Errorf("the key id is longer than %d bytes", maxKeyID)
	}
	if o.Algorithm.Secret() {
		material, err := secret(o.Algorithm, key)
		if err != nil {
			return nil, err
		}
		return &Signer{o: o, method: o.Algorithm.method(), material: material}, nil
	}
	private, err := parsePrivate(key)
	if err != nil {
		return nil, err
	}
	if err := o.Algorithm.fits(private.Public()); err != nil {
		return nil, err
	}
	return &Signer{o: o, method: o.Algorithm.method(), material: private}, nil
}

// NewRemoteSigner takes a way of signing whose key is elsewhere, and what its
// Sign takes as the key. Its algorithm must be that of the options, and one with
// a public key.
func NewRemoteSigner(method jwt.SigningMethod, key any, o SignerOptions) (*Signer, error) {
	o.Limits = o.Limits.withDefaults()
	if err := o.Algorithm.known(); err != nil {
		return nil, err
	}
	if o.Algorithm.Secret() || method.Alg() != string(o.Algorithm) {
		return nil, fmt.Errorf("a key elsewhere that signs with %s cannot be used with %s", method.Alg(), o.Algorithm)
	}
	if len(o.KeyID) > maxKeyID {
		return nil, fmt.Errorf("the key id is longer than %d bytes", maxKeyID)
	}
	return &Signer{o: o, method: method, material: key}, nil
}

// Sign gives the .signatures.json of a bundle with these files. A file of this
// name among them is an error.
func (s *Signer) Sign(files Files) ([]byte, error) {
	var list []signedFile
	err := files(func(name string, content io.Reader) error {
		if path.Base(name) == Name {
			return fmt.Errorf("%s: a signature is not signed", name)
		}
		if len(list) == s.o.Limits.Files {
			return fmt.Errorf("more than %d files", s.o.Limits.Files)
		}
		hash, err := sum(name, bundle.SHA256, content, s.o.Limits)
		if err != nil {
			return unsigned(err)
		}
		list = append(list, signedFile{Name: name, Hash: hex.EncodeToString(hash), Algorithm: string(bundle.SHA256)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y signedFile) int { return strings.Compare(x.Name, y.Name) })
	claims := jwt.MapClaims{"files": list}
	token := jwt.NewWithClaims(s.method, claims)
	if s.o.KeyID != "" {
		claims["keyid"] = s.o.KeyID
		token.Header["kid"] = s.o.KeyID
	}
	if s.o.Scope != "" {
		claims["scope"] = s.o.Scope
	}
	encoded, err := token.SignedString(s.material)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return json.MarshalIndent(map[string]any{"signatures": []string{encoded}}, "", " ")
}

// unsigned says in a signer's words what the hash of a file was refused for.
func unsigned(err error) error {
	if refused, ok := errors.AsType[*Error](err); ok && refused.Reason == FileChanged {
		return fmt.Errorf("%s cannot be parsed", refused.File)
	}
	return err
}
