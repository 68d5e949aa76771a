package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// profileCommand prints where a server spends its time under the first set,
// as perf sees it: no endpoint and no other build of the server are needed.
func profileCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench profile", flag.ContinueOnError)
	site := siteFlags(flags)
	name := flags.String("target", "verdict", "what to measure")
	connections := flags.Int("connections", 64, "number of connections")
	length := flags.Duration("measure", 5*time.Second, "length of the measurement")
	cumulative := flags.Bool("cumulative", false, "count a function's callees to it")
	var chosen []target
	err := parse(flags, args, func() (err error) {
		chosen, err = choose([]string{*name})
		return errors.Join(err, atLeast("connections", *connections, 1))
	})
	if err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	data := filepath.Join(s.dir, "perf.data")
	result, err := s.record(ctx, chosen[0], *connections, *length, data)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	fmt.Fprintf(out, "%s, %d connections, %.0f decisions/s while profiled\n", *name, *connections, result.PerSecond())
	if err := printProfile(ctx, out, data, *cumulative); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}

// record measures a target while perf samples it into the file data.
func (s *site) record(ctx context.Context, t target, connections int, length time.Duration, data string) (*load.Result, error) {
	perf, err := exec.LookPath("perf")
	if err != nil {
		return nil, err
	}
	set := workload.RBAC()
	srv, err := s.start(ctx, t, set)
	if err != nil {
		return nil, err
	}
	var recorder *exec.Cmd
	var failed error
	result, err := load.Run(ctx, load.Options{
		Addr: t.addr(srv), Token: srv.Token, Set: set, Checks: t.checks, Connections: connections, WarmUp: time.Second, Measure: length,
		Mark: func() {
			if recorder != nil {
				return
			}
			recorder = exec.CommandContext(ctx, perf, "record", "-q", "-F", "997", "-g", "-o", data,
				"-p", strconv.Itoa(srv.PID()), "--", "sleep", strconv.FormatFloat(length.Seconds(), 'f', 1, 64))
			recorder.Stderr = os.Stderr
			failed = recorder.Start()
		},
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return result, recorder.Wait()
}

// printProfile prints the functions that take half a percent or more.
func printProfile(ctx context.Context, out io.Writer, data string, cumulative bool) error {
	children := "--no-children"
	if cumulative {
		children = "--children"
	}
	printer := exec.CommandContext(ctx, "perf", "report", "--stdio", "-q", children, "-g", "none", "--sort", "symbol", "--percent-limit", "0.5", "-i", data)
	printer.Stderr = os.Stderr
	table, err := printer.Output()
	if err != nil {
		return err
	}
	for line := range bytes.Lines(table) {
		// perf fills columns that it does not use with blanks and dashes.
		if line = bytes.TrimRight(line, " -\n"); len(line) > 0 {
			fmt.Fprintf(out, "%s\n", line)
		}
	}
	return nil
}
