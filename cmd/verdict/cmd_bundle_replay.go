package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/internal/timespan"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// replayFlags are the flags of bundle replay.
type replayFlags struct {
	bundleServerFlags
	from, to, failOn string
	limit, list      int
	paths            []string
}

func newBundleReplayCmd(p *process) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay NAME REVISION",
		Short: "Tell which recorded decisions a kept revision would have made otherwise",
		Long: `Re-run a server's recorded decisions on a revision that it keeps, and report those
whose outcome differs. Nothing changes. The newest decisions between --from and
--to are used; each of these is a time or an age.

With --output json, the server's answer is printed as it is, or its problem
document if it refuses.`,
		Example: `  verdict bundle replay app r7 --from 24h --server https://verdict.example --token-file token
  verdict bundle replay app r7 --from 2026-11-23T00:00:00Z --limit 10000 --fail-on grants
  verdict bundle replay app r7 --path shop/allow --fail-on 0.1% --output json`,
		Annotations: map[string]string{exitCodesKey: `0  done, and what --fail-on names did not happen
1  it did: outcomes differ; or the revision does not fit the active bundles
2  the command line is wrong, there is no such bundle or revision, or the server could not be reached, refused access or is busy`},
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return replayBundle(cmd.Context(), p, args[0], args[1], &f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "decisions since this `time` (RFC 3339) or age, such as 24h or 7d; default: all")
	fs.StringVar(&f.to, "to", "", "decisions until this `time` or age; default: now")
	fs.IntVar(&f.limit, "limit", replay.DefaultLimit, "how many of the newest decisions to replay")
	fs.StringSliceVar(&f.paths, "path", nil, "decision `path` to replay, a/b/ for all below a/b; may be repeated; default: all")
	fs.IntVar(&f.list, "list", replay.DefaultList, "flips to list")
	fs.StringVar(&f.failOn, "fail-on", "flips", "when to exit with 1: flips (any), grants (a denial becomes an allow), more flips than a number or a percentage such as 0.1%, or never")
	f.add(cmd)
	return cmd
}

func replayBundle(ctx context.Context, p *process, name, revision string, f *replayFlags) error {
	fails, err := parseFailOn(f.failOn)
	if err != nil {
		return withExit(exitUsage, err)
	}
	want, err := f.question(p.now())
	if err != nil {
		return withExit(exitUsage, err)
	}
	r, err := f.connect(p)
	if err != nil {
		return err
	}
	answer, err := r.send(ctx, question{
		method: http.MethodPost, path: []string{"bundles", name, "revisions", revision, "replay"}, body: bytes.NewReader(want),
		header: map[string]string{"Content-Type": "application/json", "Accept": "application/x-ndjson"},
	})
	if err != nil {
		return f.failed(p, err)
	}
	defer answer.Close()
	bar := newProgress(p, "replay "+name+" "+revision, 0)
	raw, err := readReplay(answer, bar.replayed)
	bar.end()
	if err != nil {
		return withExit(exitUsage, err)
	}
	result, err := decodeAnswer(raw, func(v *replayResult) bool { return v.Report != nil && v.SHA256 != "" })
	if err != nil {
		return withExit(exitUsage, err)
	}
	if f.output == "json" {
		err = writeRaw(p.stdout, raw)
	} else {
		err = writePlain(p.stdout, replayText(result))
	}
	if err != nil {
		return err
	}
	if fails(result.Report) {
		return withExit(exitFailure, fmt.Errorf("%d of %d recorded decisions come out otherwise (--fail-on %s)", result.Report.Flips.Count, result.Report.Replayed, f.failOn))
	}
	return nil
}

// question is the body of the request.
func (f *replayFlags) question(now time.Time) ([]byte, error) {
	body := map[string]any{"limit": f.limit, "detail": f.list}
	if len(f.paths) > 0 {
		body["paths"] = f.paths
	}
	for name, text := range map[string]string{"from": f.from, "to": f.to} {
		if text == "" {
			continue
		}
		at, err := parseTime(text)
		if err != nil {
			age, ageErr := timespan.Parse(text)
			if ageErr != nil {
				return nil, fmt.Errorf("--%s %q: write a time such as 2026-11-23T09:00:00Z or an age such as 24h or 7d", name, text)
			}
			at = now.Add(-age)
		}
		body[name] = at.UTC()
	}
	return json.Marshal(body)
}

