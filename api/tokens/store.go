package tokens

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Defaults of Options.
const (
	// DefaultCheckEvery bounds how often a lookup looks whether the file has
	// changed, and so how long a revoked token may still be taken.
	DefaultCheckEvery = 100 * time.Millisecond
	// DefaultPoll is how often Run looks.
	DefaultPoll = time.Second
	// DefaultLockWait is how long a writer waits for another one.
	DefaultLockWait = 5 * time.Second
)

// Options are the optional parts of a Store.
type Options struct {
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Rand is where tokens come from; nil: crypto/rand.Reader.
	Rand io.Reader
	// CheckEvery, Poll and LockWait: 0 is the default of that name.
	CheckEvery, Poll, LockWait time.Duration
	// Changed is told, by Run only, the names of tokens that were added and
	// revoked since it was last told without an error, also while no server
	// ran. An error means that it is told the same again at the next look.
	// nil: nobody is told.
	Changed func(ctx context.Context, added, revoked []string) error
	// Logger gets what happens on rereading, where nobody can be given an
	// error. The zero value logs nothing.
	Logger zerolog.Logger
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.CheckEvery <= 0 {
		o.CheckEvery = DefaultCheckEvery
	}
	if o.Poll <= 0 {
		o.Poll = DefaultPoll
	}
	if o.LockWait <= 0 {
		o.LockWait = DefaultLockWait
	}
	return o
}

// Store is the token file of one data folder. All methods may be called at the
// same time.
type Store struct {
	dir  string
	path string
	o    Options

	table   atomic.Pointer[table]
	checked atomic.Int64  // when the file was last looked at, Unix nanoseconds
	changed chan struct{} // holds one value after the table was exchanged

	mu     sync.Mutex // owns the fields below and every exchange of table
	admin  *Token     // the token of EnsureAdmin, in no file of hashes
	failed fileState  // the version of the file that could not be taken
	err    error      // why
}

// table is one immutable version of what is known.
type table struct {
	byHash map[[32]byte]*Token
	list   []*Token // what the file holds, in its order
	state  fileState
}

// Open reads the token file of dir. A folder without one has no tokens; a file
// that is damaged, or that others may read or write, is an error.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, path: filepath.Join(dir, fileName), o: o.withDefaults(), changed: make(chan struct{}, 1)}
	list, state, err := s.read()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swap(list, state)
	s.checked.Store(s.o.Now().UnixNano())
	return s, nil
}

// Lookup finds the token that secret is: ErrUnknown when there is none,
// ErrExpired when its time is over. It allocates nothing, and now and then it
// looks whether the file has changed, so that a revocation takes effect within
// Options.CheckEvery also when Run does not run.
func (s *Store) Lookup(secret string) (*Token, error) {
	if !wellFormed(secret) {
		return nil, ErrUnknown
	}
	now := s.o.Now()
	s.refreshIfDue(now)
	hash := hashOf(secret)
	t, ok := s.table.Load().byHash[hash]
	if !ok || subtle.ConstantTimeCompare(t.hash[:], hash[:]) != 1 || t.ID != idOf(secret) {
		return nil, ErrUnknown
	}
	if t.Expired(now) {
		return nil, ErrExpired
	}
	return t, nil
}

// List is what the file holds, expired tokens too.
func (s *Store) List() []Token {
	list := s.table.Load().list
	out := make([]Token, 0, len(list))
	for _, t := range list {
		out = append(out, *t)
	}
	return out
}

// Err is why the newest version of the file could not be taken, nil when what
// is in force is what the file holds.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// NewToken describes a token to be created.
type NewToken struct {
	Name   string
	Scopes []string
	// Expires is when it ends; zero: never.
	Expires time.Time
	// CreatedBy is the name or id of the token whose holder creates this one;
	// empty: it is created on the host.
	CreatedBy string
}

