package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/server"
	"github.com/verdict-pdp/verdict/bench/workload"
)

const (
	// activationRate is how many decisions a second are asked while bundles are
	// activated, over activationConnections.
	activationRate        = 5_000
	activationConnections = 64
	// activationBound is what the p99 may be in multiples of the control's.
	activationBound = 1.2
	// ballasts is how many bundles are made before the measurement; each is
	// pushed once.
	ballasts = 24
)

// activation measures the latency of decisions while large bundles are pushed
// one after the other, beside a control in which another process burns a
// processor for the same time.
type activation struct {
	site    *site
	server  *server.Server
	set     *workload.Set
	bundles [][]byte
	pushed  int // of bundles
	asked   int
	measure time.Duration
	out     io.Writer
}

func activationCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench activation", flag.ContinueOnError)
	site := siteFlags(flags)
	measure := flags.Duration("measure", 20*time.Second, "length of each measurement")
	rounds := flags.Int("rounds", 3, "rounds; the median is reported")
	if err := parse(flags, args, func() error { return atLeast("rounds", *rounds, 1) }); err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	a := &activation{site: s, set: workload.RBAC(), measure: *measure, out: out}
	if err := a.start(ctx); err != nil {
		return err
	}
	return a.run(ctx, *rounds)
}

// start runs verdict with one ballast in place, and makes the others.
func (a *activation) start(ctx context.Context) error {
	for i := range ballasts {
		b, err := workload.Ballast(i)
		if err != nil {
			return err
		}
		a.bundles = append(a.bundles, b)
	}
	dir, err := a.site.folder("activation")
	if err != nil {
		return err
	}
	if err := a.set.WriteBundle(dir); err != nil {
		return err
	}
	a.server, err = server.StartVerdict(ctx, server.VerdictOptions{
		Program: a.site.verdict, Bundle: dir, Dir: dir, PushName: workload.BallastName,
	})
	if err != nil {
		return err
	}
	a.site.running = append(a.site.running, a.server)
	return a.push(ctx)
}

// push sends the next bundle and waits until it is active.
func (a *activation) push(ctx context.Context) error {
	archive := a.bundles[a.pushed%len(a.bundles)]
	if a.pushed++; a.pushed > len(a.bundles) {
		return fmt.Errorf("push: all %d bundles are used up", len(a.bundles))
	}
	status, body, err := send(ctx, a.server, http.MethodPut, "/api/v1/bundles/"+workload.BallastName, a.server.PushToken, archive)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("push: status %d: %.300s", status, body)
	}
	return nil
}

func (a *activation) run(ctx context.Context, rounds int) error {
	idle := func(context.Context) error { return nil }
	scenes := []struct {
		name   string
		beside func(context.Context) error
		p99    []time.Duration
	}{{name: "nothing else", beside: idle}, {name: "a processor burnt", beside: burn}, {name: "activations", beside: a.activate}}
	bad := 0
	for range rounds {
		for i := range scenes {
			r, err := a.ask(ctx, scenes[i].beside)
			if err != nil {
				return fmt.Errorf("%s: %w", scenes[i].name, err)
			}
			u, err := a.server.Usage()
			if err != nil {
				return err
			}
			bad += r.Wrong + r.Errors
			scenes[i].p99 = append(scenes[i].p99, r.Latency.Quantile(.99))
			fmt.Fprintf(a.out, "%-18s %6.0f/s  p50 %7.3f ms  p99 %7.3f ms  p99.9 %7.3f ms  max %8.3f ms  wrong %d  errors %d  RSS %d MiB, peak %d MiB  pushed %d  %s\n", scenes[i].name, r.PerSecond(),
				ms(r.Latency.Quantile(.5)), ms(r.Latency.Quantile(.99)), ms(r.Latency.Quantile(.999)), ms(r.Latency.Max()), r.Wrong, r.Errors, u.RSS>>20, u.PeakRSS>>20, a.pushed, r.FirstError)
		}
	}
	control, measured := median(scenes[1].p99), median(scenes[2].p99)
	ratio := float64(measured) / float64(control)
	fmt.Fprintf(a.out, "p99 with activations / with a processor burnt: %.2f (%.3f / %.3f ms), bound %.1f\n", ratio, ms(measured), ms(control), activationBound)
	if bad > 0 {
		return fmt.Errorf("%d times: %w", bad, errWrong)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// ask measures decisions while beside runs; beside ends with its context.
func (a *activation) ask(ctx context.Context, beside func(context.Context) error) (*load.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- beside(ctx) }()
	r, err := load.Run(ctx, load.Options{
		Addr: a.server.Addr, Token: a.server.Token, Set: a.set, First: a.asked,
		Connections: activationConnections, Rate: activationRate, WarmUp: time.Second, Measure: a.measure,
	})
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	a.asked += r.Sent
	return r, nil
}

// activate pushes bundles, one after the other, until ctx ends.
func (a *activation) activate(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.push(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// burn runs a process that does nothing but keep a processor busy.
func burn(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "while :; do :; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); ctx.Err() == nil {
		return fmt.Errorf("burn a processor: %w", err)
	}
	return nil
}
