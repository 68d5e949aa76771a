package native_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/audit"
)

// working is a verification that tells of its progress until it is ended.
func working(ctx context.Context, progress func(any)) (any, error) {
	for ctx.Err() == nil {
		progress(map[string]int{"read": 1})
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	return nil, ctx.Err()
}

// quietLog takes records of those who read it.
type quietLog struct{ native.Log }

func (quietLog) Append(context.Context, *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{}, nil
}

func (quietLog) Status() audit.Status { return audit.Status{} }

// stalled is a connection whose reader takes nothing: a write ends by its
// deadline.
type stalled struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (s *stalled) SetWriteDeadline(t time.Time) error {
	s.until = t
	return nil
}

func (s *stalled) Write([]byte) (int, error) {
	time.Sleep(time.Until(s.until))
	return 0, errors.New("i/o timeout")
}

// A reader that takes nothing ends what works for it.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := native.New(native.Options{Log: quietLog{}, Verify: working})
		r := chi.NewRouter()
		s.Mount(r, func(api.Route) func(http.Handler) http.Handler { return func(h http.Handler) http.Handler { return h } })
		start := time.Now()
		r.ServeHTTP(&stalled{ResponseRecorder: httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/audit/verify", nil))
		if took := time.Since(start); took < time.Second || took > time.Minute {
			t.Errorf("the verification went on for %s", took)
		}
	})
}

// A stream ends when its token is revoked, and when the server stops.
func TestStreamsEnd(t *testing.T) {
	for name, path := range map[string]string{"verify": "/api/v1/audit/verify", "follow": "/api/v1/audit/records?follow=true&from=0"} {
		for _, why := range []string{"revoked", "stopping"} {
			t.Run(name+" "+why, func(t *testing.T) {
				t.Parallel()
				plain := newSite(t, nil, nil)
				store, err := tokens.Open(t.TempDir(), tokens.Options{})
				if err != nil {
					t.Fatal(err)
				}
				secret, _, err := store.Create(t.Context(), tokens.NewToken{Name: "auditor", Scopes: []string{"audit:read"}})
				if err != nil {
					t.Fatal(err)
				}
				gate, err := api.NewGate(store, api.GateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				stopping := make(chan struct{})
				s := native.New(native.Options{Log: plain.log, Verify: working, Stopping: stopping})
				r := chi.NewRouter()
				s.Mount(r, gate.Require)
				server := httptest.NewServer(gate.Stack(api.Main, r))
				defer server.Close()
				q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				q.Header.Set("Authorization", "Bearer "+secret)
				resp, err := http.DefaultClient.Do(q)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%v %v", resp, err)
				}
				defer resp.Body.Close()
				lines := bufio.NewScanner(resp.Body)
				if !lines.Scan() {
					t.Fatalf("no line: %v", lines.Err())
				}
				want := "the server stops"
				if why == "stopping" {
					close(stopping)
				} else {
					want = "the caller may not ask any more"
					if _, err := store.Revoke(t.Context(), "auditor"); err != nil {
						t.Fatal(err)
					}
				}
				start, last := time.Now(), ""
				for lines.Scan() {
					last = lines.Text()
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("it went on for %s", took)
				}
				if name == "verify" && !strings.Contains(last, want) {
					t.Errorf("the last line is %s", last)
				}
			})
		}
	}
}
