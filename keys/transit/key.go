package transit

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
)

// material is a key as Vault tells of it.
type material struct {
	Name         string                     `json:"name"`
	Type         keys.Type                  `json:"type"`
	Derived      bool                       `json:"derived"`
	Imported     bool                       `json:"imported_key"`
	Rotates      bool                       `json:"imported_key_allow_rotation"` // of an imported key
	SoftDeleted  bool                       `json:"soft_deleted"`                // OpenBao
	Latest       uint32                     `json:"latest_version"`
	MinAvailable uint32                     `json:"min_available_version"`
	MinDecrypt   uint32                     `json:"min_decryption_version"`
	MinEncrypt   uint32                     `json:"min_encryption_version"` // 0: never set
	Keys         map[string]json.RawMessage `json:"keys"`                   // by version; not of an HMAC key
}

// read asks Vault about a key.
func (b *Backend) read(ctx context.Context, name string) (*material, error) {
	if !plain(name) {
		return nil, fmt.Errorf("key name %.40q: %w", name, keys.ErrKeyUnknown)
	}
	var m material
	err := b.call(ctx, vault.Call{Operation: "key_read", Path: "keys/" + name}, &m)
	if vault.KindOf(err) == vault.NotFound || err == nil && m.SoftDeleted {
		b.forget(name)
		return nil, fmt.Errorf("key %s: %w", name, keys.ErrKeyUnknown)
	}
	if err != nil {
		return nil, unexplained(err)
	}
	if m.Latest == 0 || m.Type == "" {
		return nil, &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: key_read: %s has no version or no type", name)}
	}
	b.remember(name, m.Type)
	return &m, nil
}

// unexplained makes a refusal that nobody can explain an error of Vault's.
func unexplained(err error) error {
	if kind := vault.KindOf(err); kind == vault.Refused || kind == vault.NotFound {
		return &keys.UnavailableError{Reason: keys.ReasonFailed, Err: err}
	}
	return err
}

func (b *Backend) remember(name string, t keys.Type) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.types[name] = t
}

func (b *Backend) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.types, name)
}

// typeOf gives the type of a key, asking Vault once.
func (b *Backend) typeOf(ctx context.Context, name string) (keys.Type, error) {
	b.mu.Lock()
	t, ok := b.types[name]
	b.mu.Unlock()
	if ok {
		return t, nil
	}
	m, err := b.read(ctx, name)
	if err != nil {
		return "", err
	}
	return m.Type, nil
}

// minEncrypt is the oldest version that may be used to wrap and sign.
func (m *material) minEncrypt() uint32 { return max(m.MinEncrypt, m.MinDecrypt, 1) }

// decrypts tells whether a version may unwrap.
func (m *material) decrypts(version uint32) bool {
	return version >= max(m.MinDecrypt, 1) && version <= m.Latest
}

// encrypts tells whether a version may wrap and sign; 0 is the latest.
func (m *material) encrypts(version uint32) bool {
	return version == 0 || version >= m.minEncrypt() && version <= m.Latest
}

// key is the key as package keys has it.
func (m *material) key(name string) (keys.Key, error) {
	k := keys.Key{
		Name: name, Type: m.Type, Latest: m.Latest, Imported: m.Imported,
		MinDecrypt: max(m.MinDecrypt, 1), MinEncrypt: m.minEncrypt(),
	}
	for text, raw := range m.Keys {
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return k, malformed(name, err)
		}
		v, err := parseVersion(m.Type, raw)
		if err != nil {
			return k, malformed(name, err)
		}
		v.Number = uint32(number)
		k.Versions = append(k.Versions, v)
	}
	if len(m.Keys) == 0 { // Vault tells no dates of an HMAC key
		for n := k.MinDecrypt; n <= k.Latest; n++ {
			k.Versions = append(k.Versions, keys.Version{Number: n})
		}
	}
	slices.SortFunc(k.Versions, func(a, b keys.Version) int { return int(a.Number) - int(b.Number) })
	return k, nil
}

func malformed(name string, err error) error {
	return &keys.UnavailableError{Reason: keys.ReasonFailed, Err: fmt.Errorf("vault: key_read: %s: %w", name, err)}
}

// parseVersion reads one version: a time in seconds for a symmetric key, an
// object otherwise.
func parseVersion(t keys.Type, raw json.RawMessage) (keys.Version, error) {
	var seconds int64
	if err := json.Unmarshal(raw, &seconds); err == nil {
		return keys.Version{Created: time.Unix(seconds, 0).UTC()}, nil
	}
	var object struct {
		Created time.Time `json:"creation_time"`
		Public  string    `json:"public_key"`
	}
	if err := json.Unmarshal(raw, &object); err != nil {
		return keys.Version{}, errors.New("a version is neither a time nor an object")
	}
	v := keys.Version{Created: object.Created.UTC()}
	var err error
	v.Public, err = parsePublic(t, object.Public)
	return v, err
}

