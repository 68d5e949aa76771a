package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// smallDisk mounts a file system of its own. Where that is not allowed the test
// is skipped.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("mounting a small disk is not allowed here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// free is the space that is left on a disk.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// ballast fills a disk until so many bytes are left and gives a function that
// takes it off again.
func ballast(t *testing.T, dir string, left int64) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, zeros{}, free(t, dir)-left); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// unavailable checks the answer to a decision that cannot be recorded.
func unavailable(a *servertest.Answer) error {
	retry, err := strconv.Atoi(a.Header.Get("Retry-After"))
	switch {
	case a.Status != http.StatusServiceUnavailable:
		return fmt.Errorf("status %d: %s", a.Status, a.Body)
	case err != nil || retry < 1:
		return fmt.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	case !strings.Contains(string(a.Body), `"code": "audit_unavailable"`) && !strings.Contains(string(a.Body), `"code":"audit_unavailable"`):
		return fmt.Errorf("body %s", a.Body)
	case strings.Contains(string(a.Body), `"result"`):
		return fmt.Errorf("a decision that is not recorded was given: %s", a.Body)
	}
	return nil
}

// TestDiskFull fills the disk under a running server until a write fails.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "48m")
	o := servertest.Options{Dir: filepath.Join(disk, "data"), Args: plain(
		t, "--set", "audit.min_free_bytes=1", "--set", "audit.poison_linger=1h",
	)}
	s := servertest.Start(t, o)
	a := &answered{all: map[string]int{}}
	remove := ballast(t, disk, 256<<10)
	n := 0
	if !s.Eventually(func() error {
		n++
		answer := s.Decide("app/double", map[string]any{"n": n, "pad": strings.Repeat("x", 8<<10)})
		if answer.Status == http.StatusOK {
			a.add(answer.DecisionID(), n)
		}
		return unavailable(answer)
	}) {
		t.Fatal("the disk does not get full")
	}
	for range 5 { // it stays so, on every edge
		for _, q := range []servertest.Request{
			{Path: "/v1/data/app/double", Body: `{"input":{"n":1}}`},
			{Path: "/v1/data/app/double?input=%7B%22n%22:1%7D"},
			{Path: "/v0/data/app/double", Body: `{"n":1}`},
			{Path: "/", Body: `{"rule":"double","n":1}`},
			{Path: "/v1/batch/data/app/double", Body: `{"inputs":{"a":{"n":1}}}`},
			{Method: "PUT", Path: "/v1/data/x", Body: `1`, Token: s.AdminToken()},
		} {
			if err := unavailable(s.Do(q)); err != nil {
				t.Errorf("%s %s: %v", q.Method, q.Path, err)
			}
		}
	}
	if health := s.Do(servertest.Request{Path: "/health"}); health.Status != http.StatusInternalServerError {
		t.Errorf("/health: %d %s", health.Status, health.Body)
	}
	if v := s.Metric("verdict_audit_poisoned"); v != 1 {
		t.Errorf("verdict_audit_poisoned is %v", v)
	}
	status := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()})
	if !strings.Contains(string(status.Body), "no space left on device") {
		t.Errorf("the status does not name the cause: %s", status.Body)
	}
	s.Signal(syscall.SIGTERM) // before it ends by itself
	if code := s.Wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"audit log poisoned", "no space left on device"} {
		if !strings.Contains(s.Stderr(), want) {
			t.Errorf("standard error does not say %q:\n%s", want, s.Stderr())
		}
	}
	verifyFolder(t, o.Dir) // the disk is still full
	remove()
	s = servertest.Start(t, o)
	if answer := s.Decide("app/double", map[string]any{"n": 0}); answer.Status != http.StatusOK {
		t.Errorf("after a restart with space: %d %s", answer.Status, answer.Body)
	}
	s.Stop()
	verifyFolder(t, o.Dir)
	list := readLog(t, o.Dir)
	inputs := map[string]bool{}
	for _, r := range list {
		inputs[r.DecisionID] = true
	}
	for id := range a.all {
		if !inputs[id] {
			t.Errorf("decision %s was answered and is not in the log", id)
		}
	}
	if !last(t, list, "system.start").Details.Recovered {
		t.Error("the start after a full disk does not say that it recovered")
	}
}

