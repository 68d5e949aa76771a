// Package local holds keys in the data folder: Tink keysets, sealed under a
// master key. It is for one process at a time.
//
// A key that wraps data keys is XAES-256-GCM (c2sp.org/XAES-256-GCM), or RSA
// with OAEP and SHA-256. Every change is written durably before it is used;
// versions that are trimmed are gone from the file, though a disk may keep old
// blocks.
package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/verdict-pdp/verdict/internal/filelock"
	"github.com/verdict-pdp/verdict/keys"
)

// Options are what Open can do without. The zero value is the default.
type Options struct {
	// Now is the clock of the versions' creation; nil: time.Now.
	Now func() time.Time
	// Command of this process, which another one that wants the folder is told.
	Command string
}

// Backend is a keys.Backend. Close lets the folder go; what is called later
// returns an *keys.UnavailableError.
type Backend struct {
	dir     string
	master  Master
	now     func() time.Time
	command string
	lock    *filelock.Lock

	change  sync.Mutex // held while a key is made or changed
	masters []masterKey

	mu      sync.RWMutex // guards what follows
	entries map[string]*entry
	state   keys.State
}

var _ keys.Backend = (*Backend)(nil)

// Open opens the keysets of a folder, which is made when it does not exist. It
// fails with ErrPermissions when others may read or write the folder, a keyset
// or the master key, with ErrMaster when the master key does not fit, and with
// ErrDamaged when a keyset was changed. Keysets under a former master key are
// sealed with the current one.
func Open(dir string, m Master, o Options) (*Backend, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := openDir(dir); err != nil {
		return nil, fmt.Errorf("open the key folder: %w", err)
	}
	b := &Backend{dir: dir, master: m, now: o.Now, command: o.Command, entries: map[string]*entry{}}
	if err := b.open(); err != nil {
		_ = b.Close() // the error that counts is the other one
		return nil, fmt.Errorf("open the key folder %s: %w", dir, err)
	}
	b.master.Variable = ""
	if b.master.Passphrase != "" {
		b.master.Passphrase = "given" // that it was is all that counts from now on
	}
	return b, nil
}

func (b *Backend) open() (err error) {
	b.lock, err = filelock.Acquire(filelock.Options{Path: filepath.Join(b.dir, "lock"), What: "the key folder", Command: b.command})
	if err != nil {
		return err
	}
	if b.masters, err = b.master.read(b.dir, rand.Reader); err != nil {
		return err
	}
	if err := b.readAll(); err != nil {
		return err
	}
	return b.resealAll()
}

// Close forgets the keys and lets the folder go.
func (b *Backend) Close() error {
	b.change.Lock()
	defer b.change.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries, b.masters = nil, nil
	b.state = keys.State{Reason: keys.ReasonClosed, Detail: "the key folder is closed", Since: b.now()}
	if b.lock == nil {
		return nil
	}
	err := b.lock.Release()
	b.lock = nil
	return err
}

// State implements keys.Backend.
func (b *Backend) State() keys.State {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.state
}

// get gives a key.
func (b *Backend) get(ctx context.Context, name string) (*entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.entries == nil {
		return nil, &keys.UnavailableError{Reason: keys.ReasonClosed}
	}
	e, ok := b.entries[name]
	if !ok {
		return nil, keys.ErrKeyUnknown
	}
	return e, nil
}

func (b *Backend) put(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[e.key.Name] = e
}

func (b *Backend) names(prefix string) []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var names []string
	for name := range b.entries {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (e *entry) clone() *entry {
	c := &entry{key: e.key, versions: maps.Clone(e.versions), master: e.master}
	c.key.Versions = slices.Clone(e.key.Versions)
	return c
}

// describe gives the key to a caller, who may change it.
func (e *entry) describe() keys.Key { return e.clone().key }

// Ensure implements keys.Manager.
func (b *Backend) Ensure(ctx context.Context, name string, t keys.Type) (keys.Key, bool, error) {
	e, err := b.get(ctx, name)
	if errors.Is(err, keys.ErrKeyUnknown) {
		m, err := generate(t)
		if err != nil {
			return keys.Key{}, false, err
		}
		return b.create(ctx, name, t, m, false)
	}
	return checkType(e, t, err)
}

func checkType(e *entry, t keys.Type, err error) (keys.Key, bool, error) {
	switch {
	case err != nil:
		return keys.Key{}, false, err
	case e.key.Type != t:
		return keys.Key{}, false, fmt.Errorf("key %s is of type %s, not %s: %w", e.key.Name, e.key.Type, t, keys.ErrKeyMismatch)
	}
	return e.describe(), false, nil
}

// create makes a key with its first version, unless there is one now.
func (b *Backend) create(ctx context.Context, name string, t keys.Type, m *material, imported bool) (keys.Key, bool, error) {
	if !validName(name) {
		return keys.Key{}, false, fmt.Errorf("a key cannot have that name: %w", keys.ErrUnsupported)
	}
	b.change.Lock()
	defer b.change.Unlock()
	e, err := b.get(ctx, name)
	if !errors.Is(err, keys.ErrKeyUnknown) {
		return checkType(e, t, err)
	}
	e = &entry{
		key:      keys.Key{Name: name, Type: t, MinDecrypt: 1, MinEncrypt: 1, Imported: imported},
		versions: map[uint32]*material{},
	}
	e.add(1, b.now().UTC(), m)
	if err := b.write(e); err != nil {
		return keys.Key{}, false, err
	}
	b.put(e)
	return e.describe(), true, nil
}

// validName keeps names to those that are file names.
func validName(name string) bool {
	return name != "" && len(name) <= keys.MaxName && name[0] != '.' &&
		!strings.ContainsFunc(name, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
		})
}

