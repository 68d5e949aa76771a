package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/trial"
)

// stageFlags say how a revision is tried.
type stageFlags struct {
	bundleServerFlags
	mode                            string
	percent, errors, latency, flips float64
	minDecisions                    int
}

func newBundleStageCmd(p *process) *cobra.Command {
	var f stageFlags
	cmd := &cobra.Command{
		Use:   "stage NAME [REVISION]",
		Short: "Try a revision that a server keeps on live decisions, or show what came of it",
		Long: `Try a revision that a server keeps on live decisions, beside the active one. A
shadow is evaluated after each answer and never answers itself; a canary answers
for a share of the subjects and is withdrawn when it exceeds a limit. Without
REVISION, show the results of the trial so far, or how the last one ended.`,
		Example: `  verdict bundle stage app r8 --percent 10 --server https://verdict.example --token-file token
  verdict bundle stage app r8 --mode canary --percent 5 --max-flips 1
  verdict bundle stage app --output json`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return askStaging(cmd.Context(), p, &f.bundleServerFlags, question{method: http.MethodGet, path: []string{"bundles", args[0], "stage"}})
			}
			raw, err := json.Marshal(f.request(cmd))
			if err != nil {
				return withExit(exitUsage, err)
			}
			return askStaging(cmd.Context(), p, &f.bundleServerFlags, question{
				method: http.MethodPost, path: []string{"bundles", args[0], "revisions", args[1], "stage"}, body: bytes.NewReader(raw),
				header: map[string]string{"Content-Type": "application/json"},
			})
		},
	}
	f.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.mode, "mode", string(bundles.ModeShadow), "`MODE`: shadow or canary")
	fs.Float64Var(&f.percent, "percent", 10, "`NUMBER`: percentage of decisions (shadow) or subjects (canary) to try it on")
	fs.Float64Var(&f.errors, "max-errors", trial.DefaultErrors, "`PERCENT` of its decisions that a canary may fail")
	fs.Float64Var(&f.latency, "max-latency", trial.DefaultLatency, "`FACTOR` by which a canary may be slower; 0: no limit")
	fs.Float64Var(&f.flips, "max-flips", trial.DefaultFlips, "`PERCENT` of its decisions in which a canary may turn a denial into an allow or the reverse")
	fs.IntVar(&f.minDecisions, "min-decisions", trial.DefaultMinDecisions, "`NUMBER` of decisions before the limits apply")
	return cmd
}

// request is the body: limits only where they are given.
func (f *stageFlags) request(cmd *cobra.Command) any {
	limits := map[string]any{}
	for flag, l := range map[string]struct {
		name  string
		value any
	}{
		"max-errors": {"errors", f.errors}, "max-latency": {"latency", f.latency},
		"max-flips": {"flips", f.flips}, "min-decisions": {"min_decisions", f.minDecisions},
	} {
		if cmd.Flags().Changed(flag) {
			limits[l.name] = l.value
		}
	}
	return map[string]any{"mode": f.mode, "percent": f.percent, "limits": limits}
}

func newBundleUnstageCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:         "unstage NAME",
		Short:       "End the trial of a bundle's staged revision",
		Example:     `  verdict bundle unstage app --server https://verdict.example --token-file token`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askStaging(cmd.Context(), p, &f, question{method: http.MethodDelete, path: []string{"bundles", args[0], "stage"}})
		},
	}
	f.add(cmd)
	return cmd
}

func newBundlePromoteCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:         "promote NAME [REVISION]",
		Short:       "Make a bundle's staged revision active",
		Long:        `Make a bundle's staged revision active and end its trial. With REVISION, do so only if that is the staged revision.`,
		Example:     `  verdict bundle promote app r8 --server https://verdict.example --token-file token`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			want := map[string]any{}
			if len(args) == 2 {
				want["revision"] = args[1]
			}
			return changeBundles(cmd.Context(), p, &f, []string{"bundles", args[0], "stage", "promote"}, want)
		},
	}
	f.add(cmd)
	return cmd
}

// askStaging asks a question that is answered by a trial, and prints it.
func askStaging(ctx context.Context, p *process, f *bundleServerFlags, q question) error {
	r, err := f.connect(p)
	if err != nil {
		return err
	}
	body, err := r.ask(ctx, q)
	if err != nil {
		return f.failed(p, err)
	}
	st, err := decodeAnswer(body, func(s *bundles.Staging) bool { return s.Mode != "" })
	if err != nil {
		return withExit(exitUsage, err)
	}
	if f.output == "json" {
		return writeRaw(p.stdout, body)
	}
	return writePlain(p.stdout, stagingText(st))
}

func stagingText(s *bundles.Staging) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s, %g percent, %s", s.Name, s.Revision, s.Mode, s.Percent, s.Status)
	if s.Ended != nil {
		fmt.Fprintf(&b, ": %s", s.Ended.Reason)
		if s.Ended.Breach != nil {
			fmt.Fprintf(&b, " (%s)", s.Ended.Breach)
		}
	}
	c := s.Counts
	fmt.Fprintf(&b, "\n%d decisions, %d answered by it, %d compared, %d not compared, %d failed\n", c.Decisions, c.Answered, c.Compared, c.Dropped, c.Errors)
	for _, kind := range slices.Sorted(maps.Keys(c.Differences)) {
		fmt.Fprintf(&b, "  %-13s %d\n", kind, c.Differences[kind])
	}
	return b.String()
}
