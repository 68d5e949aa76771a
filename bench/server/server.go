// Package server starts and stops the servers under test and reads what they
// cost from /proc.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 10 * time.Second
	outputTail   = 4 << 10
)

// Server is a running child process that answers on Addr.
type Server struct {
	// Addr is host and port.
	Addr string
	// Checks is host and port of ext_authz; empty for other servers.
	Checks string
	// Token is the bearer token that may decide; empty: none is needed.
	Token string
	// StatusToken may read verdict's status; empty for other servers.
	StatusToken string
	// PushToken may push one bundle; empty unless it was asked for.
	PushToken string

	cmd    *exec.Cmd
	output *os.File
	exited chan struct{}
}

// Spec says what to start.
type Spec struct {
	// Path is the program.
	Path string
	// Args are its arguments, the address left out.
	Args []string
	// Env is added to a clean environment.
	Env []string
	// Dir is the server's own folder, for its output.
	Dir string
	// Discard sends the output to /dev/null instead of a file in Dir.
	Discard bool
}

// start runs a program and waits until GET /health answers 200.
func start(ctx context.Context, spec Spec, addr string) (*Server, error) {
	name := filepath.Join(spec.Dir, "output.txt")
	if spec.Discard {
		name = os.DevNull
	}
	output, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Dir = spec.Dir
	cmd.Env = append(environment(os.Environ()), spec.Env...)
	// A group of its own, so that an interrupt at the terminal reaches only
	// this program, which then stops its servers in order; the death signal
	// is for the case that it is killed itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		output.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	s := &Server{Addr: addr, cmd: cmd, output: output, exited: make(chan struct{})}
	// Ends when the process does; Stop waits for it.
	go func() {
		defer close(s.exited)
		_ = cmd.Wait()
	}()
	if err := s.ready(ctx); err != nil {
		tail := s.tail()
		s.Stop()
		return nil, fmt.Errorf("start %s: %w%s", spec.Path, err, tail)
	}
	return s, nil
}

// environment leaves out what would change how a server runs.
func environment(env []string) []string {
	var kept []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "GOGC", name == "GOMEMLIMIT", name == "GODEBUG", name == "GOMAXPROCS":
		case strings.HasPrefix(name, "VERDICT_"), strings.HasPrefix(name, "OPA_"):
		default:
			kept = append(kept, kv)
		}
	}
	return kept
}

// ready waits for the first good answer to GET /health.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		status, _, err := s.get(ctx, "/health", "")
		if err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-s.exited:
			return errors.New("exited before it was ready")
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) get(ctx context.Context, path, token string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Close = true
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// PID returns the process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop asks the server to end, kills it when it does not, and returns when it
// is gone. It may be called more than once.
func (s *Server) Stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.output.Close()
}

// tail returns the end of the server's output, for an error message.
func (s *Server) tail() string {
	info, err := s.output.Stat()
	if err != nil || info.Size() == 0 {
		return ""
	}
	b := make([]byte, outputTail)
	n, err := s.output.ReadAt(b, max(0, info.Size()-outputTail))
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return "\n" + string(bytes.TrimSpace(b[:n]))
}

// freeAddr returns a loopback address whose port is free now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
