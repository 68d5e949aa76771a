package issuer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verdict-pdp/verdict/identity/issuer"
	"github.com/verdict-pdp/verdict/internal/issuertest"
)

// server answers in place of the network, at the time that a test says it is.
type server struct {
	mu     sync.Mutex
	set    []byte
	header http.Header
	err    error
	slow   time.Duration
	asked  int
}

// RoundTrip implements http.RoundTripper.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked++
	set, header, err, slow := s.set, s.header, s.err, s.slow
	s.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if err != nil {
		return nil, err
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: 200, Header: header, Body: io.NopCloser(bytes.NewReader(set)), Request: r}, nil
}

func (s *server) change(f func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// inBubble runs a test with a verifier that fetches from s, in time of its own.
func inBubble(t *testing.T, s *server, f func(t *testing.T, v *issuer.Verifier)) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerifier(t, issuer.Options{Transport: s}, issuer.Config{
			Issuer: self, Audience: audience, Algorithms: []string{"ES256"}, JWKSURL: self + "/keys",
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }() // ended below
		f(t, v)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func tokenNow(k *issuertest.Key) string {
	return k.Sign(issuertest.Claims(self, audience, time.Now(), map[string]any{"jti": time.Now().UnixNano()}))
}

// TestRotation has an issuer take another key: its tokens are taken at once,
// those of the key that is gone no more, and who waits does not wait for long.
func TestRotation(t *testing.T) {
	t.Parallel()
	old, next := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "2", "ES256")
	s := &server{set: issuertest.Set(t, old)}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		kept := tokenNow(old)
		expect := func(when, token, want string) {
			t.Helper()
			if got := reason(t, v, token); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		expect("before the first fetch has ended", kept, "ok")
		if ready, configured := v.Ready(); ready != 1 || configured != 1 {
			t.Errorf("%d of %d issuers are ready", ready, configured)
		}
		s.change(func(s *server) { s.set = issuertest.Set(t, old, next) })
		began := time.Now()
		expect("a new key", tokenNow(next), "ok")
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		expect("the old key beside it", tokenNow(old), "ok")
		s.change(func(s *server) { s.set = issuertest.Set(t, next) })
		time.Sleep(11 * time.Minute) // its next fetch is then over
		expect("the old key, gone", tokenNow(old), "key_unknown")
		expect("the new key", tokenNow(next), "ok")
	})
}

// TestKeptToken shows that a token which was verified before is not taken once
// its key is gone.
func TestKeptToken(t *testing.T) {
	t.Parallel()
	old, next := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "2", "ES256")
	s := &server{set: issuertest.Set(t, old)}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		kept := tokenNow(old)
		for range 2 {
			if got := reason(t, v, kept); got != "ok" {
				t.Errorf("got %s", got)
			}
		}
		s.change(func(s *server) { s.set = issuertest.Set(t, next) })
		if got := reason(t, v, tokenNow(next)); got != "ok" { // has the keys fetched
			t.Errorf("got %s", got)
		}
		if got := reason(t, v, kept); got != "key_unknown" {
			t.Errorf("a kept token of a key that is gone: %s", got)
		}
	})
}

// TestStorm sends tokens with unknown keys from all sides: the issuer is asked a
// few times, nobody waits who need not, and a good token is verified meanwhile.
func TestStorm(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	s := &server{set: issuertest.Set(t, k), slow: time.Second}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		if got := reason(t, v, tokenNow(k)); got != "ok" {
			t.Errorf("got %s", got)
		}
		first := s.count()
		for range 30 {
			var group sync.WaitGroup
			for i := range 40 {
				group.Go(func() {
					began := time.Now()
					token := k.Sign(issuertest.Claims(self, audience, time.Now()), map[string]any{"kid": fmt.Sprint("made up ", i)})
					if got := reason(t, v, token); got != "key_unknown" {
						t.Errorf("got %s", got)
					}
					if took := time.Since(began); took > 2*time.Second {
						t.Errorf("a token waited for %s", took)
					}
				})
			}
			began := time.Now()
			if got := reason(t, v, tokenNow(k)); got != "ok" || time.Since(began) > 0 {
				t.Errorf("a good token: %s after %s", got, time.Since(began))
			}
			group.Wait()
			time.Sleep(time.Second)
		}
		if n := s.count() - first; n < 4 || n > 3+6+1 {
			t.Errorf("the issuer was asked %d times in a minute", n)
		}
	})
}

