package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/verdict-pdp/verdict/bench/server"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// target is one way to run one of the servers.
type target struct {
	name        string
	opa         bool
	decisionLog bool
	equalGC     bool
	checks      bool // asked over ext_authz
}

// addr is where a server is asked.
func (t target) addr(srv *server.Server) string {
	if t.checks {
		return srv.Checks
	}
	return srv.Addr
}

// targets are in the order of the report.
func targets() []target {
	return []target{
		{name: "verdict"},
		{name: "opa", opa: true},
		{name: "opa-log", opa: true, decisionLog: true},
		{name: "opa-gogc", opa: true, equalGC: true},
		{name: "opa-log-gogc", opa: true, decisionLog: true, equalGC: true},
		{name: "verdict-check", checks: true},
	}
}

// choose returns the named targets, in the order of the report.
func choose(names []string) ([]target, error) {
	var chosen []target
	for _, t := range targets() {
		if slices.Contains(names, t.name) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) != len(names) {
		return nil, fmt.Errorf("unknown or repeated target in %v", names)
	}
	return chosen, nil
}

// site is the scratch folder of one call and the programs it runs.
type site struct {
	dir        string
	fileSystem string
	verdict    string
	opa        string
	gogc       int
	started    int
	running    []*server.Server
}

// newSite makes the scratch folder, on a real disk unless memory is set, and
// finds the programs.
func newSite(ctx context.Context, verdict, opa, scratch string, memory bool, gogc int) (*site, error) {
	cache, err := server.CacheDir()
	if err != nil {
		return nil, err
	}
	if scratch == "" {
		scratch = filepath.Join(cache, "scratch")
	}
	// The servers run in folders of their own, so every path is absolute.
	if scratch, err = filepath.Abs(scratch); err != nil {
		return nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	s := &site{opa: opa, gogc: gogc}
	var inMemory bool
	if s.fileSystem, inMemory, err = server.FileSystem(scratch); err != nil {
		return nil, err
	}
	if inMemory && !memory {
		return nil, fmt.Errorf("%s is %s: the log must lie on a real disk, choose another folder with -scratch, or leave the disk out with -memory", scratch, s.fileSystem)
	}
	if s.verdict, err = filepath.Abs(verdict); err != nil {
		return nil, fmt.Errorf("find verdict: %w", err)
	}
	if s.opa == "" {
		s.opa, err = server.InstallOPA(ctx, cache)
	} else {
		s.opa, err = filepath.Abs(opa)
	}
	if err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(scratch, "run-"); err != nil {
		return nil, fmt.Errorf("make the scratch folder: %w", err)
	}
	return s, nil
}

// close stops every server and removes the scratch folder.
func (s *site) close() {
	for _, srv := range s.running {
		srv.Stop()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintf(os.Stderr, "bench: remove the scratch folder: %v\n", err)
	}
}

// folder makes a new folder in the scratch folder.
func (s *site) folder(name string) (string, error) {
	s.started++
	dir := filepath.Join(s.dir, fmt.Sprintf("%03d-%s", s.started, name))
	return dir, os.MkdirAll(dir, 0o755)
}

// start runs a target with a set's bundle. The server is stopped by close, if
// not before.
func (s *site) start(ctx context.Context, t target, set *workload.Set, env ...string) (*server.Server, error) {
	dir, err := s.folder(t.name)
	if err != nil {
		return nil, err
	}
	bundle := filepath.Join(dir, "bundle")
	if err := os.Mkdir(bundle, 0o755); err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	if err := set.WriteBundle(bundle); err != nil {
		return nil, err
	}
	var srv *server.Server
	if t.opa {
		o := server.OPAOptions{Program: s.opa, Bundle: bundle, Dir: dir, DecisionLog: t.decisionLog, Env: env}
		if t.equalGC {
			o.GOGC = s.gogc
		}
		srv, err = server.StartOPA(ctx, o)
	} else {
		if set.Standard {
			bundle = ""
		}
		srv, err = server.StartVerdict(ctx, server.VerdictOptions{Program: s.verdict, Bundle: bundle, Dir: dir, Env: env})
	}
	if err != nil {
		return nil, err
	}
	s.running = append(s.running, srv)
	return srv, nil
}

// learnGC starts verdict once and asks it for its GC percent, so that OPA can
// be run with the same. When it does not tell, the flag's value stands.
func (s *site) learnGC(ctx context.Context, set *workload.Set) error {
	srv, err := s.start(ctx, target{name: "verdict"}, set)
	if err != nil {
		return err
	}
	defer srv.Stop()
	percent, err := srv.GCPercent(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v; equal GOGC is taken to be %d\n", err, s.gogc)
		return nil
	}
	s.gogc = percent
	return nil
}

// send sends a request to a server's own API and returns what it answers.
func send(ctx context.Context, srv *server.Server, method, path, token string, content []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+srv.Addr+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
