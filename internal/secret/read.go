package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxSize is the length of a secret in bytes.
const MaxSize = 64 << 10

// ErrUnavailable is returned when the source of a secret does not answer now.
// The secret may well be there.
var ErrUnavailable = errors.New("secret_unavailable")

// KV reads secrets from Vault's KV engine, version 2.
type KV interface {
	// Read gives the fields of the newest version of a secret. ErrUnavailable
	// when Vault does not answer; another error when there is no such secret,
	// or it may not be read. Errors hold no field's value.
	Read(ctx context.Context, mount, path string) (map[string]any, error)
}

// read gives the secret as it stands at its source now.
func (s *Store) read(ctx context.Context, r Reference) ([]byte, error) {
	switch r.source {
	case Inline:
		return []byte(r.inline), nil
	case Environment:
		value, ok := s.o.Lookup(r.name)
		if !ok {
			return nil, fmt.Errorf("the environment has no %s", r.name)
		}
		return []byte(value), nil
	case File:
		return readFile(r.name)
	case Vault:
		return s.readVault(ctx, r)
	}
	return nil, errors.New("there is no reference")
}

func (s *Store) readVault(ctx context.Context, r Reference) ([]byte, error) {
	if s.o.KV == nil {
		return nil, errors.New("no Vault is configured (keys.vault.address)")
	}
	fields, err := s.o.KV.Read(ctx, r.mount, r.name)
	if err != nil {
		return nil, err
	}
	value, ok := fields[r.field].(string)
	if !ok {
		return nil, fmt.Errorf("%s has no text in the field %s", r, r.field)
	}
	if len(value) > MaxSize {
		return nil, fmt.Errorf("%s is longer than %d bytes", r, MaxSize)
	}
	return []byte(value), nil
}

// readFile reads a file that nobody but its owner may read or write. One line
// break at its end is the editor's and does not count.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // before it is opened: a pipe would wait
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read from
	if info, err = file.Stat(); err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, want 0600 or stricter (chmod 0600 %s)", name, mode.Perm(), name)
	}
	raw, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > MaxSize:
		return nil, fmt.Errorf("%s is longer than %d bytes", name, MaxSize)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r")), nil
}
