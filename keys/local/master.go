package local

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/tink"
	"golang.org/x/crypto/argon2"

	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/keys"
)

// Limits of master keys.
const (
	// Former is the number of former master keys that still open keysets.
	Former = 3
	// MinPassphrase is the length of a passphrase in bytes.
	MinPassphrase = 16

	masterSize   = 32
	maxMaster    = 16 << 10 // of the file or variable, in bytes
	saltFile     = "passphrase.salt"
	saltSize     = 16
	argonTime    = 3 // RFC 9106, section 4: the second recommended option
	argonMemory  = 64 << 10
	argonThreads = 4
)

// Master says where the master key is: in one of the three. The content is
// one key a line, or a comma between them: the current one first, then up to
// Former former ones.
type Master struct {
	// File holds keys of 32 bytes in base64. Nobody but its owner may read or
	// write it (mode 0600 or stricter).
	File string
	// Generate makes File when it does not exist.
	Generate bool
	// PassphraseFile holds passphrases, one a line, of at least MinPassphrase
	// bytes, from which keys are derived by Argon2id. Its mode is as strict.
	PassphraseFile string
	// Passphrase is the content of PassphraseFile itself.
	Passphrase string
	// Variable is the content itself, as File has it: the value of an
	// environment variable, for containers.
	Variable string
}

// masterKey is one generation of the master key.
type masterKey struct {
	id   string // tells which key sealed a file; reveals nothing of it
	aead tink.AEAD
}

// ErrPermissions is returned when a file or folder may be read or written by
// others than its owner.
var ErrPermissions = errors.New("permissions are too loose")

// ErrMaster is returned when a master key is missing, is not of the right
// form, or opens a file that it should not fail to open.
var ErrMaster = errors.New("master key does not fit")

// read gives the master keys, the current one first.
func (m Master) read(dir string, random io.Reader) ([]masterKey, error) {
	lines, err := m.lines(random)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, line := range lines {
			clear(line)
		}
	}()
	if len(lines) == 0 || len(lines) > Former+1 {
		return nil, fmt.Errorf("%s holds %d keys, want the current one and at most %d former ones: %w", m.name(), len(lines), Former, ErrMaster)
	}
	var salt []byte
	if m.derives() {
		if salt, err = readSalt(dir, random); err != nil {
			return nil, err
		}
	}
	keys := make([]masterKey, 0, len(lines))
	for i, line := range lines {
		key, err := m.key(line, salt)
		if err != nil {
			return nil, fmt.Errorf("%s, key %d: %w", m.name(), i+1, err)
		}
		made, err := newMasterKey(key)
		clear(key)
		if err != nil {
			return nil, fmt.Errorf("%s, key %d: %w", m.name(), i+1, err)
		}
		keys = append(keys, made)
	}
	return keys, nil
}

// name says where the master key is, for messages.
func (m Master) name() string {
	switch {
	case m.File != "":
		return m.File
	case m.PassphraseFile != "":
		return m.PassphraseFile
	case m.Passphrase != "":
		return "the passphrase"
	}
	return "the variable with the master key"
}

// derives tells whether keys are made of passphrases.
func (m Master) derives() bool { return m.PassphraseFile != "" || m.Passphrase != "" }

// lines reads the content.
func (m Master) lines(random io.Reader) ([][]byte, error) {
	given := 0
	for _, s := range []string{m.File, m.PassphraseFile, m.Passphrase, m.Variable} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return nil, fmt.Errorf("%d places for the master key, want one: %w", given, ErrMaster)
	}
	if m.Variable != "" {
		return split([]byte(m.Variable), ",\n"), nil
	}
	if m.Passphrase != "" {
		return split([]byte(m.Passphrase), "\n"), nil
	}
	path, separators := m.PassphraseFile, "\n"
	if m.File != "" {
		path, separators = m.File, ",\n"
		if err := m.generate(random); err != nil {
			return nil, err
		}
	}
	content, err := readPrivate(path, maxMaster)
	if err != nil {
		return nil, err
	}
	return split(content, separators), nil
}

// split cuts the content into its lines, without those that are empty.
func split(content []byte, separators string) [][]byte {
	lines := bytes.FieldsFunc(content, func(c rune) bool { return c == '\r' || strings.ContainsRune(separators, c) })
	kept := lines[:0]
	for _, line := range lines {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			kept = append(kept, line)
		}
	}
	return kept
}

// generate makes the file when that is wanted and there is none.
func (m Master) generate(random io.Reader) error {
	if !m.Generate {
		return nil
	}
	if _, err := os.Lstat(m.File); !errors.Is(err, fs.ErrNotExist) {
		return nil // what is wrong with it is found when it is read
	}
	line, err := newMasterLine(random)
	if err != nil {
		return err
	}
	defer clear(line)
	return durable.WriteFile(m.File, line, 0o600)
}

