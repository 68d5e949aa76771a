package tokens_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api/tokens"
)

// clock is a clock that only the test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) Advance(d time.Duration) { c.ns.Add(int64(d)) }

func open(t *testing.T, dir string, o tokens.Options) *tokens.Store {
	t.Helper()
	s, err := tokens.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *tokens.Store, name string, scopes ...string) string {
	t.Helper()
	secret, _, err := s.Create(t.Context(), tokens.NewToken{Name: name, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestCreateLookupRevoke(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "data"), newClock()
	s := open(t, dir, tokens.Options{Now: now.Now})
	secret, made, err := s.Create(t.Context(), tokens.NewToken{
		Name: "pep 1", Scopes: []string{"decide"}, Expires: now.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret, "verdict_"+made.ID+"_") || len(secret) != len("verdict_")+12+1+43 {
		t.Errorf("token %q, id %s", secret, made.ID)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "tokens.json"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(secret))
	if bytes.Contains(raw, []byte(secret[21:])) || !bytes.Contains(raw, []byte(hex.EncodeToString(sum[:]))) {
		t.Errorf("the file must hold the hash and not the secret:\n%s", raw)
	}
	for _, name := range []string{"tokens.json", "tokens.lock"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	got, err := s.Lookup(secret)
	if err != nil || got.Name != "pep 1" || !got.Scopes.Has(tokens.Decide) {
		t.Fatalf("lookup: %+v, %v", got, err)
	}
	if list := s.List(); len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("list: %+v", list)
	}
	now.Advance(time.Hour - 1)
	if _, err := s.Lookup(secret); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	now.Advance(1)
	if _, err := s.Lookup(secret); !errors.Is(err, tokens.ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	if gone, err := s.Revoke(t.Context(), "pep 1"); err != nil || gone.ID != made.ID {
		t.Errorf("revoke: %+v, %v", gone, err)
	}
	if _, err := s.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("after revocation: %v", err)
	}
	if _, err := s.Revoke(t.Context(), made.ID); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestLookupRefuses(t *testing.T) {
	s := open(t, t.TempDir(), tokens.Options{})
	secret := create(t, s, "a", "decide")
	other := create(t, s, "b", "decide")
	flip := []byte(secret)
	flip[len(flip)-1] ^= 1
	for _, bad := range []string{
		"", "x", secret + "x", secret[:len(secret)-1], " " + secret[1:], string(flip), strings.ToUpper(secret),
		secret[:21] + other[21:], other[:21] + secret[21:], strings.Repeat("a", 1<<16),
		strings.Repeat("\x00", len(secret)),
	} {
		if got, err := s.Lookup(bad); !errors.Is(err, tokens.ErrUnknown) || got != nil {
			t.Errorf("%.80q: %v, %v", bad, got, err)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	now := newClock()
	s := open(t, t.TempDir(), tokens.Options{Now: now.Now})
	secret := create(t, s, "a", "decide")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.Lookup(secret); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCreateRefuses(t *testing.T) {
	now := newClock()
	s := open(t, t.TempDir(), tokens.Options{Now: now.Now})
	create(t, s, "taken", "decide")
	for name, tc := range map[string]struct {
		token tokens.NewToken
		want  error
	}{
		"no name":         {tokens.NewToken{Scopes: []string{"decide"}}, tokens.ErrName},
		"long name":       {tokens.NewToken{Name: strings.Repeat("x", 129), Scopes: []string{"decide"}}, tokens.ErrName},
		"control in name": {tokens.NewToken{Name: "a\nb", Scopes: []string{"decide"}}, tokens.ErrName},
		"taken":           {tokens.NewToken{Name: "taken", Scopes: []string{"decide"}}, tokens.ErrName},
		"no scope":        {tokens.NewToken{Name: "x"}, tokens.ErrScope},
		"unknown scope":   {tokens.NewToken{Name: "x", Scopes: []string{"root"}}, tokens.ErrScope},
		"in the past":     {tokens.NewToken{Name: "x", Scopes: []string{"decide"}, Expires: now.Now()}, nil},
	} {
		secret, _, err := s.Create(t.Context(), tc.token)
		if err == nil || secret != "" || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: %q, %v", name, secret, err)
		}
	}
	if n := len(s.List()); n != 1 {
		t.Errorf("%d tokens", n)
	}
	broken := open(t, t.TempDir(), tokens.Options{Rand: strings.NewReader("short")})
	if _, _, err := broken.Create(t.Context(), tokens.NewToken{Name: "x", Scopes: []string{"decide"}}); err == nil {
		t.Error("a token without enough chance")
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		want    error
	}{
		"group may read": {`{"format":1,"tokens":[]}`, 0o640, tokens.ErrPermissions},
		"all may write":  {`{"format":1,"tokens":[]}`, 0o602, tokens.ErrPermissions},
		"empty":          {"", 0o600, tokens.ErrFile},
		"newer":          {`{"format":2,"tokens":[],"more":1}`, 0o600, tokens.ErrFile},
		"two documents":  {`{"format":1,"tokens":[]}{}`, 0o600, tokens.ErrFile},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "tokens.json")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := tokens.Open(dir, tokens.Options{}); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Open(dir, tokens.Options{}); err == nil {
		t.Error("a folder was taken for the file")
	}
}

func TestEnsureAdmin(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, tokens.Options{})
	path, err := s.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 || path != filepath.Join(dir, "admin.token") {
		t.Errorf("%s %v", path, info.Mode())
	}
	secret := strings.TrimSpace(string(b))
	got, err := s.Lookup(secret)
	if err != nil || !got.Scopes.Has(tokens.KeysDecrypt) || !got.Scopes.MayPush("x") {
		t.Fatalf("%+v %v", got, err)
	}
	create(t, s, "admin", "decide") // a change of the file keeps it
	if _, err := s.Lookup(secret); err != nil {
		t.Error(err)
	}
	again := open(t, dir, tokens.Options{})
	if _, err := again.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("taken without EnsureAdmin: %v", err)
	}
	if _, err := again.EnsureAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Lookup(secret); err != nil {
		t.Errorf("not kept over a restart: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := again.EnsureAdmin(t.Context()); !errors.Is(err, tokens.ErrPermissions) {
		t.Errorf("loose: %v", err)
	}
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := again.EnsureAdmin(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("not a token: %v", err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, tokens.Options{LockWait: 50 * time.Millisecond})
	unlock, err := tokens.Lock(t.Context(), dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create(t.Context(), tokens.NewToken{Name: "a", Scopes: []string{"decide"}}); !errors.Is(err, tokens.ErrLocked) {
		t.Errorf("while locked: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.EnsureAdmin(ctx); !errors.Is(err, tokens.ErrLocked) {
		t.Errorf("given up: %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "decide")
}

// TestCreatedBy shows that a token remembers by which others it came to be, also
// after those were revoked.
func TestCreatedBy(t *testing.T) {
	dir := t.TempDir()
	s, err := tokens.Open(dir, tokens.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, n := range []tokens.NewToken{{Name: "a"}, {Name: "b", CreatedBy: "a"}, {Name: "c", CreatedBy: "b"}} {
		n.Scopes = []string{"admin"}
		_, made, err := s.Create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		ids[n.Name] = made.ID
	}
	if _, err := s.Revoke(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if s, err = tokens.Open(dir, tokens.Options{}); err != nil {
		t.Fatal(err)
	}
	list := s.List()
	if len(list) != 2 || len(list[0].CreatedBy) != 0 || !slices.Equal(list[1].CreatedBy, []string{ids["b"], ids["a"]}) {
		t.Errorf("%+v", list)
	}
	_, _, err = s.Create(t.Context(), tokens.NewToken{Name: "d", Scopes: []string{"admin"}, CreatedBy: "b"})
	if !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a creator that is gone: %v", err)
	}
}
