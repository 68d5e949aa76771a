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
	"sync/atomic"
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
	// activationSettle belongs to the window before it: what an activation leaves
	// to be done is its own.
	activationSettle = 500 * time.Millisecond
	// activationPause lies between two windows and is counted as neither.
	activationPause = time.Second
)

// Scenes of the measurement; the others are pauses.
const (
	scenePause = iota
	sceneBurnt
	sceneActivation
	scenes
	sceneEnd = -1
)

// activation measures the latency of decisions while large bundles are pushed,
// and in between, as a control, while another process burns a processor for the
// same time. The two take turns, so that what else the machine does meets both.
type activation struct {
	site    *site
	server  *server.Server
	set     *workload.Set
	bundles [][]byte
	pushed  int // of bundles
	scene   atomic.Int32
	out     io.Writer
}

func activationCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench activation", flag.ContinueOnError)
	site := siteFlags(flags)
	pushes := flags.Int("pushes", 20, "bundles to activate, each with a control of the same length")
	if err := parse(flags, args, func() error { return atLeast("pushes", *pushes, 1) }); err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	a := &activation{site: s, set: workload.RBAC(), out: out}
	if err := a.start(ctx, *pushes); err != nil {
		return err
	}
	return a.run(ctx, *pushes)
}

// start runs verdict with one ballast in place, and makes those to be pushed.
func (a *activation) start(ctx context.Context, pushes int) error {
	for i := range pushes + 1 {
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
	archive := a.bundles[a.pushed]
	a.pushed++
	status, body, err := send(ctx, a.server, http.MethodPut, "/api/v1/bundles/"+workload.BallastName, a.server.PushToken, archive)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	if status >= http.StatusMultipleChoices {
		return fmt.Errorf("push: status %d: %.300s", status, body)
	}
	return nil
}

func (a *activation) run(ctx context.Context, pushes int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() {
		err := a.turns(ctx, pushes)
		a.scene.Store(sceneEnd)
		ended <- err
		if err != nil {
			cancel(err)
		}
	}()
	r, err := load.Run(ctx, load.Options{
		Addr: a.server.Addr, Token: a.server.Token, Set: a.set,
		Connections: activationConnections, Rate: activationRate, WarmUp: activationPause, Measure: time.Hour,
		Scene: func() int { return int(a.scene.Load()) },
	})
	cancel(err)
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	return a.report(r)
}

// turns takes turns between the control and the activations. The control comes
// first in every second turn.
func (a *activation) turns(ctx context.Context, pushes int) error {
	length := 4 * time.Second // of the first control; then that of the last push
	for i := range pushes {
		turn := []func() error{
			func() error { return a.burn(ctx, length) },
			func() error {
				start := time.Now()
				err := a.during(ctx, sceneActivation, a.push)
				length = time.Since(start)
				return err
			},
		}
		if i%2 == 1 {
			slices.Reverse(turn)
		}
		for _, scene := range turn {
			if err := errors.Join(scene(), pause(ctx, activationPause)); err != nil {
				return err
			}
		}
	}
	return nil
}

// during counts requests as those of a scene while fn runs and for a while after.
func (a *activation) during(ctx context.Context, scene int32, fn func(context.Context) error) error {
	a.scene.Store(scene)
	defer a.scene.Store(scenePause)
	return errors.Join(fn(ctx), pause(ctx, activationSettle))
}

// burn is the control, of the given length.
func (a *activation) burn(ctx context.Context, length time.Duration) error {
	return a.during(ctx, sceneBurnt, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, length-activationSettle)
		defer cancel()
		return burn(ctx)
	})
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (a *activation) report(r *load.Result) error {
	u, err := a.server.Usage()
	if err != nil {
		return err
	}
	if len(r.Scenes) < scenes {
		return errors.New("no decision was asked for in some scene")
	}
	for _, s := range []struct {
		name  string
		scene int
	}{{"in pauses", scenePause}, {"a processor burnt", sceneBurnt}, {"activations", sceneActivation}} {
		h := &r.Scenes[s.scene]
		fmt.Fprintf(a.out, "%-18s %7d decisions  p50 %7.3f ms  p99 %8.3f ms  p99.9 %8.3f ms  max %8.3f ms\n", s.name, h.Count(),
			ms(h.Quantile(.5)), ms(h.Quantile(.99)), ms(h.Quantile(.999)), ms(h.Max()))
	}
	control, measured := r.Scenes[sceneBurnt].Quantile(.99), r.Scenes[sceneActivation].Quantile(.99)
	fmt.Fprintf(a.out, "pushed %d, RSS %d MiB, peak %d MiB, wrong %d, errors %d %s\n", a.pushed, u.RSS>>20, u.PeakRSS>>20, r.Wrong, r.Errors, r.FirstError)
	fmt.Fprintf(a.out, "p99 with activations / with a processor burnt: %.2f (%.3f / %.3f ms), bound %.1f; data on %s\n",
		float64(measured)/float64(control), ms(measured), ms(control), activationBound, a.site.fileSystem)
	if bad := r.Wrong + r.Errors; bad > 0 {
		return fmt.Errorf("%d times: %w", bad, errWrong)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// burn runs a process that does nothing but keep a processor busy.
func burn(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "while :; do :; done")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); ctx.Err() == nil {
		return fmt.Errorf("burn a processor: %w", err)
	}
	return nil
}
