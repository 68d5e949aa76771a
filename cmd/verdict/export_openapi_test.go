package main

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/verdict-pdp/verdict/api"
)

// Routes mounts the routes of a server in development mode with another guard,
// and lists those of OPA's API, which the router does not know by name.
func Routes(t testing.TB, require func(api.Route) func(http.Handler) http.Handler) (chi.Router, []string) {
	t.Helper()
	c, _, err := Load([]string{"--dev", "--data-dir", t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(c, &process{stdout: io.Discard, stderr: io.Discard, now: time.Now}, zerolog.Nop(), runtimeSettings{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	r := chi.NewRouter()
	a.mount(require)(api.Main, r)
	return r, a.opa.Patterns(require)
}
