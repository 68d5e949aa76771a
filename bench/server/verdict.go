package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
)

// VerdictOptions says how verdict is run.
type VerdictOptions struct {
	// Program is the verdict binary.
	Program string
	// Bundle is the folder with policy and data; empty: only the standard
	// policies are served.
	Bundle string
	// Dir is a folder on a real disk for the data directory and the output.
	Dir string
	// Env is added to the environment.
	Env []string
	// PushName is a bundle that may be pushed without a signature; empty: none.
	PushName string
}

// StartVerdict runs `verdict serve` as it is meant to be run: not in dev mode,
// every record on disk before its answer, the caller known by a token.
func StartVerdict(ctx context.Context, o VerdictOptions) (*Server, error) {
	data := filepath.Join(o.Dir, "data")
	token, err := createToken(ctx, o, data, "bench", "decide")
	if err != nil {
		return nil, err
	}
	status, err := createToken(ctx, o, data, "bench-status", "audit:read")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	checks, err := freeAddr()
	if err != nil {
		return nil, err
	}
	args := []string{
		"serve", "--data-dir", data, "--addr", addr, "--grpc-addr", checks,
		"--set", "audit.durability=durable",
	}
	var push string
	if o.PushName != "" {
		if push, err = createToken(ctx, o, data, "bench-push", "bundles:"+o.PushName); err != nil {
			return nil, err
		}
		args = append(args, "--set", "bundles.allow_unsigned=true")
	}
	if o.Bundle != "" {
		args = append(args, "--bundle", o.Bundle)
	}
	s, err := start(ctx, Spec{Path: o.Program, Args: args, Env: o.Env, Dir: o.Dir}, addr)
	if err != nil {
		return nil, err
	}
	s.Checks, s.Token, s.StatusToken, s.PushToken = checks, token, status, push
	return s, nil
}

// createToken makes a token with one scope and returns it.
func createToken(ctx context.Context, o VerdictOptions, data, name, scope string) (string, error) {
	cmd := exec.CommandContext(ctx, o.Program, "token", "create", "--name", name, "--scope", scope, "--data-dir", data)
	cmd.Env = environment(cmd.Environ())
	cmd.Dir = o.Dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("create token: %w: %s", errors.Join(context.Cause(ctx), err), bytes.TrimSpace(stderr.Bytes()))
	}
	fields := bytes.Fields(out)
	if len(fields) == 0 {
		return "", fmt.Errorf("create token: no token was printed")
	}
	return string(fields[len(fields)-1]), nil
}

// GCPercent asks verdict for the GC target that it runs with, which
// GET /api/v1/status gives as runtime.gc_percent.
func (s *Server) GCPercent(ctx context.Context) (int, error) {
	status, body, err := s.get(ctx, "/api/v1/status", s.StatusToken)
	if err != nil {
		return 0, fmt.Errorf("read the GC percent: %w", err)
	}
	var answer struct {
		Runtime struct {
			GCPercent int `json:"gc_percent"`
		} `json:"runtime"`
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("read the GC percent: status %d", status)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("read the GC percent: %w", err)
	}
	if answer.Runtime.GCPercent < 1 {
		return 0, fmt.Errorf("read the GC percent: no runtime.gc_percent in the status")
	}
	return answer.Runtime.GCPercent, nil
}
