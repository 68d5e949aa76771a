// Package servertest runs the verdict binary as a process of its own: it starts a
// server on a free port, waits until it is healthy, asks it, and stops or kills
// it. The binary is the command "verdict" of the path, as TestMain of
// cmd/verdict puts it there.
//
// A server that is still running when its test ends is killed. A server that
// wrote a panic or a data race to standard error fails its test.
package servertest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds everything that is waited for: it is far above what a loaded
// machine needs.
const patience = time.Minute

// Options are how a server is started. The zero value is one with --dev, a
// folder of its own and a free port.
type Options struct {
	// Dir is the data folder; empty: a temporary one.
	Dir string
	// Strict leaves --dev out.
	Strict bool
	// Args are further arguments of serve.
	Args []string
	// Env are further variables, NAME=value.
	Env []string
	// TLS tells that the server speaks TLS. Client must then be set.
	TLS bool
	// Client is who asks; nil: one without TLS and with many connections.
	Client *http.Client
	// Binary is the program; empty: verdict of the path.
	Binary string
	// Crashes tells that the test makes the server crash, and wants to see it.
	Crashes bool
	// Attr is for processes of another user.
	Attr *syscall.SysProcAttr
}

// Server is one process.
type Server struct {
	URL    string // http://127.0.0.1:PORT
	GRPC   string // 127.0.0.1:PORT
	Dir    string // the data folder
	Client *http.Client
	// Took is the time from the start of the process to a good answer of
	// /health.
	Took time.Duration

	t       testing.TB
	begun   time.Time
	command *exec.Cmd
	crashes bool // wanted
	stdout  buffer
	stderr  buffer
	ended   chan struct{} // closed when the process has ended
	code    int           // owned by the goroutine that closes ended
}

// buffer collects what a process writes.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String gives what was written so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Start starts a server and waits until it is healthy.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := Launch(t, o)
	if !s.awaitAddress() || !s.Eventually(s.Healthy) {
		t.Fatalf("the server does not get healthy; standard error:\n%s", s.Stderr())
	}
	s.Took = time.Since(s.begun)
	return s
}

// Launch starts a process and waits for nothing: it may be one that fails.
func Launch(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, Dir: o.Dir, Client: o.Client, crashes: o.Crashes, ended: make(chan struct{})}
	if s.Dir == "" {
		s.Dir = filepath.Join(t.TempDir(), "data")
	}
	if s.Client == nil {
		s.Client = NewClient(nil)
	}
	t.Cleanup(s.Client.CloseIdleConnections)
	args := []string{"serve", "--data-dir", s.Dir, "--addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"}
	if !o.Strict {
		args = append(args, "--dev")
	}
	if !slices.ContainsFunc(o.Args, func(arg string) bool { return strings.HasPrefix(arg, "limits.evaluation=") }) {
		args = append(args, "--set", "limits.evaluation=20s") // no answer depends on how busy the machine is
	}
	binary := o.Binary
	if binary == "" {
		binary = "verdict"
	}
	s.command = exec.Command(binary, append(args, o.Args...)...)
	s.command.Env = append(Environ(), o.Env...)
	s.command.SysProcAttr = o.Attr
	s.command.Stdout, s.command.Stderr = &s.stdout, &s.stderr
	s.URL = "http://"
	if o.TLS {
		s.URL = "https://"
	}
	s.begun = time.Now()
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup ends
		defer close(s.ended)
		_ = s.command.Wait() // the code tells
		s.code = s.command.ProcessState.ExitCode()
	}()
	t.Cleanup(s.cleanup)
	return s
}

// Environ is the environment without what would configure a server. Processes
// with the race detector do not sleep a second at their end.
func Environ() []string {
	list := []string{"GORACE=atexit_sleep_ms=0"}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "VERDICT_") {
			list = append(list, entry)
		}
	}
	return list
}

// serving is the line that tells where the server listens.
var serving = regexp.MustCompile(`"addr":"([^"]+)"[^\n]*?(?:"grpc_addr":"([^"]+)")?,"time":[^\n]*"message":"serving"`)

func (s *Server) awaitAddress() bool {
	return s.Eventually(func() error {
		m := serving.FindStringSubmatch(s.Stderr())
		if m == nil {
			return errors.New("no address yet")
		}
		s.URL += m[1]
		s.GRPC = m[2]
		return nil
	})
}

// Eventually calls try until it returns nil, the process ends or patience is at
// its end, and tells whether it returned nil.
func (s *Server) Eventually(try func() error) bool {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return true
		}
		if time.Now().After(deadline) {
			s.t.Logf("gave up: %v", err)
			return false
		}
		select {
		case <-s.ended:
			err := try() // it may have come true at the end
			return err == nil
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// PID is the number of the process.
func (s *Server) PID() int { return s.command.Process.Pid }

// Stdout is what the process has written to standard output so far.
func (s *Server) Stdout() string { return s.stdout.String() }

// Stderr is what the process has written to standard error so far.
func (s *Server) Stderr() string { return s.stderr.String() }

// Signal sends a signal.
func (s *Server) Signal(sig os.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends the process as a power cut would end it, but for what the kernel has
// been told.
func (s *Server) Kill() {
	s.t.Helper()
	s.Signal(syscall.SIGKILL)
	<-s.ended
	s.Client.CloseIdleConnections()
}

// Wait waits for the end and gives the exit code, -1 after a signal.
func (s *Server) Wait() int {
	s.t.Helper()
	select {
	case <-s.ended:
		s.Client.CloseIdleConnections()
		return s.code
	case <-time.After(patience):
		s.t.Fatalf("the process does not end; standard error:\n%s", s.Stderr())
	}
	return -1
}

// Stop asks the server to stop and fails the test when it does not end with 0.
func (s *Server) Stop() {
	s.t.Helper()
	s.Signal(syscall.SIGTERM)
	if code := s.Wait(); code != 0 {
		s.t.Errorf("exit code %d after SIGTERM; standard error:\n%s", code, s.Stderr())
	}
}

// Ended tells whether the process has ended.
func (s *Server) Ended() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

var crashed = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE|SIG[A-Z]+: )|"message":"handler panicked"|"panic":`)

func (s *Server) cleanup() {
	if !s.Ended() {
		_ = s.command.Process.Kill() // it may end by itself just now
	}
	<-s.ended
	stderr := s.Stderr()
	if at := crashed.FindStringIndex(stderr); at != nil && !s.crashes {
		s.t.Errorf("the server crashed:\n%s", stderr[at[0]:min(len(stderr), at[0]+8<<10)])
	}
	if text := remarkable(stderr); s.t.Failed() && text != "" {
		s.t.Logf("standard error of %s:\n%s", s.Dir, text[max(0, len(text)-4<<10):])
	}
}

// remarkable leaves out the lines that say that all is well.
func remarkable(stderr string) string {
	var b strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, `{"level":"info"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Race tells whether this binary, which verdict is a copy of, has the race
// detector in it: it is then several times as slow and large.
func Race() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// Run runs a command of verdict to its end.
func Run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command("verdict", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = Environ(), &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(fmt.Errorf("run verdict: %w", err))
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
