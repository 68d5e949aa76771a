package native_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
	"github.com/verdict-pdp/verdict/keys/keystest"
)

// asked counts the questions for a key set, and fails on demand.
type asked struct {
	*jose.Signer
	calls int
	err   error
}

func (a *asked) Set(ctx context.Context) (jose.Set, error) {
	if a.calls++; a.err != nil {
		return jose.Set{}, a.err
	}
	return a.Signer.Set(ctx)
}

func TestKeySet(t *testing.T) {
	ring, _ := keystest.Ring(t, keystest.Local(t), keys.Options{})
	id := ring.ID("jwt")
	signer, err := jose.NewSigner(ring, id, keys.ES256, jose.Options{})
	if err != nil {
		t.Fatal(err)
	}
	now, set := time.Now(), &asked{Signer: signer}
	r := chi.NewRouter()
	native.New(native.Options{KeySet: set, Now: func() time.Time { return now }}).Mount(r, func(route api.Route) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return h }
	})
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
		return w
	}
	for range 10 {
		if w := get(); w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("before there is a key: %d %v", w.Code, w.Header())
		}
	}
	if set.calls != 1 {
		t.Errorf("asked %d times in one moment", set.calls)
	}

	if _, err := ring.EnsureKey(t.Context(), keys.By{}, id, keys.ECDSAP256); err != nil {
		t.Fatal(err)
	}
	now = now.Add(6 * time.Second)
	w := get()
	var got jose.Set
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Keys) != 1 || got.Keys[0].KeyID != id+":1" || got.Keys[0].Algorithm != "ES256" {
		t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
	if h := w.Header(); h.Get("Content-Type") != "application/jwk-set+json" || h.Get("Cache-Control") != "max-age=300" {
		t.Errorf("header %v", h)
	}

	// A compromised version is gone with the next answer.
	if _, err := ring.Compromise(t.Context(), keys.By{}, id, 0); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(get().Body.Bytes(), &got); err != nil || len(got.Keys) != 1 || got.Keys[0].KeyID != id+":2" {
		t.Errorf("after a compromise %v: %v", got, err)
	}

	set.err = errors.Join(errors.New("canary"), &keys.UnavailableError{Reason: keys.ReasonSealed})
	if w := get(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("sealed: %d %s", w.Code, w.Body)
	}
}
