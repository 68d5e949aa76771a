package main_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

// tampered is the log of a stopped server with a whole tile and some more.
const tampered = 400

// writtenLog lets a server write a log and stops it.
func writtenLog(t *testing.T) string {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	inputs := map[string]any{}
	for i := range 100 {
		inputs[strconv.Itoa(i)] = map[string]any{"n": i, "user": "ada"}
	}
	for range tampered / len(inputs) {
		a := s.Do(servertest.Request{Path: "/v1/batch/data/app/allow", Body: map[string]any{"inputs": inputs}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	s.Stop()
	return s.Dir
}

// TestTamper damages a log that the server wrote. The exit code tells what kind
// of damage it is, the first line the record and the finding.
func TestTamper(t *testing.T) {
	t.Parallel()
	original := writtenLog(t)
	count := uint64(len(readLog(t, original)))
	seq := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	raw := func(fn func(r *surgeon.Raw) error) func(l surgeon.Log) error {
		return func(l surgeon.Log) error {
			r, err := surgeon.ReadRaw(l.Path)
			if err != nil {
				return err
			}
			if err := fn(r); err != nil {
				return err
			}
			return r.Write()
		}
	}
	for _, c := range []struct {
		name   string
		damage func(l surgeon.Log) error
		code   int
		first  string // the start of the first line
		about  uint64 // a record that a finding must be about; 0: not told
	}{
		{"nothing", func(surgeon.Log) error { return nil }, 0, fmt.Sprintf("ok: %d records verified", count), 0},
		{"a byte of a record", func(l surgeon.Log) error { return l.FlipRecord(100, 90, 1) }, 1, "tampered: first bad record 100: record_altered", 100},
		{"the last record", func(l surgeon.Log) error { return l.FlipRecord(count-1, 90, 1) }, 1, fmt.Sprintf("tampered: first bad record %d: record_", count-1), count - 1},
		{"two swapped", func(l surgeon.Log) error { return l.Swap(50, 300) }, 1, "tampered: first bad record 50: record_", 50},
		{"one removed", func(l surgeon.Log) error { return l.DeleteRecord(77) }, 1, "tampered: first bad record 77: record_missing", 77},
		{"one inserted", func(l surgeon.Log) error { return l.Insert(40, surgeon.Small(40)) }, 1, "tampered: first bad record 40: ", 40},
		{"rechained", func(l surgeon.Log) error {
			if err := l.FlipRecord(100, 200, 1); err != nil {
				return err
			}
			return l.Rechain(false) // tiles left as they were
		}, 1, "tampered: first bad record 100: ", 100},
		{"time", func(l surgeon.Log) error { return l.Replace(120, surgeon.Small(120)) }, 1, "tampered: first bad record 120: ", 120},
		{"a head", func(l surgeon.Log) error { return l.FlipEntry("meta", []byte("head"), 3, 1) }, 1, "tampered: first bad record ", 0},
		{"the tail", func(l surgeon.Log) error { return l.RemoveLast(5) }, 3, fmt.Sprintf("truncated: first bad record %d: record_missing", count-5), count - 5},
		{"the end of the file", func(l surgeon.Log) error { return surgeon.Truncate(l.Path, 5*4096) }, 3, "truncated: first bad record ", 0},
		{"a newer format", func(l surgeon.Log) error { return l.Put("meta", []byte("format"), []byte{0, 0, 0, 9}) }, 5, "unverifiable: first bad record 0: format_newer", 0},
		{"a page", raw(func(r *surgeon.Raw) error {
			pages, err := r.LeafPages("rec")
			if err != nil {
				return err
			}
			r.FillPage(pages[len(pages)/2], func(b []byte) { copy(b, bytes.Repeat([]byte{0xa5}, len(b))) }, true)
			return nil
		}), 6, "damaged: first bad record ", 0},
		{"an entry", func(l surgeon.Log) error { return l.Delete("tile", seq(0)) }, 1, "tampered: first bad record ", 0},
		{"the file", func(l surgeon.Log) error { return os.Remove(l.Path) }, 2, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(surgeon.Open(dir, 0, surgeon.Layout{})); err != nil {
				t.Fatal(err)
			}
			stdout, stderr, code := servertest.Run(t, "audit", "verify", "--data-dir", dir)
			first, _, _ := strings.Cut(stdout, "\n")
			if code != c.code || !strings.HasPrefix(first, c.first) {
				t.Fatalf("exit code %d, want %d %q:\n%s%s", code, c.code, c.first, stdout, stderr)
			}
			if code == 2 {
				if stdout != "" || stderr == "" {
					t.Errorf("a log that cannot be looked at is told on standard error: %q %q", stdout, stderr)
				}
				return
			}
			sameAsJSON(t, dir, first, code, c.about)
			if code != 0 {
				refusesToStart(t, dir, c.code)
			}
		})
	}
}

// sameAsJSON checks that --json says what the first line says, and that a finding
// is about the record.
func sameAsJSON(t *testing.T, dir, first string, code int, about uint64) {
	t.Helper()
	stdout, _, again := servertest.Run(t, "audit", "verify", "--data-dir", dir, "--json")
	var report struct {
		Result  string  `json:"result"`
		First   *uint64 `json:"first_bad_seq"`
		Kind    string  `json:"kind"`
		Detail  string  `json:"detail"`
		IsValid bool    `json:"is_valid"`
		Count   uint64  `json:"verified_events"`
		Errors  []struct {
			Seq  uint64 `json:"seq"`
			Last uint64 `json:"last_seq"`
		} `json:"errors"`
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || again != code {
		t.Fatalf("exit code %d, then %d: %v\n%s", code, again, err, stdout)
	}
	want := fmt.Sprintf("%s: %d records verified", report.Result, report.Count)
	if report.First != nil {
		want = fmt.Sprintf("%s: first bad record %d: %s: %s", report.Result, *report.First, report.Kind, report.Detail)
	}
	if first != want || report.IsValid != (code == 0) {
		t.Errorf("text %q, JSON %s", first, stdout)
	}
	for _, e := range report.Errors {
		if e.Seq <= about && about <= e.Last {
			return
		}
	}
	if about > 0 {
		t.Errorf("no finding is about record %d: %s", about, stdout)
	}
}

// refusesToStart starts a server on a damaged log. It may start where only what
// is old was altered; it must never mend anything: verify says the same after.
func refusesToStart(t *testing.T, dir string, code int) {
	t.Helper()
	s := servertest.Launch(t, servertest.Options{Dir: dir, Args: []string{"--standard-policies=false"}})
	s.Eventually(func() error {
		if strings.Contains(s.Stderr(), `"message":"serving"`) {
			return nil
		}
		return fmt.Errorf("not serving")
	})
	if !s.Ended() {
		s.Stop()
	} else if got := s.Wait(); got != 2 {
		t.Errorf("a start on a damaged log: exit code %d", got)
	}
	if _, _, after := servertest.Run(t, "audit", "verify", "--data-dir", dir); after == 0 {
		t.Errorf("verify gives 0 after a start, %d before", code)
	}
}

// TestAuditBesideServer reads and verifies the log of a live server, and compares
// with what is read once it is stopped.
func TestAuditBesideServer(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	remote := func(args ...string) (string, string, int) {
		return servertest.Run(t, append(append([]string{"audit"}, args...), "--data-dir", s.Dir, "--server", s.URL)...)
	}
	a := s.Decide("app/allow", map[string]any{"user": "ada", "text": "<ü>\u2028\x00"})
	rec := s.Record(a.DecisionID())
	var parsed record
	if err := json.Unmarshal(rec, &parsed); err != nil {
		t.Fatal(err)
	}
	bySeq := s.Do(servertest.Request{Path: fmt.Sprintf("/api/v1/audit/records/%d", parsed.Seq), Token: s.AdminToken()})
	if !bytes.Equal(bySeq.Body, rec) {
		t.Errorf("by number\n%s\nby decision\n%s", bySeq.Body, rec)
	}
	for _, name := range []string{strconv.FormatUint(parsed.Seq, 10), a.DecisionID()} {
		if stdout, stderr, code := remote("show", name); code != 0 || stdout != string(rec) {
			t.Errorf("show %s --server: exit code %d\n%q\n%q\n%s", name, code, stdout, rec, stderr)
		}
	}
	if stdout, stderr, code := remote("verify"); code != 0 || !strings.HasPrefix(stdout, "ok: ") {
		t.Errorf("verify --server: exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{"show", "99999"}, {"show", "no-such-decision"}} {
		if stdout, stderr, code := remote(args...); code == 0 || stdout != "" || stderr == "" {
			t.Errorf("%q: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
	tail, stderr, code := remote("tail", "-n", "3")
	if code != 0 || strings.Count(tail, "\n") != 3 {
		t.Errorf("tail --server: exit code %d\n%s%s", code, tail, stderr)
	}
	s.Stop()

	list := readLog(t, s.Dir)
	if !bytes.Equal(list[parsed.Seq].raw, rec) {
		t.Errorf("in the log\n%s\nfrom the server\n%s", list[parsed.Seq].raw, rec)
	}
	var lines []byte
	for _, r := range list {
		lines = append(append(lines, r.raw...), '\n')
	}
	if !bytes.Contains(lines, []byte(tail)) {
		t.Errorf("tail --server printed what is not in the log:\n%s", tail)
	}
	for _, name := range []string{strconv.FormatUint(parsed.Seq, 10), a.DecisionID()} {
		stdout, stderr, code := servertest.Run(t, "audit", "show", name, "--data-dir", s.Dir)
		if code != 0 || stdout != string(rec) {
			t.Errorf("show %s: exit code %d\n%q\n%q\n%s", name, code, stdout, rec, stderr)
		}
	}
	stdout, stderr, code := servertest.Run(t, "audit", "tail", "-n", "2", "--data-dir", s.Dir)
	if want := fmt.Sprintf("%s\n%s\n", list[len(list)-2].raw, list[len(list)-1].raw); code != 0 || stdout != want {
		t.Errorf("tail: exit code %d\n%s\n%s", code, stdout, stderr)
	}
	if reads := count(list, "audit_log_access"); reads < 6 {
		t.Errorf("%d readings are recorded, want 6 and more", reads)
	}
}

// TestTailFollow prints records as they are written, until it is interrupted.
func TestTailFollow(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: plain(t)})
	cmd := exec.Command("verdict", "audit", "tail", "-f", "-n", "1", "--data-dir", s.Dir, "--server", s.URL)
	cmd.Env = servertest.Environ()
	out := filepath.Join(t.TempDir(), "out")
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout = file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the command, which is killed below
	defer func() { _ = cmd.Process.Kill() }()
	var ids []string
	seen := func(what string) func() error {
		return func() error {
			raw, err := os.ReadFile(out)
			if err != nil || !strings.Contains(string(raw), what) {
				return fmt.Errorf("%d bytes without %q: %v", len(raw), what, err)
			}
			return nil
		}
	}
	if !s.Eventually(seen("audit_log_access")) { // it follows from now on
		t.Fatal("nothing is printed")
	}
	for i := range 5 {
		id := s.Decide("app/double", map[string]any{"n": i}).DecisionID()
		if !s.Eventually(seen(id)) {
			t.Fatal("a decision is not printed")
		}
		ids = append(ids, id)
	}
	s.Stop()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("tail --follow goes on without a server")
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	list := readLog(t, s.Dir)
	var want strings.Builder
	for _, r := range list[bytesSeq(t, raw):] {
		fmt.Fprintf(&want, "%s\n", r.raw)
	}
	if !strings.HasPrefix(want.String(), string(raw)) || !strings.Contains(string(raw), ids[4]) {
		t.Errorf("printed\n%s\nin the log\n%s", raw, want.String())
	}
}

// bytesSeq is the number of the first record that was printed.
func bytesSeq(t *testing.T, lines []byte) uint64 {
	t.Helper()
	var r record
	first, _, _ := bytes.Cut(lines, []byte("\n"))
	if err := json.Unmarshal(first, &r); err != nil {
		t.Fatal(err)
	}
	return r.Seq
}
