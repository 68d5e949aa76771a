package native_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/keys"
)

// failingRing is a key ring whose changes fail.
type failingRing struct{ err error }

func (failingRing) Policy(keys.Class) keys.Policy { return keys.Policy{} }

func (failingRing) Key(_ context.Context, id string) (keys.Info, error) {
	return keys.Info{Key: keys.Key{Name: id, Type: keys.AES256, Latest: 1}}, nil
}

func (r failingRing) Keys(context.Context, time.Duration) ([]keys.Info, error) { return nil, r.err }

func (r failingRing) Rotate(context.Context, keys.By, string) (keys.Key, error) {
	return keys.Key{}, r.err
}

func (r failingRing) SetNextRotation(context.Context, keys.By, string, time.Time) error { return r.err }

func (r failingRing) Compromise(context.Context, keys.By, string, uint32) (keys.Key, error) {
	return keys.Key{}, r.err
}

func (r failingRing) Retire(context.Context, keys.By, string, uint32) (keys.Key, error) {
	return keys.Key{}, r.err
}

func keyRoutes(ring native.KeyRing) http.Handler {
	r := chi.NewRouter()
	native.New(native.Options{Keys: &native.Keys{Ring: ring}}).Mount(r, func(api.Route) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return h }
	})
	return r
}

// TestKeyErrors shows the status and code of each error of the ring.
func TestKeyErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{keys.ErrKeyUnknown, 404, "key_unknown"},
		{keys.ErrKeyLost, 409, "key_lost"},
		{keys.ErrHeld, 409, "key_held"},
		{keys.ErrBusy, 409, "key_busy"},
		{keys.ErrNoEscrow, 409, "key_escrow_missing"},
		{keys.ErrKeyMismatch, 409, "key_mismatch"},
		{keys.ErrVersionDisallowed, 422, "key_version_disallowed"},
		{keys.ErrUnsupported, 422, "key_operation_unsupported"},
		{&keys.UnavailableError{Reason: keys.ReasonSealed, RetryAfter: 3 * time.Second}, 503, "keys_unavailable"},
		{&audit.UnavailableError{}, 503, "audit_unavailable"},
		{errors.New("canary"), 500, "internal_error"},
	} {
		routes := keyRoutes(failingRing{fmt.Errorf("doing: %w", test.err)})
		for _, path := range []string{"rotate", "compromise", "retire"} {
			w := httptest.NewRecorder()
			routes.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/keys/k/"+path, nil))
			if w.Code != test.status || !strings.Contains(w.Body.String(), `"code":"`+test.code+`"`) || strings.Contains(w.Body.String(), "canary") {
				t.Errorf("%s, %v: %d %s", path, test.err, w.Code, w.Body)
			}
			if w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
				t.Errorf("%s, %v: no Retry-After", path, test.err)
			}
		}
	}
}

func TestKeyBodies(t *testing.T) {
	routes := keyRoutes(failingRing{keys.ErrKeyUnknown})
	for _, test := range []struct{ method, path, body, field string }{
		{"POST", "compromise", `{"version": 0}`, "version"},
		{"POST", "compromise", `{"version": null}`, "version"},
		{"POST", "compromise", `{"version": -1}`, "version"},
		{"POST", "retire", `{"version": 4294967296}`, "version"},
		{"POST", "retire", `{"verson": 1}`, "verson"},
		{"POST", "rotate", `{"now": true}`, "now"},
		{"POST", "rotate", `{} {}`, ""},
		{"PUT", "next_rotation", ``, ""},
		{"PUT", "next_rotation", `{}`, "at"},
		{"PUT", "next_rotation", `{"at": "soon"}`, "at"},
		{"PUT", "next_rotation", `{"at": 1}`, "at"},
		{"PUT", "next_rotation", `{"at": "9999-01-01T00:00:00Z"}`, "at"},
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(test.method, "/api/v1/keys/k/"+test.path, strings.NewReader(test.body)))
		if w.Code != http.StatusBadRequest || test.field != "" && !strings.Contains(w.Body.String(), `"field":"`+test.field+`"`) || strings.Contains(w.Body.String(), "Go ") || strings.Contains(w.Body.String(), "2006") {
			t.Errorf("%s %.40s: %d %s", test.path, test.body, w.Code, w.Body)
		}
	}
	for _, path := range []string{"escrow", "recover"} {
		method := map[string]string{"escrow": "GET", "recover": "POST"}[path]
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(method, "/api/v1/keys/k/"+path, strings.NewReader(`{"shares": []}`)))
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "escrow_not_configured") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	routes.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/keys/master/rotate", nil))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "master_key_elsewhere") {
		t.Errorf("master key: %d %s", w.Code, w.Body)
	}
}