// Describe implements keys.Manager.
func (b *Backend) Describe(ctx context.Context, name string) (keys.Key, error) {
	e, err := b.get(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	return e.describe(), nil
}

// List implements keys.Manager.
func (b *Backend) List(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.State().Reason == keys.ReasonClosed {
		return nil, &keys.UnavailableError{Reason: keys.ReasonClosed}
	}
	return b.names(prefix), nil
}

// Rotate implements keys.Manager.
func (b *Backend) Rotate(ctx context.Context, name string) (keys.Key, error) {
	e, err := b.get(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	m, err := generate(e.key.Type)
	if err != nil {
		return keys.Key{}, err
	}
	return b.edit(ctx, name, func(e *entry) error {
		e.add(e.key.Latest+1, b.now().UTC(), m)
		return nil
	})
}

// edit changes a copy of a key, writes it, and puts it in the old one's place.
func (b *Backend) edit(ctx context.Context, name string, change func(*entry) error) (keys.Key, error) {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.get(ctx, name)
	if err != nil {
		return keys.Key{}, err
	}
	e := old.clone()
	if err := change(e); err != nil {
		return keys.Key{}, fmt.Errorf("key %s: %w", name, err)
	}
	if err := b.write(e); err != nil {
		return keys.Key{}, err
	}
	b.put(e)
	return e.describe(), nil
}

// SetMinimums implements keys.Manager.
func (b *Backend) SetMinimums(ctx context.Context, name string, m keys.Minimums) (keys.Key, error) {
	return b.edit(ctx, name, func(e *entry) error {
		k := &e.key
		if m.Decrypt != 0 {
			k.MinDecrypt = m.Decrypt
		}
		if m.Encrypt != 0 {
			k.MinEncrypt = m.Encrypt
		}
		if k.MinDecrypt < k.Versions[0].Number || k.MinEncrypt < k.MinDecrypt || k.MinEncrypt > k.Latest {
			return fmt.Errorf("minimums %d and %d of versions %d to %d: %w",
				k.MinDecrypt, k.MinEncrypt, k.Versions[0].Number, k.Latest, keys.ErrVersionDisallowed)
		}
		return nil
	})
}

// Trim implements keys.Manager.
func (b *Backend) Trim(ctx context.Context, name string) (keys.Key, error) {
	return b.edit(ctx, name, func(e *entry) error {
		e.key.Versions = slices.DeleteFunc(e.key.Versions, func(v keys.Version) bool { return v.Number < e.key.MinDecrypt })
		maps.DeleteFunc(e.versions, func(number uint32, _ *material) bool { return number < e.key.MinDecrypt })
		return nil
	})
}

// Import implements keys.Manager. A key may have versions of both origins.
func (b *Backend) Import(ctx context.Context, name string, t keys.Type, outside []byte) (keys.Key, error) {
	m, err := importMaterial(t, outside)
	if err != nil {
		return keys.Key{}, err
	}
	if _, err := b.get(ctx, name); errors.Is(err, keys.ErrKeyUnknown) {
		key, created, err := b.create(ctx, name, t, m, true)
		if err != nil || created {
			return key, err
		}
	}
	return b.edit(ctx, name, func(e *entry) error {
		if e.key.Type != t {
			return fmt.Errorf("it is of type %s, not %s: %w", e.key.Type, t, keys.ErrKeyMismatch)
		}
		e.key.Imported = true
		e.add(e.key.Latest+1, b.now().UTC(), m)
		return nil
	})
}
