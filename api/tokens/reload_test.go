package tokens_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/api/tokens"
)

func TestReloadOnDemand(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	server := open(t, dir, tokens.Options{Now: now.Now})
	cli := open(t, dir, tokens.Options{Now: now.Now})
	path := filepath.Join(dir, "tokens.json")
	secret := create(t, cli, "a", "decide")

	if _, err := server.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Fatalf("looked again at once: %v", err)
	}
	now.Advance(tokens.DefaultCheckEvery)
	if _, err := server.Lookup(secret); err != nil {
		t.Fatalf("not taken: %v", err)
	}

	// A version that cannot be taken leaves the old one, and says so.
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, breakIt := range []func() error{
		func() error { return os.WriteFile(path, []byte("{"), 0o600) },
		func() error { return os.Chmod(path, 0o644) },
	} {
		if err := breakIt(); err != nil {
			t.Fatal(err)
		}
		now.Advance(tokens.DefaultCheckEvery)
		if _, err := server.Lookup(secret); err != nil || server.Err() == nil {
			t.Errorf("broken file: lookup %v, state %v", err, server.Err())
		}
		if _, err := server.Prepare(); err == nil {
			t.Error("a broken file was prepared")
		}
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, good, 0o600)); err != nil {
		t.Fatal(err)
	}
	now.Advance(tokens.DefaultCheckEvery)
	if _, err := server.Lookup(secret); err != nil || server.Err() != nil {
		t.Errorf("mended file: lookup %v, state %v", err, server.Err())
	}

	now.Advance(-time.Hour) // a clock that goes back does not stop it
	if _, err := cli.Revoke(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("after revocation: %v", err)
	}
	secret = create(t, cli, "b", "decide")
	now.Advance(tokens.DefaultCheckEvery)
	if _, err := server.Lookup(secret); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now.Advance(tokens.DefaultCheckEvery)
	if _, err := server.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("after removal of the file: %v", err)
	}
}

func TestPrepare(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	server := open(t, dir, tokens.Options{Now: now.Now})
	secret := create(t, open(t, dir, tokens.Options{}), "a", "decide")
	commit, err := server.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("before commit: %v", err)
	}
	commit()
	if _, err := server.Lookup(secret); err != nil {
		t.Errorf("after commit: %v", err)
	}
}

// What is revoked between the two steps of a reload stays revoked.
func TestCommitTakesNoOldFile(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	cli := open(t, dir, tokens.Options{})
	secret := create(t, cli, "a", "decide")
	server := open(t, dir, tokens.Options{Now: now.Now})
	commit, err := server.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Revoke(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	commit()
	if _, err := server.Lookup(secret); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("the revoked token: %v", err)
	}
}

// told collects what Changed is told.
type told struct {
	mu   sync.Mutex
	fail bool
	got  chan [2][]string
}

func (c *told) changed(_ context.Context, added, revoked []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail {
		c.fail = false
		c.got <- [2][]string{{"failed"}, nil}
		return errors.New("no room")
	}
	c.got <- [2][]string{added, revoked}
	return nil
}

func (c *told) want(t *testing.T, added, revoked []string) {
	t.Helper()
	select {
	case got := <-c.got:
		slices.Sort(got[0])
		if !reflect.DeepEqual(got, [2][]string{added, revoked}) {
			t.Errorf("told %q, want %q", got, [2][]string{added, revoked})
		}
	case <-time.After(time.Minute):
		t.Fatalf("not told of %q %q", added, revoked)
	}
}

func TestRunTells(t *testing.T) {
	dir := t.TempDir()
	cli := open(t, dir, tokens.Options{})
	create(t, cli, "a", "decide")
	create(t, cli, "b", "decide")
	c := &told{got: make(chan [2][]string, 16)}
	serve := func() (stop func()) {
		s := open(t, dir, tokens.Options{Changed: c.changed, Poll: time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }() // ended by stop
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	stop := serve()
	c.want(t, []string{"a", "b"}, nil)
	create(t, cli, "c", "decide")
	c.want(t, []string{"c"}, nil)
	if _, err := cli.Revoke(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	c.want(t, nil, []string{"a"})
	stop()

	// What happens while no server runs is told at the next start.
	if _, err := cli.Revoke(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	create(t, cli, "b", "admin") // the same name, another token
	c.mu.Lock()
	c.fail = true
	c.mu.Unlock()
	stop = serve()
	c.want(t, []string{"failed"}, nil)
	c.want(t, []string{"b"}, []string{"b"}) // once more, since it could not be recorded
	stop()
	stop = serve()
	create(t, cli, "d", "decide")
	c.want(t, []string{"d"}, nil)
	stop()
	if len(c.got) != 0 {
		t.Errorf("told too often: %q", <-c.got)
	}
}

func TestManyWriters(t *testing.T) {
	dir, now := t.TempDir(), newClock()
	server := open(t, dir, tokens.Options{Now: now.Now})
	const writers, each = 4, 5
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			s := open(t, dir, tokens.Options{LockWait: time.Minute})
			for i := range each {
				name := fmt.Sprintf("%d-%d", w, i)
				secret, _, err := s.Create(t.Context(), tokens.NewToken{Name: name, Scopes: []string{"decide"}})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Lookup(secret); err != nil {
					t.Errorf("%s: own token: %v", name, err)
				}
				if i%2 == 1 {
					if _, err := s.Revoke(t.Context(), name); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	stop := make(chan struct{})
	keep := create(t, server, "keep", "decide")
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				now.Advance(tokens.DefaultCheckEvery)
				if _, err := server.Lookup(keep); err != nil {
					t.Errorf("keep: %v", err)
					return
				}
				server.List()
			}
		}
	})
	writing.Wait()
	close(stop)
	reading.Wait()
	now.Advance(tokens.DefaultCheckEvery)
	if _, err := server.Lookup(keep); err != nil || len(server.List()) != writers*3+1 {
		t.Errorf("%d tokens, %v", len(server.List()), err)
	}
}
