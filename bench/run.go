package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bench/report"
	"github.com/verdict-pdp/verdict/bench/server"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// openRate is the rate of the open loop in requests a second, and
// openConnections the connections it may use.
const (
	openRate        = 8_000
	openConnections = 256
)

// checkConnections is the number of connections with which checks are measured,
// one under way on each.
const checkConnections = 64

// plan is what `bench run` measures.
type plan struct {
	full        bool
	connections []int
	targets     []target
	rounds      int
	warmUp      time.Duration
	measure     time.Duration
	policies    string
	out         string
}

// scene is one condition under which all targets are measured in turn.
type scene struct {
	set         *workload.Set
	connections int
	rate        int
}

// measures tells whether a target is measured in a scene.
func (c *scene) measures(t target) bool {
	return !t.checks || c.set.Checks != nil && c.connections == checkConnections && c.rate == 0
}

func runCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench run", flag.ContinueOnError)
	var p plan
	site := siteFlags(flags)
	flags.BoolVar(&p.full, "full", false, "measure all of the workload: three sets, 1 to 256 connections, open loop")
	connections := flags.String("connections", "", "connection counts for the first set (default 64,256; 1,16,64,256 with -full)")
	names := flags.String("targets", "verdict,opa,opa-log,opa-gogc,opa-log-gogc,verdict-check", "what to measure")
	flags.IntVar(&p.rounds, "rounds", 3, "rounds; the median is reported")
	flags.DurationVar(&p.warmUp, "warm-up", 700*time.Millisecond, "time before each measurement")
	flags.DurationVar(&p.measure, "measure", 3*time.Second, "length of each measurement")
	flags.StringVar(&p.policies, "policies", "../policies", "verdict's standard policies, for the third set")
	flags.StringVar(&p.out, "out", "", "write the report to OUT.md and the plot to OUT.svg")
	err := parse(flags, args, func() (err error) {
		if p.connections, err = counts(*connections, p.full); err != nil {
			return err
		}
		p.targets, err = choose(strings.Split(*names, ","))
		return errors.Join(err, atLeast("rounds", p.rounds, 1))
	})
	if err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	return p.run(ctx, s, out)
}

// siteFlags adds the flags that every command has and returns a function that
// makes the site when they are parsed.
func siteFlags(flags *flag.FlagSet) func(context.Context) (*site, error) {
	verdict := flags.String("verdict", "../bin/verdict", "the verdict binary")
	opa := flags.String("opa", "", "the opa binary (default: "+server.OPAVersion+", installed from the Go module proxy)")
	scratch := flags.String("scratch", "", "folder for data, on a real disk (default: in the user's cache)")
	memory := flags.Bool("memory", false, "the scratch folder may lie in memory: the cost of a disk is left out")
	gogc := flags.Int("gogc", 800, "GC percent for OPA at equal GOGC, when verdict does not tell its own")
	return func(ctx context.Context) (*site, error) {
		return newSite(ctx, *verdict, *opa, *scratch, *memory, *gogc)
	}
}

// counts reads a list of connection counts.
func counts(list string, full bool) ([]int, error) {
	switch {
	case list == "" && full:
		return []int{1, 16, 64, 256}, nil
	case list == "":
		return []int{64, 256}, nil
	}
	var all []int
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("connection count %q", field)
		}
		all = append(all, n)
	}
	return all, nil
}

// scenes returns what to measure, in order.
func (p *plan) scenes(ctx context.Context) ([]scene, error) {
	first := workload.RBAC()
	var all []scene
	for _, n := range p.connections {
		all = append(all, scene{set: first, connections: n})
	}
	if !p.full {
		return all, nil
	}
	all = append(all, scene{set: first, connections: openConnections, rate: openRate})
	standard, err := workload.Standard(ctx, p.policies, workload.Requests)
	if err != nil {
		return nil, err
	}
	for _, set := range []*workload.Set{workload.Cold(), standard} {
		for _, n := range []int{64, 256} {
			all = append(all, scene{set: set, connections: n})
		}
	}
	return all, nil
}

func (p *plan) run(ctx context.Context, s *site, out io.Writer) error {
	scenes, err := p.scenes(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(p.targets, func(t target) bool { return !t.opa }) {
		if err := s.learnGC(ctx, scenes[0].set); err != nil {
			return err
		}
	}
	r := &report.Report{Full: p.full, Rounds: p.rounds, Measure: p.measure, GOGC: s.gogc, Machine: report.ThisMachine(s.fileSystem)}
	wrong := 0
	for len(scenes) > 0 {
		n := slices.IndexFunc(scenes, func(c scene) bool { return c.set != scenes[0].set })
		if n < 0 {
			n = len(scenes)
		}
		stage := &stage{plan: p, site: s, servers: make(map[string]*server.Server), asked: make(map[string]int)}
		results, err := stage.play(ctx, scenes[:n])
		stage.stop()
		if err != nil {
			return err
		}
		for _, scene := range results {
			wrong += scene.Wrong()
		}
		r.Scenes = append(r.Scenes, results...)
		scenes = scenes[n:]
	}
	r.WriteText(out)
	if p.out != "" {
		if err := r.WriteFiles(p.out); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d times: %w", wrong, errWrong)
	}
	return nil
}
