package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/server"
	"github.com/verdict-pdp/verdict/bench/server/servertest"
	"github.com/verdict-pdp/verdict/bench/workload"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// self returns the test binary and a bundle, and makes the binary a server.
func self(t *testing.T, mode string) (program, bundle string) {
	t.Helper()
	t.Setenv(servertest.Mode, mode)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bundle = t.TempDir()
	if err := workload.RBAC().WriteBundle(bundle); err != nil {
		t.Fatal(err)
	}
	return program, bundle
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStartVerdict(t *testing.T) {
	program, bundle := self(t, "right")
	s, err := server.StartVerdict(t.Context(), server.VerdictOptions{Program: program, Bundle: bundle, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if s.Token != servertest.Token {
		t.Errorf("token %q", s.Token)
	}
	if percent, err := s.GCPercent(t.Context()); percent != 300 || err != nil {
		t.Errorf("GC percent %d, %v", percent, err)
	}
	if live, err := s.LiveHeap(t.Context(), 10); live != 1_000_000 || err != nil {
		t.Errorf("live heap %d, %v", live, err)
	}
	u, err := s.Usage()
	if err != nil || u.RSS <= 0 || u.PeakRSS < u.RSS || u.CPU < 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	s.Stop()
	if alive(s.PID()) {
		t.Error("alive after Stop")
	}
	if _, err := s.Usage(); err == nil {
		t.Error("usage of a stopped server")
	}
}

func TestStartOPA(t *testing.T) {
	program, bundle := self(t, "right")
	for _, log := range []bool{false, true} {
		s, err := server.StartOPA(t.Context(), server.OPAOptions{Program: program, Bundle: bundle, Dir: t.TempDir(), DecisionLog: log, GOGC: 800})
		if err != nil {
			t.Fatal(err)
		}
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.PID()), "environ"))
		if err != nil || !strings.Contains(string(env), "GOGC=800\x00") {
			t.Errorf("environment %q, %v", env, err)
		}
		s.Stop()
	}
}

func TestStartFails(t *testing.T) {
	program, bundle := self(t, "dies")
	_, err := server.StartOPA(t.Context(), server.OPAOptions{Program: program, Bundle: bundle, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "the stand-in dies") {
		t.Errorf("error %v, want the server's own words", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	t.Setenv(servertest.Mode, "right")
	_, err = server.StartOPA(ctx, server.OPAOptions{Program: program, Bundle: bundle, Dir: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := server.StartVerdict(t.Context(), server.VerdictOptions{Program: filepath.Join(bundle, "nothing"), Dir: bundle}); err == nil {
		t.Error("no error without a program")
	}
}

// The caller's tuning of Go must not reach a server that runs as shipped.
func TestEnvironmentIsClean(t *testing.T) {
	program, bundle := self(t, "right")
	t.Setenv("GOGC", "50")
	t.Setenv("GOMEMLIMIT", "1GiB")
	t.Setenv("VERDICT_DATA_DIR", "/nowhere")
	s, err := server.StartOPA(t.Context(), server.OPAOptions{Program: program, Bundle: bundle, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.PID()), "environ"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"GOGC=", "GOMEMLIMIT=", "VERDICT_DATA_DIR="} {
		if strings.Contains("\x00"+string(env), "\x00"+name) {
			t.Errorf("%s reached the server", name)
		}
	}
}

func TestFileSystem(t *testing.T) {
	if name, _, err := server.FileSystem(t.TempDir()); name == "" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	if name, inMemory, err := server.FileSystem("/dev/shm"); err == nil && (name != "tmpfs" || !inMemory) {
		t.Errorf("/dev/shm is %q, in memory %v", name, inMemory)
	}
	if _, _, err := server.FileSystem("/does/not/exist"); err == nil {
		t.Error("no error for a missing folder")
	}
}
