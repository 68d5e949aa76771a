package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/keys"
)

const (
	fileFormat = 1
	suffix     = ".keyset"
	sealLabel  = "verdict/keyset/v1/"
	maxFile    = 16 << 20
)

// ErrDamaged is returned when a keyset is not what was written.
var ErrDamaged = errors.New("keyset is damaged")

// file is a keyset as it lies on the disk. Sealed is the JSON of content,
// encrypted by the master key with the label and the name as associated data.
type file struct {
	Format int    `json:"format"`
	Master string `json:"master"` // which master key
	Sealed []byte `json:"sealed"`
}

// content is what is sealed.
type content struct {
	Name       string    `json:"name"`
	Type       keys.Type `json:"type"`
	MinDecrypt uint32    `json:"min_decrypt"`
	MinEncrypt uint32    `json:"min_encrypt"`
	Imported   bool      `json:"imported,omitempty"`
	Versions   []version `json:"versions"`
}

type version struct {
	Number  uint32    `json:"number"`
	Created time.Time `json:"created"`
	Keyset  []byte    `json:"keyset"`
}

// entry is a key in memory. It is never changed, only replaced.
type entry struct {
	key      keys.Key
	versions map[uint32]*material
	master   string // that seals the file
}

// write seals an entry and writes it durably.
func (b *Backend) write(e *entry) error {
	c := content{
		Name: e.key.Name, Type: e.key.Type, MinDecrypt: e.key.MinDecrypt, MinEncrypt: e.key.MinEncrypt, Imported: e.key.Imported,
	}
	for _, v := range e.key.Versions {
		c.Versions = append(c.Versions, version{Number: v.Number, Created: v.Created, Keyset: e.versions[v.Number].stored})
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("seal keyset %s: %w", e.key.Name, err)
	}
	defer clear(plain)
	master := b.masters[0]
	sealed, err := master.aead.Encrypt(plain, []byte(sealLabel+e.key.Name))
	if err != nil {
		return fmt.Errorf("seal keyset %s: %w", e.key.Name, err)
	}
	encoded, err := json.Marshal(file{Format: fileFormat, Master: master.id, Sealed: sealed})
	if err != nil {
		return fmt.Errorf("seal keyset %s: %w", e.key.Name, err)
	}
	if err := durable.WriteFile(b.path(e.key.Name), append(encoded, '\n'), 0o600); err != nil {
		return &keys.UnavailableError{Reason: keys.ReasonFailed, Err: err}
	}
	e.master = master.id
	return nil
}

func (b *Backend) path(name string) string { return filepath.Join(b.dir, name+suffix) }

// readAll reads every keyset of the folder.
func (b *Backend) readAll() error {
	names, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	for _, f := range names {
		name, ok := strings.CutSuffix(f.Name(), suffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		e, err := b.read(name)
		if err != nil {
			return err
		}
		b.entries[name] = e
	}
	return nil
}

func (b *Backend) read(name string) (*entry, error) {
	path := b.path(name)
	encoded, err := readPrivate(path, maxFile)
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(encoded, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, ErrDamaged)
	}
	if f.Format != fileFormat {
		return nil, fmt.Errorf("%s has format %d, this program reads %d: %w", path, f.Format, fileFormat, ErrDamaged)
	}
	for _, m := range b.masters {
		if m.id != f.Master {
			continue
		}
		plain, err := m.aead.Decrypt(f.Sealed, []byte(sealLabel+name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, ErrDamaged)
		}
		defer clear(plain)
		e, err := decode(name, plain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		e.master = m.id
		return e, nil
	}
	return nil, fmt.Errorf("%s is sealed under master key %q, which %s does not hold: %w", path, f.Master, b.master.name(), ErrMaster)
}

// decode makes an entry of what was sealed.
func decode(name string, plain []byte) (*entry, error) {
	var c content
	if err := json.Unmarshal(plain, &c); err != nil || c.Name != name || len(c.Versions) == 0 {
		return nil, ErrDamaged
	}
	e := &entry{
		key:      keys.Key{Name: name, Type: c.Type, MinDecrypt: c.MinDecrypt, MinEncrypt: c.MinEncrypt, Imported: c.Imported},
		versions: map[uint32]*material{},
	}
	for _, v := range c.Versions {
		if v.Number <= e.key.Latest {
			return nil, ErrDamaged
		}
		m, err := openMaterial(c.Type, v.Keyset)
		if err != nil {
			return nil, err
		}
		e.add(v.Number, v.Created, m)
	}
	return e, nil
}

// add adds a version to an entry that nobody else sees yet.
func (e *entry) add(number uint32, created time.Time, m *material) {
	e.versions[number] = m
	e.key.Latest = number
	e.key.Versions = append(e.key.Versions, keys.Version{Number: number, Created: created, Public: m.public})
}

// resealAll seals the keysets that a former master key sealed with the current
// one.
func (b *Backend) resealAll() error {
	for _, name := range b.names("") {
		e := b.entries[name].clone()
		if e.master == b.masters[0].id {
			continue
		}
		if err := b.write(e); err != nil {
			return err
		}
		b.put(e)
	}
	return nil
}

// openDir makes the folder, or checks that nobody else may enter it.
func openDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	return checkMode(dir, info, 0o700)
}
