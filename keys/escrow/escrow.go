// Package escrow keeps the keys that must be recoverable. verdict makes the
// material of such a key itself, wraps it to a public key whose private key is
// kept elsewhere, in shares, and gives it to the holder of the keys. A package
// is a JWE (RFC 7516) in compact serialization, which any program that knows
// JWE opens with the private key.
//
// A key that was lost comes back when enough shares are given, by at least two
// who do not stand for each other: see Recoveries. The arithmetic of shares is
// not in constant time; it happens in ceremonies, not in requests that somebody
// could repeat and time.
package escrow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	storePart   = "escrow" // first part of the store's keys
	maxVersions = 10_000
)

// ErrNone is returned when nothing of a key is in escrow.
var ErrNone = errors.New("key_not_escrowed")

// ErrPackage is returned when a package does not open, or holds another key
// than it should.
var ErrPackage = errors.New("escrow_package_invalid")

// Store is where packages lie. It is a part of storage.Bucket, whose words
// hold.
type Store interface {
	List(ctx context.Context, prefix, cursor string, limit int) (storage.Page, error)
	Apply(ctx context.Context, ops ...storage.Op) ([]uint64, error)
}

// Package is one version of a key, wrapped to the escrow key.
type Package struct {
	Key     string    `json:"key"`
	Type    keys.Type `json:"type"`
	Version uint32    `json:"version"`
	Created time.Time `json:"created"`
	// Recipient is the thumbprint of the escrow key (RFC 7638).
	Recipient string `json:"recipient"`
	// Digest is the SHA-256 of JWE in hex digits; the record of the package's
	// making has it too.
	Digest string `json:"digest"`
	JWE    string `json:"jwe"`
}

// Options are what an Escrow can do without. The zero value is the default.
type Options struct {
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Escrow makes and keeps packages. Its methods may be called by several
// goroutines at once. It is a keys.Escrow.
type Escrow struct {
	public   *PublicKey
	store    Store
	recorder keys.Recorder
	now      func() time.Time
}

var _ keys.Escrow = (*Escrow)(nil)

// New gives the escrow under a public key.
func New(public *PublicKey, s Store, rec keys.Recorder, o Options) (*Escrow, error) {
	if public == nil || s == nil || rec == nil {
		return nil, errors.New("an escrow needs a public key, a store and a recorder")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Escrow{public: public, store: s, recorder: rec, now: o.Now}, nil
}

// PublicKey is what packages are wrapped to.
func (e *Escrow) PublicKey() *PublicKey { return e.public }

// Generate implements keys.Escrow. A package of that version that was there
// before belongs to an attempt that came to nothing, and is replaced.
func (e *Escrow) Generate(ctx context.Context, id string, t keys.Type, version uint32) (material []byte, err error) {
	material, err = newMaterial(t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			clear(material)
			material = nil
		}
	}()
	p := Package{Key: id, Type: t, Version: version, Created: e.now().UTC(), Recipient: e.public.thumbprint}
	if p.JWE, err = e.public.seal(p, material); err != nil {
		return nil, err
	}
	p.Digest = digest(p.JWE)
	value, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write escrow package: %w", err)
	}
	err = e.recorder.RecordKey(ctx, keys.Event{Kind: keys.EventEscrowed, KeyID: id, Type: t, Version: version, Digest: p.Digest})
	if err != nil {
		return nil, fmt.Errorf("record escrow package: %w", err)
	}
	if _, err = e.store.Apply(ctx, storage.Put(storeKey(id, version), value)); err != nil {
		return nil, fmt.Errorf("write escrow package: %w", err)
	}
	return material, nil
}

// storeKey sorts by version.
func storeKey(id string, version uint32) string {
	return storage.Key(storePart, id, fmt.Sprintf("%010d", version))
}

func digest(jwe string) string {
	sum := sha256.Sum256([]byte(jwe))
	return hex.EncodeToString(sum[:])
}

// Packages gives the packages of a key by version, ascending; none is no error.
func (e *Escrow) Packages(ctx context.Context, id string) ([]Package, error) {
	var list []Package
	cursor := ""
	for {
		page, err := e.store.List(ctx, storage.Prefix(storePart, id), cursor, storage.MaxPage)
		if err != nil {
			return nil, fmt.Errorf("read escrow packages of %s: %w", id, err)
		}
		for _, entry := range page.Entries {
			var p Package
			if err := json.Unmarshal(entry.Value, &p); err != nil || p.Key != id || p.Version == 0 || p.Version > maxVersions {
				return nil, fmt.Errorf("read escrow packages of %s: %w", id, ErrPackage)
			}
			list = append(list, p)
		}
		if cursor = page.Cursor; cursor == "" {
			return list, nil
		}
	}
}

// Export gives the packages of a key to somebody, which is recorded first.
// ErrNone when there are none.
func (e *Escrow) Export(ctx context.Context, by keys.By, id string) ([]Package, error) {
	if len(id) > keys.MaxName {
		return nil, fmt.Errorf("key %.128s: %w", id, ErrNone)
	}
	list, err := e.Packages(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("key %s: %w", id, ErrNone)
	}
	last := list[len(list)-1]
	err = e.recorder.RecordKey(ctx, keys.Event{
		Kind: keys.EventEscrowExported, KeyID: id, Type: last.Type, Version: last.Version, From: list[0].Version, By: by,
	})
	if err != nil {
		return nil, fmt.Errorf("record the export of %s: %w", id, err)
	}
	return list, nil
}

// Versions implements keys.Escrow. It gives only what is wrapped to the escrow
// key of now.
func (e *Escrow) Versions(ctx context.Context, id string) ([]uint32, error) {
	list, err := e.Packages(ctx, id)
	if err != nil {
		return nil, err
	}
	versions := make([]uint32, 0, len(list))
	for _, p := range list {
		if p.Recipient == e.public.thumbprint {
			versions = append(versions, p.Version)
		}
	}
	return versions, nil
}

// Has implements keys.Escrow.
func (e *Escrow) Has(ctx context.Context, id string) (bool, error) {
	page, err := e.store.List(ctx, storage.Prefix(storePart, id), "", 1)
	if err != nil {
		return false, fmt.Errorf("read escrow packages of %s: %w", id, err)
	}
	return len(page.Entries) > 0, nil
}

// Forget implements keys.Escrow.
func (e *Escrow) Forget(ctx context.Context, id string, first, end uint32) error {
	list, err := e.Packages(ctx, id)
	if err != nil {
		return err
	}
	var ops []storage.Op
	for _, p := range list {
		if p.Version >= first && p.Version < end {
			ops = append(ops, storage.Delete(storeKey(id, p.Version)))
		}
	}
	for batch := range slices.Chunk(ops, storage.MaxOps) {
		if _, err := e.store.Apply(ctx, batch...); err != nil {
			return fmt.Errorf("forget escrow packages of %s below version %s: %w", id, strconv.FormatUint(uint64(end), 10), err)
		}
	}
	return nil
}