// newMasterLine makes a key in the form of the file, with a line break.
func newMasterLine(random io.Reader) ([]byte, error) {
	key := make([]byte, masterSize)
	defer clear(key)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("make a master key: %w", err)
	}
	return append(base64.StdEncoding.AppendEncode(nil, key), '\n'), nil
}

// key gives the 32 bytes that a line stands for.
func (m Master) key(line, salt []byte) ([]byte, error) {
	if m.derives() {
		if len(line) < MinPassphrase {
			return nil, fmt.Errorf("a passphrase of %d bytes, want at least %d: %w", len(line), MinPassphrase, ErrMaster)
		}
		return argon2.IDKey(line, salt, argonTime, argonMemory, argonThreads, masterSize), nil
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(key, line)
	if err != nil || n != masterSize {
		clear(key)
		return nil, fmt.Errorf("want %d bytes in base64 (as from: openssl rand -base64 32): %w", masterSize, ErrMaster)
	}
	if bytes.Count(key[:n], key[:1]) == n {
		return nil, fmt.Errorf("the same byte %d times over is no key: %w", masterSize, ErrMaster)
	}
	return key[:n], nil
}

func newMasterKey(key []byte) (masterKey, error) {
	sum := sha256.Sum256(append([]byte("verdict/master/v1"), key...))
	handle, err := xaesHandle(key)
	if err != nil {
		return masterKey{}, err
	}
	a, err := newAEAD(handle)
	if err != nil {
		return masterKey{}, err
	}
	return masterKey{id: hex.EncodeToString(sum[:8]), aead: a}, nil
}

// readSalt reads the salt of the passphrases, and makes it when there is none.
func readSalt(dir string, random io.Reader) ([]byte, error) {
	path := filepath.Join(dir, saltFile)
	salt, err := readPrivate(path, saltSize)
	if errors.Is(err, fs.ErrNotExist) {
		salt = make([]byte, saltSize)
		if _, err := io.ReadFull(random, salt); err != nil {
			return nil, fmt.Errorf("make a salt: %w", err)
		}
		return salt, durable.WriteFile(path, salt, 0o600)
	}
	if err == nil && len(salt) != saltSize {
		err = fmt.Errorf("%s has %d bytes, want %d: %w", path, len(salt), saltSize, ErrMaster)
	}
	return salt, err
}

// readPrivate reads a file that its owner alone may read and write.
func readPrivate(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, ErrMaster)
	}
	if err := checkMode(path, info, 0o600); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes: %w", path, limit, ErrMaster)
	}
	return content, err
}

// checkMode refuses what others than the owner may touch.
func checkMode(path string, info fs.FileInfo, want fs.FileMode) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, want %04o or stricter (chmod %04o %s): %w", path, mode, want, want, path, ErrPermissions)
	}
	return nil
}

// OwnsMaster tells whether RotateMaster can write the master key: it is in a
// file of keys.
func (b *Backend) OwnsMaster() bool { return b.master.File != "" }

// RotateMaster puts a new master key before those in the file, keeps Former of
// them, and seals every keyset anew. A crash on the way leaves keysets that
// the former key opens; Open seals those anew. It is for a master key in File:
// a passphrase or a variable is changed where it is, a new line first, and
// verdict started again.
func (b *Backend) RotateMaster() error {
	if b.master.File == "" {
		return fmt.Errorf("put the new key before the old one in %s and start again: %w", b.master.name(), ErrMaster)
	}
	b.change.Lock()
	defer b.change.Unlock()
	if b.State().Reason == keys.ReasonClosed {
		return &keys.UnavailableError{Reason: keys.ReasonClosed}
	}
	content, err := readPrivate(b.master.File, maxMaster)
	if err != nil {
		return err
	}
	defer clear(content)
	next, err := newMasterLine(rand.Reader)
	if err != nil {
		return err
	}
	defer clear(next)
	lines := split(content, ",\n")
	for _, line := range lines[:min(len(lines), Former)] {
		next = append(append(next, line...), '\n')
	}
	if err := durable.WriteFile(b.master.File, next, 0o600); err != nil {
		return err
	}
	keys, err := b.master.read(b.dir, rand.Reader)
	if err != nil {
		return err
	}
	b.masters = keys
	return b.resealAll()
}

// Reseal seals every keyset under another passphrase, for a master key in
// Passphrase. The text has the new one first and must have the one in use, too,
// since a crash on the way leaves keysets that only that one opens.
func (b *Backend) Reseal(passphrase string) error {
	b.change.Lock()
	defer b.change.Unlock()
	if b.master.Passphrase == "" || b.masters == nil {
		return fmt.Errorf("the master key is not a passphrase by reference: %w", ErrMaster)
	}
	keys, err := Master{Passphrase: passphrase}.read(b.dir, rand.Reader)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(k masterKey) bool { return k.id == b.masters[0].id }) {
		return fmt.Errorf("the passphrase in use is not among the new ones; write it below the new one: %w", ErrMaster)
	}
	b.masters = keys
	return b.resealAll()
}
