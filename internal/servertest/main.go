package servertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Main runs the tests of a package, Examples included, beside one server that is
// built from the checkout and gives its exit code. use is called with the server
// before the first test.
func Main(m *testing.M, o Options, use func(*Server)) int {
	if slices.Contains(os.Args, "-test.fuzzworker") {
		return m.Run() // one of many processes that run a fuzz target only
	}
	t := &mainTB{}
	defer t.end()
	o.Binary = build(t)
	s := Start(t, o)
	use(s)
	return m.Run()
}

// Plain is a program for Options.Binary without the race detector, for tests that
// ask so much that they would take minutes with it.
func Plain(t testing.TB) string {
	t.Helper()
	if !Race() {
		return "" // the test binary itself
	}
	return build(t)
}

// build builds verdict into a folder of the test.
func build(t testing.TB) string {
	program := filepath.Join(t.TempDir(), "verdict")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/verdict-pdp/verdict/cmd/verdict")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build verdict: %v\n%s", err, out)
	}
	return program
}

// mainTB is what Start needs of a test, where there is none: a failure ends the
// process.
type mainTB struct {
	testing.TB // nil; its other methods are not called
	cleanups   []func()
}

// Helper implements testing.TB.
func (*mainTB) Helper() {}

// Failed implements testing.TB.
func (*mainTB) Failed() bool { return false }

// Cleanup implements testing.TB.
func (t *mainTB) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

// Logf implements testing.TB.
func (*mainTB) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Errorf implements testing.TB: there is no test to fail any more.
func (t *mainTB) Errorf(format string, args ...any) { t.Fatalf(format, args...) }

// Fatal implements testing.TB.
func (t *mainTB) Fatal(args ...any) { t.Fatalf("%s", fmt.Sprint(args...)) }

// Fatalf implements testing.TB.
func (t *mainTB) Fatalf(format string, args ...any) {
	t.Logf(format, args...)
	cleanups := t.cleanups
	t.cleanups = nil
	for i := len(cleanups); i > 0; i-- {
		cleanups[i-1]()
	}
	os.Exit(1)
}

// TempDir implements testing.TB.
func (t *mainTB) TempDir() string {
	dir, err := os.MkdirTemp("", "verdict-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (t *mainTB) end() {
	for i := len(t.cleanups); i > 0; i-- {
		t.cleanups[i-1]()
	}
	t.cleanups = nil
}
