package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestReload changes the configuration of a running server, and tries to change
// what cannot be changed.
func TestReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "verdict.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("server: {open: []}\n")
	o := servertest.Options{Dir: t.TempDir(), Strict: true, Args: []string{
		"--standard-policies=false", "--bundle", testBundle(t), "--config", file,
	}}
	token := newToken(t, o.Dir, "gateway", "decide")
	s := servertest.Start(t, o)
	status := func(token string, pad int) int {
		return s.Do(servertest.Request{Path: "/v1/data/app/echo", Token: token, Body: map[string]any{"input": strings.Repeat("x", pad)}}).Status
	}
	want := func(when string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", when, got, want)
		}
	}
	want("closed, without a token", status("", 1), http.StatusUnauthorized)
	want("closed, with a token", status(token, 10_000), http.StatusOK)

	write("server: {open: [decide]}\nlimits: {request_body: 8KiB}\n")
	hangUp(t, s, "read again\"")
	want("open", status("", 1), http.StatusOK)
	want("a smaller limit", status("", 10_000), http.StatusBadRequest)

	for _, c := range []struct{ text, key string }{
		{"server: {open: []}\naudit: {queue_wait: 9s}\n", "audit.queue_wait"},
		{"server: {open: [], max_in_flight: 3}\n", "server.max_in_flight"},
		{"server: {open: []}\nlimits: {depth: -1}\n", "limits.depth"},
		{"server: {open: []}\nlimits: {deth: 9}\n", "limits.deth"},
		{"server: {open: [everything]}\n", "server.open"},
		{"server: {open: []\n", "verdict.yaml"},
		{"server: {open: []}\ndata_dir: /elsewhere\n", ""}, // --data-dir wins: nothing changes
	} {
		write(c.text)
		if c.key == "" {
			continue
		}
		before := len(s.Stderr())
		hangUp(t, s, "the old one stays")
		if said := s.Stderr()[before:]; !strings.Contains(said, c.key) {
			t.Errorf("%q is refused without naming %s:\n%s", c.text, c.key, said)
		}
		want("after a refused change", status("", 1), http.StatusOK)
	}

	write("server: {open: []}\n")
	hangUp(t, s, "read again\"")
	want("closed again", status("", 1), http.StatusUnauthorized)
	want("the limit is back", status(token, 10_000), http.StatusOK)
	if _, stderr, code := servertest.Run(t, "token", "revoke", "gateway", "--data-dir", o.Dir); code != 0 {
		t.Fatal(stderr)
	}
	hangUp(t, s, "read again\"")
	want("a revoked token", status(token, 1), http.StatusUnauthorized)
	s.Stop()
	checkReloads(t, readLog(t, o.Dir), 3, 6)
}

// checkReloads counts the records of reloads.
func checkReloads(t *testing.T, list []record, taken, refused int) {
	t.Helper()
	outcomes, changes := map[string]int{}, []string{}
	for _, r := range list {
		if !strings.Contains(string(r.raw), `"requested_by":"SIGHUP"`) {
			continue
		}
		outcomes[r.Outcome]++
		changes = append(changes, r.Fields...)
		if r.Outcome == "failure" && r.Message == "" {
			t.Errorf("a refusal is recorded without its reason: %s", r.raw)
		}
	}
	if outcomes["success"] != taken || outcomes["failure"] != refused {
		t.Errorf("reloads are recorded as %v", outcomes)
	}
	if !slices.Contains(changes, "server.open") || !slices.Contains(changes, "limits.request_body") {
		t.Errorf("the records name the changes %q", changes)
	}
}

// TestHangUpAtStart sends SIGHUP before the server serves: it does not end.
func TestHangUpAtStart(t *testing.T) {
	t.Parallel()
	s := servertest.Launch(t, servertest.Options{Args: plain(t)})
	if !s.Eventually(func() error { // the earliest moment at which it can be told to be verdict's
		if _, err := os.Stat(filepath.Join(s.Dir, "audit")); err != nil {
			return fmt.Errorf("no folder yet: %w", err)
		}
		return nil
	}) {
		t.Fatal(s.Stderr())
	}
	s.Signal(syscall.SIGHUP)
	if !s.Eventually(func() error {
		if !strings.Contains(s.Stderr(), "read again") {
			return fmt.Errorf("nothing is said")
		}
		return nil
	}) {
		t.Errorf("SIGHUP at the start:\n%s", s.Stderr())
	}
	s.Stop()
}
