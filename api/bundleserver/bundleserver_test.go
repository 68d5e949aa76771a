package bundleserver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/bundleserver"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/bundles"
)

// shelf has one bundle, shop; its archive may be any text.
type shelf struct {
	mu      sync.Mutex
	archive string // empty: none is active
	changed chan struct{}
	err     error // of Watch
	lost    error // of Archive
}

func newShelf(archive string) *shelf {
	return &shelf{archive: archive, changed: make(chan struct{})}
}

// activate makes another archive the active one; the same again stands for an
// activation of another bundle.
func (s *shelf) activate(archive string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.archive = archive
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shelf) revision(name string) *bundles.Revision {
	r := &bundles.Revision{Name: name, Revision: "r-" + s.archive}
	r.Archive.SHA256 = strings.Trim(tagOf(s.archive), `"`)
	return r
}

// Watch implements bundleserver.Bundles.
func (s *shelf) Watch(_ context.Context, name string) (*bundles.Revision, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, nil, s.err
	case name != "shop", s.archive == "":
		return nil, nil, &bundles.Error{Code: bundles.CodeNotFound, Message: "no revision of it is active"}
	}
	return s.revision(name), s.changed, nil
}

// Archive implements bundleserver.Bundles.
func (s *shelf) Archive(_ context.Context, name, _ string) (*bundles.Revision, io.ReadSeekCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost != nil {
		return nil, nil, s.lost
	}
	return s.revision(name), file{bytes.NewReader([]byte(s.archive))}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func tagOf(archive string) string {
	sum := sha256.Sum256([]byte(archive))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func router(s *shelf, o bundleserver.Options) http.Handler {
	r := chi.NewRouter()
	bundleserver.New(s, o).Mount(r, func(rt api.Route) func(http.Handler) http.Handler {
		if rt.Class != api.ClassBundleRead || rt.Bundle == nil {
			panic("the route is open to others")
		}
		return func(h http.Handler) http.Handler { return h }
	})
	return r
}

// ask asks in the form of headers "Name: value".
func ask(ctx context.Context, h http.Handler, method, path string, fields ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, path, http.NoBody)
	for _, field := range fields {
		key, value, _ := strings.Cut(field, ": ")
		r.Header.Add(key, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPull(t *testing.T) {
	t.Parallel()
	h := router(newShelf("one"), bundleserver.Options{})
	has := "If-None-Match: " + tagOf("one")
	for _, tt := range []struct {
		name, method, path string
		fields             []string
		status             int
		body               string
	}{
		{"all", http.MethodGet, "/bundles/shop", nil, http.StatusOK, "one"},
		{"as OPA asks first", http.MethodGet, "/bundles/shop", []string{"If-None-Match: ", "Prefer: modes=snapshot,delta;wait=30"}, http.StatusOK, "one"},
		{"head", http.MethodHead, "/bundles/shop", nil, http.StatusOK, ""},
		{"head never waits", http.MethodHead, "/bundles/shop", []string{has, "Prefer: wait=30"}, http.StatusNotModified, ""},
		{"has it", http.MethodGet, "/bundles/shop", []string{has}, http.StatusNotModified, ""},
		{"has it, weak", http.MethodGet, "/bundles/shop", []string{"If-None-Match: W/" + tagOf("one")}, http.StatusNotModified, ""},
		{"has any", http.MethodGet, "/bundles/shop", []string{"If-None-Match: *"}, http.StatusNotModified, ""},
		{"had it", http.MethodGet, "/bundles/shop", []string{"If-None-Match: " + tagOf("two") + ", " + tagOf("one")}, http.StatusNotModified, ""},
		{"has another", http.MethodGet, "/bundles/shop", []string{"If-None-Match: " + tagOf("two"), "Prefer: wait=30"}, http.StatusOK, "one"},
		{"no wait", http.MethodGet, "/bundles/shop", []string{has, "Prefer: modes=snapshot,delta"}, http.StatusNotModified, ""},
		{"wait 0", http.MethodGet, "/bundles/shop", []string{has, "Prefer: wait=0"}, http.StatusNotModified, ""},
		{"wait below 0", http.MethodGet, "/bundles/shop", []string{has, "Prefer: wait=-1"}, http.StatusNotModified, ""},
		{"wait no number", http.MethodGet, "/bundles/shop", []string{has, "Prefer: wait=1s"}, http.StatusNotModified, ""},
		{"wait too large a number", http.MethodGet, "/bundles/shop", []string{has, "Prefer: wait=99999999999999999999"}, http.StatusNotModified, ""},
		{"part", http.MethodGet, "/bundles/shop", []string{"Range: bytes=1-"}, http.StatusPartialContent, "ne"},
		{"another bundle", http.MethodGet, "/bundles/other", nil, http.StatusNotFound, `"code":"not_found"`},
		{"escaped", http.MethodGet, "/bundles/sh%6Fp%2F", nil, http.StatusNotFound, `"code":"not_found"`},
		{"method", http.MethodPut, "/bundles/shop", nil, http.StatusMethodNotAllowed, ""},
	} {
		w := ask(t.Context(), h, tt.method, tt.path, tt.fields...)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) || (tt.body == "" && w.Body.Len() > 0) {
			t.Errorf("%s: %d %q, want %d %q", tt.name, w.Code, w.Body, tt.status, tt.body)
		}
		tagged := w.Code == http.StatusOK || w.Code == http.StatusNotModified || w.Code == http.StatusPartialContent
		if got := w.Header().Get("ETag"); tagged != (got == tagOf("one")) {
			t.Errorf("%s: ETag %q", tt.name, got)
		}
		if w.Code == http.StatusOK && (w.Header().Get("Content-Length") != strconv.Itoa(len("one")) ||
			w.Header().Get("Content-Type") != "application/vnd.openpolicyagent.bundles" || w.Header().Get("Repr-Digest") == "") {
			t.Errorf("%s: %v", tt.name, w.Header())
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	broken := newShelf("one")
	broken.err = errors.New("the disk at /secret")
	damaged := newShelf("one")
	damaged.lost = bundles.ErrDamaged
	for name, s := range map[string]*shelf{"store": broken, "archive": damaged} {
		w := ask(t.Context(), router(s, bundleserver.Options{}), http.MethodGet, "/bundles/shop")
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), `"internal_error"`) ||
			strings.Contains(w.Body.String(), "secret") || w.Header().Get("ETag") != "" {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	fields := []string{"If-None-Match: " + tagOf("one"), "Prefer: modes=snapshot,delta;wait=30"}
	for _, tt := range []struct {
		name   string
		fields []string
		then   func(s *shelf, stop, leave func()) // after 10 s
		after  time.Duration
		status int
		body   string
	}{
		{"nothing happens", fields, nil, 30 * time.Second, http.StatusNotModified, ""},
		{"bounded", []string{fields[0], "Prefer: wait=\"100000\""}, nil, bundleserver.MaxWait, http.StatusNotModified, ""},
		{"other fields", []string{fields[0], "Prefer: respond-async, Wait = 20"}, nil, 20 * time.Second, http.StatusNotModified, ""},
		{"activation", fields, func(s *shelf, _, _ func()) { s.activate("two") }, 10 * time.Second, http.StatusOK, "two"},
		{"activation of another bundle", fields, func(s *shelf, _, _ func()) { s.activate("one") }, 30 * time.Second, http.StatusNotModified, ""},
		{"taken out", fields, func(s *shelf, _, _ func()) { s.activate("") }, 10 * time.Second, http.StatusNotFound, "not_found"},
		{"the server stops", fields, func(_ *shelf, stop, _ func()) { stop() }, 10 * time.Second, http.StatusNotModified, ""},
		{"the agent goes away", fields, func(_ *shelf, _, leave func()) { leave() }, 10 * time.Second, http.StatusNotModified, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, stopping := newShelf("one"), make(chan struct{})
				h := router(s, bundleserver.Options{Stopping: stopping})
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if tt.then != nil {
					time.AfterFunc(10*time.Second, func() { tt.then(s, func() { close(stopping) }, leave) })
				}
				start := time.Now()
				w := ask(ctx, h, http.MethodGet, "/bundles/shop", tt.fields...)
				if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) || time.Since(start) != tt.after {
					t.Errorf("after %s: %d %q", time.Since(start), w.Code, w.Body)
				}
			})
		})
	}
}

// TestWaiters: one too many gets the archive, and is told not to wait.
func TestWaiters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf("one")
		h := router(s, bundleserver.Options{Waiters: 2})
		fields := []string{"If-None-Match: " + tagOf("one"), "Prefer: wait=30"}
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if w := ask(t.Context(), h, http.MethodGet, "/bundles/shop", fields...); w.Code != http.StatusNotModified {
					t.Errorf("one that waits: %d", w.Code)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		w := ask(t.Context(), h, http.MethodGet, "/bundles/shop", fields...)
		if w.Code != http.StatusOK || w.Body.String() != "one" || w.Header().Get("Content-Type") != "application/gzip" || time.Since(start) != 0 {
			t.Errorf("one too many: %d %q %v after %s", w.Code, w.Body, w.Header(), time.Since(start))
		}
		group.Wait()
		ask(t.Context(), h, http.MethodGet, "/bundles/shop", fields...)
		if time.Since(start) != time.Minute {
			t.Errorf("a slot is not free again: %s", time.Since(start))
		}
	})
}

// TestRevokedWaiter: who waits is told once its token is revoked.
func TestRevokedWaiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, err := tokens.Open(t.TempDir(), tokens.Options{})
		if err != nil {
			t.Fatal(err)
		}
		secret, _, err := store.Create(t.Context(), tokens.NewToken{Name: "agent", Scopes: []string{"bundles:shop:read"}})
		if err != nil {
			t.Fatal(err)
		}
		gate, err := api.NewGate(store, api.GateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := chi.NewRouter()
		bundleserver.New(newShelf("one"), bundleserver.Options{}).Mount(r, gate.Require)
		time.AfterFunc(10*time.Second+time.Millisecond, func() {
			if _, err := store.Revoke(context.Background(), "agent"); err != nil {
				t.Error(err)
			}
		})
		start := time.Now()
		w := ask(t.Context(), gate.Stack(api.Main, r), http.MethodGet, "/bundles/shop", "If-None-Match: "+tagOf("one"), "Prefer: wait=30", "Authorization: Bearer "+secret)
		if w.Code != http.StatusUnauthorized || time.Since(start) != 11*time.Second || w.Header().Get("ETag") != "" || !strings.Contains(w.Header().Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("after %s: %d %q", time.Since(start), w.Code, w.Body)
		}
	})
}
