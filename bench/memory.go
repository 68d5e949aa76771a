package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/verdict-pdp/verdict/bench/load"
	"github.com/verdict-pdp/verdict/bench/report"
	"github.com/verdict-pdp/verdict/bench/workload"
)

// tightGC is the GC percent under which live memory is read: the heap is
// collected often, and the size at which the next collection is due lies
// close to what is alive.
const tightGC = 10

// stirring is how long requests are sent so that a collection happens after
// everything was loaded, and stirConnections over how many connections.
const (
	stirring        = 4 * time.Second
	stirConnections = 8
)

func memoryCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench memory", flag.ContinueOnError)
	site := siteFlags(flags)
	size := flags.Int("size", 50<<20, "bytes of JSON that the data document is grown to")
	names := flags.String("targets", "verdict,opa", "what to measure")
	file := flags.String("out", "", "write the report to OUT.md")
	var chosen []target
	err := parse(flags, args, func() (err error) {
		chosen, err = choose(strings.Split(*names, ","))
		return errors.Join(err, atLeast("size", *size, 1))
	})
	if err != nil {
		return err
	}
	s, err := site(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	small, grown := workload.RBAC(), workload.Grown(*size)
	r := &report.Memory{
		Raw: len(grown.Files["data.json"]), Title: grown.Title,
		Machine: report.ThisMachine(s.fileSystem),
	}
	for _, t := range chosen {
		row := report.MemoryRow{Name: t.name}
		if err := s.peak(ctx, t, grown, &row); err != nil {
			return err
		}
		if row.Baseline, err = s.live(ctx, t, small); err != nil {
			return err
		}
		if row.Live, err = s.live(ctx, t, grown); err != nil {
			return err
		}
		r.Rows = append(r.Rows, row)
	}
	r.WriteText(out)
	if *file == "" {
		return nil
	}
	return r.WriteFile(*file + ".md")
}

// peak starts a target as shipped and notes how long it loads and how much
// memory it takes for that.
func (s *site) peak(ctx context.Context, t target, set *workload.Set, row *report.MemoryRow) error {
	began := time.Now()
	srv, err := s.start(ctx, t, set)
	if err != nil {
		return err
	}
	defer srv.Stop()
	row.Load = time.Since(began)
	u, err := srv.Usage()
	if err != nil {
		return err
	}
	row.Peak, row.RSS = u.PeakRSS, u.RSS
	return nil
}

// live returns the live heap of a target that holds the set's data.
func (s *site) live(ctx context.Context, t target, set *workload.Set) (int64, error) {
	srv, err := s.start(ctx, t, set, "GOGC="+strconv.Itoa(tightGC), "GOMEMLIMIT=off")
	if err != nil {
		return 0, err
	}
	defer srv.Stop()
	result, err := load.Run(ctx, load.Options{
		Addr: srv.Addr, Token: srv.Token, Set: set, Connections: stirConnections, Measure: stirring,
	})
	if err != nil {
		return 0, err
	}
	if result.Wrong > 0 {
		return 0, fmt.Errorf("%s: %w: %s", t.name, errWrong, result.FirstError)
	}
	return srv.LiveHeap(ctx, tightGC)
}