// TestFreeSpaceGuard refuses before the disk is full, and takes up again when
// there is space.
func TestFreeSpaceGuard(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "48m")
	o := servertest.Options{Dir: filepath.Join(disk, "data"), Args: plain(t, "--set", "audit.min_free_bytes=8MiB")}
	s := servertest.Start(t, o)
	ask := func() *servertest.Answer { return s.Decide("app/double", map[string]any{"n": 1}) }
	remove := ballast(t, disk, 4<<20)
	if !s.Eventually(func() error { return unavailable(ask()) }) {
		t.Fatal("decisions are given though there is too little space")
	}
	if body := ask().Body; !strings.Contains(string(body), "disk_full") {
		t.Errorf("the answer does not say why: %s", body)
	}
	if err := s.Healthy(); err == nil {
		t.Error("/health is good")
	}
	if got := s.Metric("verdict_audit_free_bytes"); got > 8<<20 || got == 0 {
		t.Errorf("verdict_audit_free_bytes is %v", got)
	}
	if s.Metric(`verdict_audit_unavailable_total{reason="disk_full"}`) == 0 {
		t.Error("nothing is counted as disk_full")
	}
	if !strings.Contains(s.Stderr(), "disk full, nothing is answered") {
		t.Errorf("standard error:\n%s", s.Stderr())
	}
	remove()
	if !s.Eventually(func() error {
		if a := ask(); a.Status != http.StatusOK {
			return fmt.Errorf("%d: %s", a.Status, a.Body)
		}
		return s.Healthy()
	}) {
		t.Error("no decisions though there is space again")
	}
	s.Stop()
	verifyFolder(t, o.Dir)
}

// nobody is a user without rights, or nil when this process is one.
func nobody() *syscall.SysProcAttr {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

// reachable makes a folder that every user can get into, with a copy of the
// program in it.
func reachable(t *testing.T) (dir, binary string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "verdict-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	path, err := exec.LookPath("verdict")
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "verdict")
	// Another process copies: what this one has open for writing, a child that is
	// just being started would have open too, and nobody could run it.
	if out, err := exec.Command("cp", path, binary).CombinedOutput(); err != nil {
		t.Fatalf("copy the program: %v\n%s", err, out)
	}
	if err := errors.Join(os.Chmod(binary, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir, binary
}

// TestDataFolder refuses folders that it cannot use, and says which and why.
func TestDataFolder(t *testing.T) {
	t.Parallel()
	dir, binary := reachable(t)
	for _, c := range []struct {
		name, inside string
		mode         os.FileMode
		want         string
	}{
		{"not writable", "data", 0o555, "permission denied"},
		{"not readable", "data/audit", 0o000, "permission denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			path := filepath.Join(root, c.inside)
			if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, c.mode)); err != nil {
				t.Fatal(err)
			}
			s := servertest.Launch(t, servertest.Options{
				Dir: filepath.Join(root, "data"), Binary: binary, Attr: nobody(), Args: []string{"--standard-policies=false"},
			})
			if code := s.Wait(); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if got := s.Stderr(); !strings.Contains(got, c.want) || !strings.Contains(got, root) {
				t.Errorf("standard error names neither place nor cause:\n%s", got)
			}
		})
	}
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s := servertest.Launch(t, servertest.Options{Dir: file})
		if code := s.Wait(); code != 2 || !strings.Contains(s.Stderr(), file) {
			t.Errorf("exit code %d:\n%s", code, s.Stderr())
		}
	})
}

// TestReadOnlyDisk starts on a disk that nobody can write to.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "48m")
	o := servertest.Options{Dir: filepath.Join(disk, "data"), Args: plain(t, "--set", "audit.min_free_bytes=1")}
	s := servertest.Start(t, o)
	s.Stop()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s = servertest.Launch(t, o)
	if code := s.Wait(); code != 2 || !strings.Contains(s.Stderr(), "read-only file system") {
		t.Errorf("exit code %d:\n%s", code, s.Stderr())
	}
	verifyFolder(t, o.Dir) // looking needs no writing
}

// TestSecondServer starts a second server on the folder of another.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	first := servertest.Start(t, servertest.Options{Args: plain(t)})
	second := servertest.Launch(t, servertest.Options{Dir: first.Dir, Args: plain(t)})
	if code := second.Wait(); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	want := fmt.Sprintf(`in use by process %d, "verdict serve"`, first.PID())
	if !strings.Contains(second.Stderr(), want) {
		t.Errorf("standard error does not say %q:\n%s", want, second.Stderr())
	}
	for _, args := range [][]string{{"verify"}, {"show", "0"}, {"tail"}} {
		args = append([]string{"audit"}, append(args, "--data-dir", first.Dir)...)
		stdout, stderr, code := servertest.Run(t, args...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, strconv.Itoa(first.PID())) {
			t.Errorf("%q beside a server: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
	if a := first.Decide("app/double", map[string]any{"n": 1}); a.Status != http.StatusOK {
		t.Errorf("the first server: %d %s", a.Status, a.Body)
	}
	first.Stop()
}