// Create adds a token and returns its secret, which is kept nowhere. A name
// that is taken, even by an expired token, is ErrName.
func (s *Store) Create(ctx context.Context, n NewToken) (secret string, t Token, err error) {
	if err := checkName(n.Name); err != nil {
		return "", Token{}, err
	}
	scopes, err := ParseScopes(n.Scopes)
	if err != nil {
		return "", Token{}, err
	}
	if scopes.Empty() {
		return "", Token{}, fmt.Errorf("%w: a token needs one; valid are %s", ErrScope, strings.Join(ValidScopes(), ", "))
	}
	now := s.o.Now().UTC().Truncate(time.Second)
	if !n.Expires.IsZero() && !n.Expires.After(now) {
		return "", Token{}, errors.New("the token would have expired already")
	}
	secret, id, err := generate(s.o.Rand)
	if err != nil {
		return "", Token{}, err
	}
	made := &Token{ID: id, Name: n.Name, Scopes: scopes, Created: now, Expires: n.Expires.UTC(), hash: hashOf(secret)}
	err = s.edit(ctx, func(list []*Token) ([]*Token, error) {
		for _, old := range list {
			if old.Name == n.Name || old.ID == id {
				return nil, fmt.Errorf("%w: %q is taken (id %s); revoke it first", ErrName, old.Name, old.ID)
			}
		}
		if made.CreatedBy, err = lineage(list, n.CreatedBy); err != nil {
			return nil, err
		}
		return append(slices.Clip(list), made), nil
	})
	if err != nil {
		return "", Token{}, fmt.Errorf("create token %q: %w", n.Name, err)
	}
	return secret, *made, nil
}

// lineage gives the creators of a token that the named one creates.
func lineage(list []*Token, creator string) ([]string, error) {
	if creator == "" {
		return nil, nil
	}
	i := slices.IndexFunc(list, func(t *Token) bool { return t.Name == creator })
	if i < 0 {
		i = slices.IndexFunc(list, func(t *Token) bool { return t.ID == creator })
	}
	if i < 0 {
		return nil, fmt.Errorf("created by %q: %w", creator, ErrUnknown)
	}
	ids := append([]string{list[i].ID}, list[i].CreatedBy...)
	if len(ids) > maxLineage {
		return nil, fmt.Errorf("%w: more than %d tokens would have created one another", ErrName, maxLineage)
	}
	return ids, nil
}

// Revoke removes the token with that name or id; ErrUnknown when there is none.
func (s *Store) Revoke(ctx context.Context, nameOrID string) (Token, error) {
	var gone *Token
	err := s.edit(ctx, func(list []*Token) ([]*Token, error) {
		i := slices.IndexFunc(list, func(t *Token) bool { return t.Name == nameOrID })
		if i < 0 {
			i = slices.IndexFunc(list, func(t *Token) bool { return t.ID == nameOrID })
		}
		if i < 0 {
			return nil, ErrUnknown
		}
		gone = list[i]
		return slices.Concat(list[:i], list[i+1:]), nil
	})
	if err != nil {
		return Token{}, fmt.Errorf("revoke token %q: %w", nameOrID, err)
	}
	return *gone, nil
}

// EnsureAdmin makes the token in DIR/admin.token one that may do everything,
// for as long as this store lives, and writes that file when there is none. It
// is for dev mode: the token stands in no file of hashes, so that a server
// which does not call this never takes it.
func (s *Store) EnsureAdmin(ctx context.Context) (path string, err error) {
	path = filepath.Join(s.dir, adminName)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return path, fmt.Errorf("make the data folder: %w", err)
	}
	unlock, err := lock(ctx, s.dir, s.o.LockWait)
	if err != nil {
		return path, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	b, state, err := readPrivate(path, 4096)
	if err != nil {
		return path, fmt.Errorf("read the admin token: %w", err)
	}
	secret := strings.TrimSpace(string(b))
	if b == nil {
		if secret, _, err = generate(s.o.Rand); err != nil {
			return path, err
		}
		if err := writePrivate(s.dir, adminName, []byte(secret+"\n")); err != nil {
			return path, err
		}
		state.modified = s.o.Now()
	}
	if !wellFormed(secret) {
		return path, fmt.Errorf("%s does not hold a token; remove it to get a new one", path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admin = &Token{
		ID: idOf(secret), Name: "dev-admin", Scopes: Scopes{fixed: Admin},
		Created: state.modified.UTC(), hash: hashOf(secret),
	}
	now := s.table.Load()
	s.swap(now.list, now.state)
	return path, nil
}

// edit changes the list on disk under the lock of the folder, and then the one
// in force.
func (s *Store) edit(ctx context.Context, change func([]*Token) ([]*Token, error)) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	unlock, err := lock(ctx, s.dir, s.o.LockWait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	list, _, err := s.read()
	if err != nil {
		return err
	}
	if list, err = change(list); err != nil {
		return err
	}
	b, err := encodeFile(list)
	if err != nil {
		return err
	}
	if err := writePrivate(s.dir, fileName, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshLocked()
}

// read gives what the file holds now.
func (s *Store) read() ([]*Token, fileState, error) {
	b, state, err := readPrivate(s.path, maxFileBytes)
	if err != nil || b == nil {
		return nil, state, err
	}
	list, err := decodeFile(b)
	if err != nil {
		return nil, state, fmt.Errorf("read %s: %w", s.path, err)
	}
	return list, state, nil
}