// TestInvalidAsksNobody sends tokens with unknown keys that are wrong otherwise:
// nobody is asked for them.
func TestInvalidAsksNobody(t *testing.T) {
	t.Parallel()
	k, stranger := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "2", "ES256")
	s := &server{set: issuertest.Set(t, k)}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		if got := reason(t, v, tokenNow(k)); got != "ok" {
			t.Errorf("got %s", got)
		}
		before := s.count()
		for claim, want := range map[string]string{"aud": "audience", "exp": "claims"} {
			token := stranger.Sign(issuertest.Claims(self, audience, time.Now(), map[string]any{claim: "x"}))
			if got := reason(t, v, token); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		if n := s.count() - before; n > 0 {
			t.Errorf("the issuer was asked %d times", n)
		}
	})
}

// TestServerDown has the issuer's server fail for a long time: what is known
// serves for a day, the server is asked less and less often, and all is well
// again when it is.
func TestServerDown(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	s := &server{set: issuertest.Set(t, k), err: errors.New("no route to host")}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		expect := func(when, want string) {
			t.Helper()
			if got := reason(t, v, tokenNow(k)); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		expect("at first", "keys_unavailable")
		if ready, _ := v.Ready(); ready != 0 {
			t.Error("it is said to be ready")
		}
		s.change(func(s *server) { s.err = nil })
		time.Sleep(time.Minute)
		expect("when it is up", "ok")
		s.change(func(s *server) { s.err = errors.New("connection refused") })
		before := s.count()
		time.Sleep(23 * time.Hour)
		if n := s.count() - before; n < 100 || n > 24*30+10 {
			t.Errorf("the server was asked %d times in a day", n)
		}
		expect("after 23 hours", "ok")
		time.Sleep(2 * time.Hour)
		expect("after 25 hours", "keys_unavailable")
		s.change(func(s *server) { s.err = nil })
		time.Sleep(3 * time.Minute)
		expect("up again", "ok")
	})
}

// TestServerSlow has the server hang: a token waits for a bounded time, and as
// long as its request lasts.
func TestServerSlow(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	s := &server{set: issuertest.Set(t, k), slow: time.Hour}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		began := time.Now()
		if got := reason(t, v, tokenNow(k)); got != "keys_unavailable" {
			t.Errorf("got %s", got)
		}
		if took := time.Since(began); took != issuer.DefaultWait {
			t.Errorf("it took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began = time.Now()
		if _, err := v.Verify(ctx, tokenNow(k)); err == nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestFreshness asks for the keys as often as the answer's header says, within
// bounds.
func TestFreshness(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	for _, tt := range []struct {
		control string
		most    int // fetches in two hours
		least   int
	}{
		{"", 13, 12},
		{"max-age=1800", 5, 4},
		{"public, Max-Age=\"1800\"", 5, 4},
		{"max-age=1", 121, 110},
		{"max-age=0, must-revalidate", 121, 110},
		{"no-store", 121, 110},
		{"max-age=99999999", 3, 2},
		{"max-age=-5", 121, 110},
		{"max-age=999999999999999999999", 121, 110},
		{"s-maxage=5", 13, 12},
	} {
		t.Run(tt.control, func(t *testing.T) {
			s := &server{set: issuertest.Set(t, k), header: http.Header{"Cache-Control": {tt.control}}}
			inBubble(t, s, func(t *testing.T, _ *issuer.Verifier) {
				time.Sleep(2 * time.Hour)
				if n := s.count(); n < tt.least || n > tt.most {
					t.Errorf("fetched %d times in two hours, want %d to %d", n, tt.least, tt.most)
				}
			})
		})
	}
}

// TestOverHTTP fetches from a real server what must not be taken.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	set := issuertest.Set(t, k)
	elsewhere := issuertest.Serve(t, set)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"good", nil, "ok"},
		{"a redirect within the server", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				http.Redirect(w, r, "/other", http.StatusFound)
				return
			}
			_, _ = w.Write(set)
		}, "ok"},
		{"a redirect to another server", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/keys", http.StatusFound)
		}, "keys_unavailable"},
		{"a redirect to another scheme", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+"/keys", http.StatusFound)
		}, "keys_unavailable"},
		{"redirects without end", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/keys", http.StatusFound)
		}, "keys_unavailable"},
		{"10 MB", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(append(set[:len(set)-1:len(set)-1], []byte(`,"pad":"`+strings.Repeat("x", 10<<20)+`"}`)...))
		}, "keys_unavailable"},
		{"without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		}, "keys_unavailable"},
		{"not found, with keys", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(set)
		}, "keys_unavailable"},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "keys_unavailable"},
		{"a large header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Pad", strings.Repeat("x", 100<<10))
			_, _ = w.Write(set)
		}, "keys_unavailable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := issuertest.Serve(t, set)
			s.Answer(tt.answer)
			v := newVerifier(t, issuer.Options{}, issuer.Config{Issuer: s.URL, Audience: audience, Algorithms: []string{"ES256"}, JWKSURL: s.URL + "/keys"})
			run(t, v)
			if got := reason(t, v, k.Sign(issuertest.Claims(s.URL, audience, time.Now()))); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	if n := elsewhere.Asked(); n > 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}

