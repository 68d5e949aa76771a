// Package components runs the programs of others that verdict works with, for
// tests: Envoy, nginx, Caddy, OpenBao, Keycloak. Each is fetched once into a
// cache outside of the checkout, pinned by version, listens on loopback only,
// and ends with its test.
//
// A component that cannot be had skips the test, by name; with CI=true it fails
// it.
package components

import (
	"bytes"
	"context"
	_ "embed" // fetch.sh
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	fetchPatience = 10 * time.Minute
	patience      = 10 * time.Minute // Keycloak takes half of it on a very busy machine
)

//go:embed fetch.sh
var fetchScript string

// Path is where the program of a component is, or the folder of one that is a
// library.
func Path(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fetchPatience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-s", name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(fetchScript), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		message := fmt.Sprintf("%s cannot be had: %v\n%s", name, err, stderr.String())
		if os.Getenv("CI") == "true" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return strings.TrimSpace(stdout.String())
}

// Process is a component that runs.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output output
	ended  chan struct{}
}

// output is what a process writes, to both streams.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// Start runs a program in a folder and waits until it listens on addr. It is
// ended, and its children with it, when the test ends.
func Start(t testing.TB, dir, addr, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.output, &p.output
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the clean-up ends
		defer close(p.ended)
		_ = p.cmd.Wait() // it is killed
	}()
	t.Cleanup(p.end)
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
			return p
		}
		select {
		case <-p.ended:
			t.Fatalf("%s has ended:\n%s", program, p.Output())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s:\n%s", program, addr, p.Output())
		}
	}
}

// Output is what the process has written so far.
func (p *Process) Output() string {
	p.output.mu.Lock()
	defer p.output.mu.Unlock()
	return p.output.text.String()
}

// Stop ends the process before its test does.
func (p *Process) Stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-p.ended
}

func (p *Process) end() {
	p.Stop()
	if p.t.Failed() {
		text := p.Output()
		p.t.Logf("output of %s:\n%s", p.cmd.Path, text[max(0, len(text)-4<<10):])
	}
}

// Configure reads an example configuration and puts other texts into it; each
// must be there.
func Configure(t testing.TB, example string, replace ...string) string {
	t.Helper()
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%s has no %q", example, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}
