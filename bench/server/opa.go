package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// OPAVersion is the release that verdict is measured against: the one whose
// packages it uses.
const OPAVersion = "v1.22.2"

// OPAOptions says how OPA is run.
type OPAOptions struct {
	// Program is the opa binary.
	Program string
	// Bundle is the folder with policy and data.
	Bundle string
	// Dir is a folder for the server's output.
	Dir string
	// DecisionLog turns the decision log to the console on; the console is
	// /dev/null, which costs OPA least.
	DecisionLog bool
	// GOGC is the GC percent; zero: OPA's default.
	GOGC int
	// Env is added to the environment.
	Env []string
}

// StartOPA runs `opa run -s`. The access log, two lines a request at level
// info, is off, which favours OPA; the decision log does not depend on it.
func StartOPA(ctx context.Context, o OPAOptions) (*Server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	args := []string{"run", "-s", "-a", addr, "--log-level=error", "--skip-version-check", "--bundle", o.Bundle}
	if o.DecisionLog {
		args = append(args, "--set", "decision_logs.console=true")
	}
	env := slices.Clone(o.Env)
	if o.GOGC > 0 {
		env = append(env, fmt.Sprintf("GOGC=%d", o.GOGC))
	}
	return start(ctx, Spec{Path: o.Program, Args: args, Env: env, Dir: o.Dir, Discard: o.DecisionLog}, addr)
}

// CacheDir returns the folder where programs and scratch data are kept:
// $VERDICT_TOOLS, or verdict-tools in the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("VERDICT_TOOLS"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "verdict-tools"), nil
}

// InstallOPA returns the path of the opa binary, which it builds with
// `go install` from the Go module proxy when it is not there yet.
func InstallOPA(ctx context.Context, cache string) (string, error) {
	dir := filepath.Join(cache, "opa-"+OPAVersion[1:])
	program := filepath.Join(dir, "opa")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintf(os.Stderr, "building opa %s into %s, once; this takes a minute or two\n", OPAVersion, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install opa: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/open-policy-agent/opa@"+OPAVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install opa: %w\n%s", err, out)
	}
	return program, nil
}