// TestFileReload changes a file: it is read again within seconds, a bad one
// leaves what was there, and a change is told of.
func TestFileReload(t *testing.T) {
	t.Parallel()
	old, next := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "2", "ES256")
	name := issuertest.File(t, issuertest.Set(t, old))
	synctest.Test(t, func(t *testing.T) {
		var told []issuer.Change
		v := newVerifier(t, issuer.Options{Changed: func(_ context.Context, c issuer.Change) error {
			told = append(told, c)
			return nil
		}}, configOf(name, "ES256"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }() // ended below
		write := func(content []byte) {
			t.Helper()
			if err := os.WriteFile(name+".new", content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name+".new", name); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		expect := func(when string, k *issuertest.Key, want string) {
			t.Helper()
			if got := reason(t, v, tokenNow(k)); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		expect("at first", old, "ok")
		write(issuertest.Set(t, next))
		expect("the new key", next, "ok")
		expect("the old key", old, "key_unknown")
		write([]byte("{"))
		expect("a broken file", next, "ok")
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		expect("no file", next, "ok")
		write(issuertest.Set(t, next, old))
		expect("both keys", old, "ok")
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(told) != 2 || !slices.Equal(told[0].Added, []string{"2"}) || !slices.Equal(told[0].Removed, []string{"1"}) || !slices.Equal(told[1].Added, []string{"1"}) {
			t.Errorf("told of %+v", told)
		}
	})
}

// TestUnrecordedKeys wants no key to be used before who is told has taken note of
// it, and to be told again.
func TestUnrecordedKeys(t *testing.T) {
	t.Parallel()
	old, next := issuertest.NewKey(t, "1", "ES256"), issuertest.NewKey(t, "2", "ES256")
	name := issuertest.File(t, issuertest.Set(t, old))
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		v := newVerifier(t, issuer.Options{Changed: func(context.Context, issuer.Change) error {
			if full.Load() {
				return errors.New("the log is full")
			}
			return nil
		}}, configOf(name, "ES256"))
		run(t, v)
		full.Store(true)
		if err := os.WriteFile(name, issuertest.Set(t, next), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, want := range [][2]string{{"ok", "key_unknown"}, {"key_unknown", "ok"}} {
			time.Sleep(10 * time.Minute)
			if got := [2]string{reason(t, v, tokenNow(old)), reason(t, v, tokenNow(next))}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			full.Store(false)
		}
	})
}

// TestPrepareKeepsKeys changes something else of an issuer: its keys stay.
func TestPrepareKeepsKeys(t *testing.T) {
	t.Parallel()
	k := issuertest.NewKey(t, "1", "ES256")
	s := &server{set: issuertest.Set(t, k)}
	inBubble(t, s, func(t *testing.T, v *issuer.Verifier) {
		if got := reason(t, v, tokenNow(k)); got != "ok" {
			t.Errorf("got %s", got)
		}
		s.change(func(s *server) { s.err = errors.New("down") })
		commit, err := v.Prepare([]issuer.Config{{Issuer: self, Audience: "other", Algorithms: []string{"ES256"}, JWKSURL: self + "/keys"}})
		if err != nil {
			t.Fatal(err)
		}
		commit()
		if got := reason(t, v, tokenNow(k)); got != "audience" {
			t.Errorf("got %s", got)
		}
	})
}
