package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/report"
	"github.com/verdict-pdp/verdict/bench/server"
)

// stage measures the scenes of one set. Its servers run from the first scene
// to the last, unless the set is cold.
type stage struct {
	plan    *plan
	site    *site
	servers map[string]*server.Server
	asked   map[string]int // the next request of each target
}

func (g *stage) stop() {
	for _, srv := range g.servers {
		srv.Stop()
	}
}

func (g *stage) play(ctx context.Context, scenes []scene) ([]report.Scene, error) {
	var all []report.Scene
	for _, c := range scenes {
		result := report.Scene{Set: c.set.Name, Title: c.set.Title, Connections: c.connections, Rate: c.rate}
		targets := slices.DeleteFunc(slices.Clone(g.plan.targets), func(t target) bool { return !c.measures(t) })
		for _, t := range targets {
			result.Targets = append(result.Targets, report.Target{Name: t.name})
		}
		for round := range g.plan.rounds {
			// Each round begins with another target, so that none is always
			// measured behind the same one.
			for i := range targets {
				n := (i + round) % len(targets)
				run, err := g.measure(ctx, c, targets[n])
				if err != nil {
					return nil, err
				}
				result.Targets[n].Runs = append(result.Targets[n].Runs, run)
			}
		}
		all = append(all, result)
	}
	return all, nil
}

// server returns the running server of a target and starts it if need be.
func (g *stage) server(ctx context.Context, c scene, t target) (*server.Server, error) {
	if srv := g.servers[t.name]; srv != nil && !c.set.Cold {
		return srv, nil
	} else if srv != nil {
		srv.Stop()
	}
	srv, err := g.site.start(ctx, t, c.set)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", t.name, err)
	}
	g.servers[t.name] = srv
	return srv, nil
}

func (g *stage) measure(ctx context.Context, c scene, t target) (report.Run, error) {
	srv, err := g.server(ctx, c, t)
	if err != nil {
		return report.Run{}, err
	}
	var marks []server.Usage
	var failed error
	result, err := load.Run(ctx, load.Options{
		Addr: t.addr(srv), Token: srv.Token, Set: c.set, Checks: t.checks, First: g.asked[t.name],
		Connections: c.connections, Rate: c.rate,
		WarmUp: g.plan.warmUp, Measure: g.plan.measure,
		Mark: func() {
			u, err := srv.Usage()
			failed = errors.Join(failed, err)
			marks = append(marks, u)
		},
	})
	if err = errors.Join(err, failed); err != nil {
		return report.Run{}, fmt.Errorf("measure %s: %w", t.name, err)
	}
	g.asked[t.name] += result.Sent
	fmt.Fprintf(os.Stderr, "%-8s %3d connections  %-13s %7.0f/s  p99 %8.3f ms  wrong %d  errors %d  %s\n",
		c.set.Name, c.connections, t.name, result.PerSecond(), float64(result.Latency.Quantile(.99))/1e6, result.Wrong, result.Errors, result.FirstError)
	return report.Run{
		PerSecond: result.PerSecond(),
		P50:       result.Latency.Quantile(.50), P90: result.Latency.Quantile(.90),
		P99: result.Latency.Quantile(.99), P999: result.Latency.Quantile(.999),
		CPU:       (marks[1].CPU - marks[0].CPU).Seconds() / float64(max(result.Answers, 1)) * 1000,
		Generator: result.CPU.Seconds() / float64(max(result.Answers, 1)) * 1000,
		RSS:       marks[1].RSS, PeakRSS: marks[1].PeakRSS,
		Wrong: result.Wrong, Errors: result.Errors, FirstError: result.FirstError,
	}, nil
}
