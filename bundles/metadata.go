package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/verdict-pdp/verdict/storage"
)

// The keys of the bucket, by their first part:
//
//	active                      activeSet: what answers
//	name.NAME                   nameState: what is remembered of a name for ever
//	rev.NAME.REVISION           Revision: accepted and kept
//	refused.NAME.DIGEST         Revision: refused and kept to be looked at
//	digest.NAME.DIGEST          digestState: remembered for ever
//	used.NAME.REVISION          the digest that has this revision, for ever
//	statement.NAME.STATEMENT    the digest that was accepted by this signed list, for ever
//	history.NUMBER              Activation: the last ones
//	confirmed.NAME              confirmation: when what is active was current last
//	staged                      Staging: what is tried, without what comes of it
const (
	keyActive    = "active"
	keyName      = "name"
	keyRevision  = "rev"
	keyRefused   = "refused"
	keyDigest    = "digest"
	keyUsed      = "used"
	keyStatement = "statement"
	keyHistory   = "history"
	keyConfirmed = "confirmed"
	keyStaged    = "staged"
)

// Revision is what is known of one revision of a bundle.
type Revision struct {
	Name     string `json:"name"`
	Revision string `json:"revision"`
	Digest   string `json:"digest"`
	Number   uint64 `json:"number"` // grows with each accepted revision of the name
	Serial   *int64 `json:"serial,omitempty"`
	// Status is active, kept or refused.
	Status  Status       `json:"status"`
	Archive ArchiveInfo  `json:"archive"`
	Roots   []string     `json:"roots"`
	Modules int          `json:"modules"`
	Tests   int          `json:"tests"`
	Signer  Signer       `json:"signer"`
	Gates   []GateResult `json:"gates"`

	PushedAt   time.Time `json:"pushed_at"`
	PushedBy   string    `json:"pushed_by"`
	PushedFrom string    `json:"pushed_from,omitempty"`
	// ActivatedAt is when it was made active last; absent: never.
	ActivatedAt *time.Time `json:"activated_at,omitempty"`
	ActivatedBy string     `json:"activated_by,omitempty"`
	Activations int        `json:"activations"`

	version uint64 // of its key
}

// Status is what became of a revision.
type Status string

// The values of Status.
const (
	StatusActive  Status = "active"
	StatusKept    Status = "kept"
	StatusRefused Status = "refused"
)

// ArchiveInfo describes the bytes that were pushed.
type ArchiveInfo struct {
	SHA256   string `json:"sha256"`
	Size     int64  `json:"size"`
	Unpacked int64  `json:"unpacked"`
	Files    int    `json:"files"`
}

// activeSet is which revision of each bundle answers. It stands under one key,
// so that it changes as a whole.
type activeSet struct {
	Number  uint64                 `json:"number"` // of activations, 0: none ever
	At      time.Time              `json:"at"`
	Bundles map[string]activeEntry `json:"bundles"`

	version uint64
}

type activeEntry struct {
	Revision string    `json:"revision"`
	Digest   string    `json:"digest"`
	Since    time.Time `json:"since"`
	// Previous is the revision that was active before, empty when none was.
	Previous string `json:"previous,omitempty"`
}

// nameState is remembered of a name.
type nameState struct {
	Number uint64 `json:"number"` // of the last accepted revision
	Serial *int64 `json:"serial,omitempty"`

	version uint64
}

// digestState is remembered of a content.
type digestState struct {
	Revision string `json:"revision"`
	// Activated says that it was active once.
	Activated bool `json:"activated"`

	version uint64
}

// metadata reads and writes the bucket.
type metadata struct{ bucket storage.Bucket }

// get decodes the value of a key; version 0: the key is absent.
func (m *metadata) get(ctx context.Context, key string, into any) (version uint64, err error) {
	e, err := m.bucket.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(e.Value, into); err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return e.Revision, nil
}

func (m *metadata) activeSet(ctx context.Context) (a activeSet, err error) {
	a.version, err = m.get(ctx, keyActive, &a)
	if a.Bundles == nil {
		a.Bundles = map[string]activeEntry{}
	}
	return a, err
}

func (m *metadata) name(ctx context.Context, name string) (n nameState, err error) {
	n.version, err = m.get(ctx, storage.Key(keyName, name), &n)
	return n, err
}

func (m *metadata) digest(ctx context.Context, name, digest string) (d digestState, err error) {
	d.version, err = m.get(ctx, storage.Key(keyDigest, name, digest), &d)
	return d, err
}

// used is the digest that has a revision; empty: none.
func (m *metadata) used(ctx context.Context, name, revision string) (digest string, err error) {
	_, err = m.get(ctx, storage.Key(keyUsed, name, revision), &digest)
	return digest, err
}

// revision returns a kept revision, or an *Error of CodeNotFound.
func (m *metadata) revision(ctx context.Context, name, revision string) (*Revision, error) {
	if len(revision) > maxRevision || revision == "" {
		return nil, refuse(CodeNotFound, "", "bundle %s has no revision %s that is kept", name, shown(revision))
	}
	r := &Revision{}
	var err error
	if r.version, err = m.get(ctx, storage.Key(keyRevision, name, revision), r); err != nil {
		return nil, err
	}
	if r.version == 0 {
		return nil, refuse(CodeNotFound, "", "bundle %s has no revision %s that is kept", name, shown(revision))
	}
	return r, nil
}

// each calls fn for the revisions whose key has the prefix.
func (m *metadata) each(ctx context.Context, prefix string, fn func(*Revision) error) error {
	for cursor := ""; ; {
		page, err := m.bucket.List(ctx, prefix, cursor, 0)
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, e := range page.Entries {
			r := &Revision{version: e.Revision}
			if err := json.Unmarshal(e.Value, r); err != nil {
				return fmt.Errorf("read %s: %w", e.Key, err)
			}
			if err := fn(r); err != nil {
				return err
			}
		}
		if cursor = page.Cursor; cursor == "" {
			return nil
		}
	}
}

// batch collects operations on the bucket; the first error stays.
type batch struct {
	ops []storage.Op
	err error
}

// put sets a value whose key has the version; 0: that is absent.
func (b *batch) put(key string, value any, version uint64) {
	raw, err := json.Marshal(value)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("encode %s: %w", key, err)
	}
	b.ops = append(b.ops, storage.Replace(key, raw, version))
}

// remove deletes a key that has the version.
func (b *batch) remove(key string, version uint64) {
	b.ops = append(b.ops, storage.DeleteAt(key, version))
}

// apply applies a batch and gives the new version of each key.
func (m *metadata) apply(ctx context.Context, b *batch) ([]uint64, error) {
	if b.err != nil {
		return nil, b.err
	}
	versions, err := m.bucket.Apply(ctx, b.ops...)
	if err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	return versions, nil
}
