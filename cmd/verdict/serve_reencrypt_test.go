package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestReencryptCommand leaves a compromised key: the answer to a batch is lost,
// the command goes on where it was, everything is counted once, and the old
// version is retired.
func TestReencryptCommand(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	var lines []string
	for i := range 7 {
		where := map[string]any{"tenant": "t1", "id": fmt.Sprint(i)}
		sealed := crypto(t, s, "encrypt", map[string]any{"classification": "internal", "plaintext": fmt.Sprint("v", i), "context": where})
		text, _ := sealed.JSON(t)["ciphertext"].(string)
		lines = append(lines, fmt.Sprintf(`{ "n":%d, "ciphertext":%q, "context":{"tenant":"t1","id":"%d"} }`, i, text, i))
	}
	alone := crypto(t, s, "encrypt", map[string]any{"classification": "internal", "plaintext": "alone", "context": map[string]any{"tenant": "t2"}})
	lines = append(lines, "", alone.JSON(t)["ciphertext"].(string))
	writeText(t, in, strings.Join(lines, "\n"))
	keysCommand := func(server string, args ...string) (string, string, int) {
		token := filepath.Join(dir, "token")
		writeText(t, token, s.AdminToken())
		return servertest.Run(t, append([]string{"keys"}, append(args, "--server", server, "--token-file", token)...)...)
	}
	if _, errs, code := keysCommand(s.URL, "compromise", "verdict-internal"); code != 0 {
		t.Fatal(errs)
	}
	lossy := losing(t, s.URL, 2)
	args := []string{"reencrypt", "verdict-internal", "--in", in, "--out", out, "--batch", "3", "--tenant", "t2"}
	if _, errs, code := keysCommand(lossy, args...); code != 2 || !strings.Contains(errs, "may have done it all the same") {
		t.Fatalf("%d %s", code, errs)
	}
	if _, errs, code := keysCommand(s.URL, "retire", "verdict-internal"); code != 1 {
		t.Fatalf("retired under a job: %d %s", code, errs)
	}
	shown, errs, code := keysCommand(s.URL, append(args, "--output", "json")...)
	var counts map[string]any
	if err := json.Unmarshal([]byte(shown), &counts); code != 0 || err != nil || counts["done"] != 8.0 || counts["failed"] != 0.0 || counts["state"] != "finished" {
		t.Fatalf("%d %s%s", code, shown, errs)
	}
	if _, errs, code := keysCommand(s.URL, "retire", "verdict-internal"); code != 0 {
		t.Fatal(errs)
	}
	renewed, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(renewed), "\n"), "\n")
	if len(got) != 9 || got[7] != "" {
		t.Fatalf("%d lines", len(got))
	}
	for i, line := range got[:7] {
		if !strings.HasPrefix(line, fmt.Sprintf(`{ "n":%d, "ciphertext":"vd1.`, i)) || line == lines[i] {
			t.Errorf("line %.60s", line)
		}
		var item map[string]any
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		delete(item, "n")
		wantStatus(t, crypto(t, s, "decrypt", item), http.StatusOK, fmt.Sprintf(`"plaintext":"v%d"`, i))
	}
	wantStatus(t, crypto(t, s, "decrypt", map[string]any{"ciphertext": got[8], "context": map[string]any{"tenant": "t2"}}), http.StatusOK, `"alone"`)

	// What does not open stays, is named, and keeps the job open.
	writeText(t, in, lines[0]+"\n"+got[1]+"\n")
	if _, errs, code := keysCommand(s.URL, append(args, "--out", out+"2")...); code != 1 || !strings.Contains(errs, "line 1: key_version_disallowed") || !strings.Contains(errs, "stays open") {
		t.Errorf("%d %s", code, errs)
	}
	if shown, errs, code := keysCommand(s.URL, append(args, "--out", out+"2", "--abandon")...); code != 1 || !strings.Contains(shown, "abandoned: 0 encrypted anew and verified, 1 current, 1 failed") {
		t.Errorf("%d %s%s", code, shown, errs)
	}
	for _, wrong := range []string{"no value", `{"context":{}}`, `{"ciphertext":1}`} {
		writeText(t, in, wrong)
		os.Remove(out + "3")
		os.Remove(out + "3.state")
		if _, errs, code := keysCommand(s.URL, append(args, "--out", out+"3")...); code != 2 || !strings.Contains(errs, "line 1") {
			t.Errorf("%s: %d %s", wrong, code, errs)
		}
	}
	if _, errs, code := keysCommand(s.URL, args...); code != 2 || !strings.Contains(errs, "exists") {
		t.Errorf("written over: %d %s", code, errs)
	}
}

func writeText(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// losing passes requests on, and loses the answer to one of those that encrypt
// anew.
func losing(t testing.TB, server string, nth int64) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	var seen atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/reencrypt") && seen.Add(1) == nth {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}