// parsePublic reads a public key: base64 for Ed25519, PEM otherwise.
func parsePublic(t keys.Type, text string) (crypto.PublicKey, error) {
	if t == keys.Ed25519 {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return nil, errors.New("the public key is not one of Ed25519")
		}
		return ed25519.PublicKey(raw), nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the public key is not PEM")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// Describe implements keys.Manager.
func (b *Backend) Describe(ctx context.Context, name string) (keys.Key, error) {
	m, err := b.read(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	return m.key(name)
}

// Ensure implements keys.Manager.
func (b *Backend) Ensure(ctx context.Context, name string, t keys.Type) (key keys.Key, created bool, err error) {
	m, err := b.read(ctx, name)
	if errors.Is(err, keys.ErrKeyUnknown) && plain(name) {
		body := map[string]any{"type": t, "derived": t == keys.AES256, "exportable": false, "allow_plaintext_backup": false}
		if t == keys.HMAC {
			body["key_size"] = keys.DataKeySize
		}
		if err := b.call(ctx, vault.Call{Operation: "key_create", Method: vault.Put, Path: "keys/" + name, Body: body, Patience: vault.MaxPatience}, nil); err != nil {
			return key, false, unexplained(err)
		}
		created = true
		m, err = b.read(ctx, name)
	}
	if err != nil {
		return key, false, err
	}
	if m.Type != t || t == keys.AES256 && !m.Derived {
		return key, false, fmt.Errorf("key %s is of type %s (derived: %v), not %s: %w", name, m.Type, m.Derived, t, keys.ErrKeyMismatch)
	}
	key, err = m.key(name)
	return key, created, err
}

// List implements keys.Manager.
func (b *Backend) List(ctx context.Context, prefix string) ([]string, error) {
	var out struct {
		Keys []string `json:"keys"`
	}
	err := b.call(ctx, vault.Call{Operation: "key_list", Method: vault.List, Path: "keys"}, &out)
	if err != nil && vault.KindOf(err) != vault.NotFound { // which is how Vault says that there are none
		return nil, unexplained(err)
	}
	names := slices.DeleteFunc(out.Keys, func(name string) bool { return !strings.HasPrefix(name, prefix) })
	slices.Sort(names)
	return names, nil
}

// Rotate implements keys.Manager.
func (b *Backend) Rotate(ctx context.Context, name string) (keys.Key, error) {
	m, err := b.read(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	if m.Imported && !m.Rotates {
		return keys.Key{}, fmt.Errorf("key %s was imported, and its next version is too: %w", name, keys.ErrUnsupported)
	}
	err = b.call(ctx, vault.Call{Operation: "key_rotate", Method: vault.Put, Path: "keys/" + name + "/rotate", Patience: vault.MaxPatience, Once: true}, nil)
	if err != nil {
		return keys.Key{}, unexplained(err)
	}
	return b.Describe(ctx, name)
}

// SetMinimums implements keys.Manager.
func (b *Backend) SetMinimums(ctx context.Context, name string, wanted keys.Minimums) (keys.Key, error) {
	m, err := b.read(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	decrypt, encrypt := max(m.MinDecrypt, 1), m.minEncrypt()
	if wanted.Decrypt != 0 {
		decrypt = wanted.Decrypt
	}
	if wanted.Encrypt != 0 {
		encrypt = wanted.Encrypt
	}
	if decrypt > encrypt || encrypt > m.Latest || decrypt < m.MinAvailable {
		return keys.Key{}, fmt.Errorf("versions of key %s from %d to decrypt and %d to encrypt, of %d to %d: %w",
			name, decrypt, encrypt, max(m.MinAvailable, 1), m.Latest, keys.ErrVersionDisallowed)
	}
	body := map[string]any{"min_decryption_version": decrypt, "min_encryption_version": encrypt}
	if err := b.call(ctx, vault.Call{Operation: "key_config", Method: vault.Put, Path: "keys/" + name + "/config", Body: body}, nil); err != nil {
		return keys.Key{}, unexplained(err)
	}
	return b.Describe(ctx, name)
}

// Trim implements keys.Manager.
func (b *Backend) Trim(ctx context.Context, name string) (keys.Key, error) {
	m, err := b.read(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	if m.MinDecrypt > max(m.MinAvailable, 1) {
		if m.MinEncrypt == 0 { // Vault trims no key that has none
			if _, err := b.SetMinimums(ctx, name, keys.Minimums{Encrypt: m.minEncrypt()}); err != nil {
				return keys.Key{}, err
			}
		}
		body := map[string]any{"min_available_version": m.MinDecrypt}
		if err := b.call(ctx, vault.Call{Operation: "key_trim", Method: vault.Put, Path: "keys/" + name + "/trim", Body: body}, nil); err != nil {
			return keys.Key{}, unexplained(err)
		}
	}
	return b.Describe(ctx, name)
}
