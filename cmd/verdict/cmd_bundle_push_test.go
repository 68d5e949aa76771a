package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// wantRun runs verdict bundle ARGS, which must end with the code and print all
// of parts.
func wantRun(t *testing.T, code int, args []string, parts ...string) string {
	t.Helper()
	stdout, stderr, got := servertest.Run(t, append([]string{"bundle"}, args...)...)
	if got != code {
		t.Errorf("%v ends with %d, want %d:\n%s%s", args, got, code, stdout, stderr)
	}
	for _, part := range parts {
		if !strings.Contains(stdout+stderr, part) {
			t.Errorf("%v does not say %q:\n%s%s", args, part, stdout, stderr)
		}
	}
	return stdout
}

func TestBundleCommands(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ask := func(args ...string) []string {
		return append(args, "--server", s.URL, "--token-file", filepath.Join(s.Dir, "admin.token"))
	}
	r1, r2 := file("r1.tar.gz", shop(t, "shop", "r1")), file("r2.tar.gz", shop(t, "shop", "r2"))

	wantRun(t, 0, ask("list"), "NAME  REVISION")
	wantRun(t, 2, ask("list", "shop"), "404 not_found")
	wantRun(t, 0, ask("push", "shop", r1, "--dry-run"), "shop r1 passes the gates; nothing is kept", "gate archive")
	wantRun(t, 2, ask("push", "shop", r1, "--if-none-match", "r1"), "write '*'")
	wantRun(t, 2, ask("push", "shop", r1, "--if-none-match", "*", "--if-match", "r1"), "exclude each other")
	wantRun(t, 0, ask("push", "shop", r1, "--if-none-match", "*"), "shop r1 is active\n", "gate compile       passed  ", "+ data.shop.revision")
	wantRun(t, 1, ask("push", "shop", r2, "--if-match", "r9"), "412 precondition_failed")
	wantRun(t, 1, ask("push", "shop", r2, "--if-none-match", "*"), "412 precondition_failed", "none was expected")
	wantRun(t, 0, ask("push", "shop", r2, "--if-match", "r1", "--activate=false"), "shop r2 is kept and not active")
	wantRun(t, 0, ask("diff", "shop", "r1", "r2"), "against r1: 1 rules and 0 data are different\n  ~ data.shop.revision\n")
	wantRun(t, 0, ask("activate", "shop=r2"), "shop r2 is active, r1 was before\n")
	wantRun(t, 2, ask("activate", "shop=r7"), "404 not_found")
	wantRun(t, 0, ask("rollback", "shop"), "shop r1 is active, r2 was before\n")
	wantRun(t, 0, ask("rollback", "shop", "r1"), "nothing has changed\n")
	wantRun(t, 1, ask("push", "shop", r2), "refused by the gate history (409 revision_past)", "gate history       failed")
	wantRun(t, 0, ask("list", "shop"), "r1        active", "REFUSED BY")
	wantRun(t, 1, ask("push", "other", file("no.tar.gz", []byte("no"))), "refused by the gate archive (400 archive_invalid)")
	wantRun(t, 2, ask("push", "sh op", r1), "400 name_invalid")
	wantRun(t, 2, []string{"push", "shop", r1, "--server", s.URL}, "answered 401")

	for _, test := range []struct {
		want string
		args []string
	}{
		{`"status":"unchanged"`, ask("push", "shop", r1, "--output", "json")},
		{`{"bundles":[{`, ask("list", "--output", "json")},
		{`{"revisions":[{`, ask("list", "shop", "--output", "json")},
		{`"against":"r1"`, ask("diff", "shop", "r1", "r2", "--output", "json")},
		{`"kind":"rollback"`, ask("rollback", "shop", "r2", "--output", "json")},
		{`"kind":"activate"`, ask("activate", "shop=r1", "--output", "json")},
	} {
		if out := wantRun(t, 0, test.args, test.want); !json.Valid([]byte(out)) || strings.Count(out, "\n") != 1 {
			t.Errorf("%v prints %s", test.args, out)
		}
	}
	folder := filepath.Join(dir, "policy")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	file("policy/.manifest", []byte(`{"revision": "f1", "roots": ["folder"]}`))
	file("policy/p.rego", []byte("package folder\n\nallow := x\n"))
	out := wantRun(t, 1, ask("push", "folder", folder, "--output", "json"), `"gate":"compile"`, "refused by the gate compile (422 gate_failed)")
	if !json.Valid([]byte(out)) {
		t.Errorf("a refusal prints %s", out)
	}
	file("policy/p.rego", []byte("package folder\n\nallow := true\n"))
	wantRun(t, 0, ask("push", "folder", folder), "folder f1 is active\n")

	wantRun(t, 0, ask("deactivate", "shop", "folder"), "folder is not active any more, f1 was before\nshop is not active any more, r1 was before\nactivation ")
	wantRun(t, 0, ask("deactivate", "shop", "folder"), "nothing has changed\n")
	wantRun(t, 2, ask("deactivate", "shop", "never"), `404 not_found: there is no bundle "never"`)
	wantRun(t, 0, ask("list"), "shop    -")
	wantRun(t, 0, ask("rollback", "shop", "r1"), "shop r1 is active\n")
	wantRun(t, 0, ask("deactivate", "shop", "--output", "json"), `"to":""`)
}

// TestPushAnswers: whoever answers instead of verdict is not believed.
func TestPushAnswers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shop.tar.gz")
	if err := os.WriteFile(file, []byte("bytes"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		want   string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "answered 302"},
		"page":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "read the server's answer"},
		"other":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, "it is not that of verdict"},
		"proxy": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "\x1b[2Jtoo large", http.StatusRequestEntityTooLarge)
		}, "413 Request Entity Too Large: \uFFFD[2Jtoo large"},
		"digest": {func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			text := string(body) + " " + r.Header.Get("Content-Digest") + " " + r.Header.Get("If-Match")
			http.Error(w, text, http.StatusTeapot)
		}, "bytes sha-256=:J3CJ2RwL308uaGK6fkoHYFEZQx9dE/cm3TUrBvGyBqk=: \"a%2Cb\""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(test.answer))
			defer server.Close()
			wantRun(t, 2, []string{"push", "shop", file, "--server", server.URL, "--if-match", "a,b"}, test.want)
		})
	}
}

func TestProgress(t *testing.T) {
	var out strings.Builder
	now := time.Unix(0, 0)
	g := verdict.NewProgress(&out, "push shop", 4<<20, func() time.Time { return now })
	r := g.Reader(strings.NewReader(strings.Repeat("x", 4<<20)))
	for range 3 {
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	g.End()
	got := out.String()
	for _, part := range []string{"push shop: 0.0 of 4.0 MiB (0 %)", "\r\x1b[Kpush shop: 4.0 of 4.0 MiB (100 %), waiting for the gates\r\x1b[K"} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %q", part, got)
		}
	}
	if n := strings.Count(got, "\r"); n > 6 {
		t.Errorf("%d states in 3 seconds", n)
	}
}