// parseFailOn reads what ends with 1.
func parseFailOn(text string) (func(*replay.Report) bool, error) {
	switch text {
	case "never":
		return func(*replay.Report) bool { return false }, nil
	case "flips":
		return func(r *replay.Report) bool { return r.Flips.Count > 0 }, nil
	case "grants":
		return func(r *replay.Report) bool { return r.Flips.Kinds[replay.DenyToAllow] > 0 }, nil
	}
	number, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || percent && n > 100 {
		return nil, fmt.Errorf("--fail-on %q: write flips, grants, never, a number or a percentage", text)
	}
	return func(r *replay.Report) bool {
		if percent {
			return float64(r.Flips.Count) > n/100*float64(r.Replayed)
		}
		return float64(r.Flips.Count) > n
	}, nil
}

// replayResult is the answer of the server.
type replayResult struct {
	Name     string         `json:"name"`
	Revision string         `json:"revision"`
	SHA256   string         `json:"sha256"`
	Millis   float64        `json:"duration_ms"`
	Report   *replay.Report `json:"report"`
}

// readReplay reads the lines of a replay until the result.
func readReplay(answer io.Reader, progress func(replay.Progress)) ([]byte, error) {
	lines := bufio.NewScanner(answer)
	lines.Buffer(nil, maxBundleAnswer)
	for lines.Scan() {
		var line struct {
			Progress *replay.Progress `json:"progress"`
			Result   json.RawMessage  `json:"result"`
			Error    string           `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
		switch {
		case line.Error != "":
			return nil, errors.New(plain(line.Error))
		case line.Result != nil:
			return line.Result, nil
		case line.Progress != nil:
			progress(*line.Progress)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	return nil, errors.New("read the server's answer: it ended before the result")
}

// replayed writes how far a replay has come.
func (g *progress) replayed(p replay.Progress) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.now(); !g.ended && !now.Before(g.next) {
		g.next, g.sent = now.Add(progressEvery), 1
		fmt.Fprintf(g.w, "\r\x1b[K%s: %d decisions, %d flips (%d %%)", g.label, p.Decisions, p.Flips, 100*p.Read/max(1, p.Total))
	}
}

// replayText tells people what came of a replay.
func replayText(a *replayResult) string {
	var b strings.Builder
	r := a.Report
	fmt.Fprintf(&b, "%s %s: %d of %d recorded decisions come out otherwise", a.Name, a.Revision, r.Flips.Count, r.Replayed)
	if r.First != nil {
		fmt.Fprintf(&b, ", %s to %s", r.First.Time.Format(time.RFC3339), r.Last.Time.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "\n%s%s", countsText("not replayable", r.NotReplayable), countsText("skipped", r.Skipped))
	if r.Unrecorded > 0 {
		fmt.Fprintf(&b, "%d asked for chance that their records do not hold; another run of the policy might decide otherwise\n", r.Unrecorded)
	}
	for _, kind := range []replay.Kind{replay.DenyToAllow, replay.AllowToDeny, replay.Changed, replay.ToError, replay.FromError} {
		if n := r.Flips.Kinds[kind]; n > 0 {
			fmt.Fprintf(&b, "%s: %d\n", kind, n)
		}
	}
	for _, g := range []struct {
		name string
		list []replay.Group
	}{{"path", r.Groups.Path}, {"role", r.Groups.Role}, {"resource type", r.Groups.ResourceType}, {"reason", r.Groups.Reason}} {
		for _, group := range g.list[:min(len(g.list), maxShownNames)] {
			fmt.Fprintf(&b, "  by %s: %s %d\n", g.name, cell(group.Value), group.Count)
		}
	}
	for _, f := range r.Flips.List {
		fmt.Fprintf(&b, "%s %s %s: %s, was %s\n", f.DecisionID, f.Path, f.Kind, answerText(f.New), answerText(f.Old))
	}
	if r.Flips.More {
		fmt.Fprintf(&b, "and more; --list has a higher bound\n")
	}
	fmt.Fprintf(&b, "report sha256 %s, %.1f ms\n", a.SHA256, a.Millis)
	return b.String()
}

func countsText(name string, c replay.Counts) string {
	if c.Count == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d", name, c.Count)
	separator := " ("
	for _, reason := range slices.Sorted(maps.Keys(c.Reasons)) {
		fmt.Fprintf(&b, "%s%s %d", separator, reason, c.Reasons[reason])
		separator = ", "
	}
	return b.String() + ")\n"
}

// answerText is a result on one line.
func answerText(a replay.Answer) string {
	const most = 200
	switch {
	case a.Error != "":
		return "error " + a.Error
	case a.Undefined:
		return "undefined"
	case len(a.Result) > most:
		return strings.ToValidUTF8(string(a.Result[:most]), "") + "..."
	}
	return string(a.Result)
}
