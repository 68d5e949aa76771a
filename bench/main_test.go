package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bench/server/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// call runs a command with the test binary as both servers and returns what it
// printed. The scratch folder must be empty afterwards.
func call(t *testing.T, ctx context.Context, mode, command string, args ...string) (string, error) {
	t.Helper()
	t.Setenv(servertest.Mode, mode)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := os.MkdirTemp(".", "testscratch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	all := append([]string{command, "-verdict", program, "-opa", program, "-scratch", scratch}, args...)
	var out bytes.Buffer
	err = dispatch(ctx, all, &out)
	left, readErr := os.ReadDir(scratch)
	if readErr != nil || len(left) > 0 {
		t.Errorf("%d folders are left behind, %v", len(left), readErr)
	}
	return out.String(), err
}

func TestRun(t *testing.T) {
	base := filepath.Join(t.TempDir(), "bench")
	out, err := call(t, t.Context(), "right", "run", "-targets", "verdict,opa,opa-log", "-connections", "2,64",
		"-rounds", "1", "-warm-up", "20ms", "-measure", "100ms", "-out", base)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"rbac, 2 connections, closed loop", "rbac, 64 connections", "OPA, log off", "verdict, durable log"} { // what needs CPU time that was measured is tested in report
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in\n%s", text, out)
		}
	}
	for _, name := range []string{base + ".md", base + ".svg"} {
		if info, err := os.Stat(name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunFailsOnWrongAnswers(t *testing.T) {
	_, err := call(t, t.Context(), "wrong", "run", "-targets", "opa", "-connections", "1", "-rounds", "1", "-warm-up", "1ms", "-measure", "500ms")
	if !errors.Is(err, errWrong) {
		t.Errorf("error %v", err)
	}
}

func TestRunStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := call(t, ctx, "right", "run", "-targets", "verdict,opa", "-connections", "1", "-measure", "1h")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("sends requests for some seconds")
	}
	base := filepath.Join(t.TempDir(), "memory")
	out, err := call(t, t.Context(), "right", "memory", "-targets", "verdict", "-size", "100000", "-out", base)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "live heap over baseline / raw JSON") {
		t.Errorf("printed\n%s", out)
	}
	if _, err := os.Stat(base + ".md"); err != nil {
		t.Error(err)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"fly"},
		{"run", "-targets", "cerbos"},
		{"run", "-targets", "opa,opa"},
		{"run", "-connections", "0"},
		{"run", "extra"},
		{"run", "-rounds", "0"},
		{"memory", "-size", "0"},
		{"profile", "-target", "x"},
		{"run", "-nothing"},
	} {
		if err := dispatch(t.Context(), args, &bytes.Buffer{}); !errors.Is(err, errUsage) {
			t.Errorf("%v: error %v", args, err)
		}
	}
}
