package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pack"
)

const (
	// maxShownNames is how many names of a kind are shown to people.
	maxShownNames = 20
	// progressEvery is the time between two states of the progress line.
	progressEvery = 100 * time.Millisecond
)

// pushFlags are the flags of bundle push.
type pushFlags struct {
	bundleServerFlags
	ifMatch     string
	ifNoneMatch string
	dryRun      bool
	activate    bool
}

func newBundlePushCmd(p *process) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push NAME FILE|FOLDER",
		Short: "Push a bundle to a server, through its gates",
		Long: `Push a bundle to a server. There it goes through the gates: either it passes and
becomes active, or the gate that refused it is named and nothing changes. A folder
is packed first, as bundle build does without flags, and is not signed. A file is
sent unchanged, with its digest, without reading it into memory.

The answer lists every gate and what changed against the active revision. With
--output json, the server's answer is printed as it is, or its problem document if
it refuses; nothing is printed if no server answered.`,
		Example: `  verdict bundle push app app.tar.gz --server https://verdict.example --token-file token
  verdict bundle push app app.tar.gz --dry-run --output json
  verdict bundle push app app.tar.gz --if-match r6
  verdict bundle push app app.tar.gz --if-none-match '*'`,
		Annotations: map[string]string{exitCodesKey: `0  done: the bundle is active or kept, or was active already; with --dry-run: it would be
1  refused by a gate or by a conflict, such as --if-match naming a revision that is not active
2  the command line is wrong, a file could not be read, or the server could not be reached, refused access or is busy`},
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return withExit(exitUsage, err)
			}
			return pushBundle(cmd.Context(), p, args[0], args[1], &f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.ifMatch, "if-match", "", "push only while this `revision` or digest is active; *: any")
	fs.StringVar(&f.ifNoneMatch, "if-none-match", "", "with `*`: push only while no revision is active")
	fs.BoolVar(&f.dryRun, "dry-run", false, "run the gates and keep nothing")
	fs.BoolVar(&f.activate, "activate", true, "make it active; --activate=false only keeps it")
	f.add(cmd)
	return cmd
}

// check refuses conditions that would not say what was meant.
func (f *pushFlags) check(cmd *cobra.Command) error {
	match, none := cmd.Flags().Changed("if-match"), cmd.Flags().Changed("if-none-match")
	switch {
	case match && none:
		return errors.New("--if-match and --if-none-match exclude each other: give one")
	case match && f.ifMatch == "":
		return errors.New("--if-match is empty: write a revision, a digest, or * for any")
	case none && f.ifNoneMatch != "*":
		return errors.New("--if-none-match: write '*', that no revision is active")
	}
	return nil
}

func pushBundle(ctx context.Context, p *process, name, path string, f *pushFlags) error {
	r, err := f.connect(p)
	if err != nil {
		return err
	}
	b, err := openPushed(path)
	if err != nil {
		return withExit(exitUsage, err)
	}
	defer b.close()
	q := question{
		method: http.MethodPut, path: []string{"bundles", name}, query: url.Values{}, size: b.size,
		header: map[string]string{
			"Content-Type":   "application/gzip",
			"Content-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(b.sum) + ":",
			"Expect":         "100-continue", // who may not push need not send it all
		},
	}
	if f.ifMatch != "" {
		q.header["If-Match"] = etag(f.ifMatch)
	}
	if f.ifNoneMatch != "" {
		q.header["If-None-Match"] = f.ifNoneMatch
	}
	if f.dryRun {
		q.query.Set("dry_run", "true")
	}
	if !f.activate {
		q.query.Set("activate", "false")
	}
	bar := newProgress(p, "push "+name, b.size)
	q.body = bar.reader(b.file)
	body, err := r.ask(ctx, q)
	bar.end()
	if err != nil {
		return f.failed(p, err)
	}
	result, err := decodeAnswer(body, func(v *bundles.PushResult) bool { return v.Name == name && v.Status != "" })
	if err != nil {
		return withExit(exitUsage, err)
	}
	if f.output == "json" {
		return writeRaw(p.stdout, body)
	}
	return writePlain(p.stdout, pushText(result))
}

// etag writes a revision as If-Match has it.
func etag(revision string) string {
	if revision == "*" {
		return revision
	}
	return `"` + url.PathEscape(revision) + `"`
}

// pushed is a bundle on its way.
type pushed struct {
	file      *os.File
	size      int64
	sum       []byte // SHA-256
	temporary bool
}

// openPushed opens a tarball, or makes one of a folder, and reads it once for
// its digest.
func openPushed(path string) (b *pushed, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	b = &pushed{temporary: info.IsDir()}
	switch {
	case info.IsDir():
		b.file, err = packFolder(path)
	case info.Mode().IsRegular():
		b.file, err = os.Open(path)
	default:
		err = fmt.Errorf("%s is neither a file nor a folder", path)
	}
	if err != nil {
		return nil, err
	}
	hash := sha256.New()
	if b.size, err = io.Copy(hash, b.file); err == nil {
		_, err = b.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	b.sum = hash.Sum(nil)
	return b, nil
}

func packFolder(path string) (*os.File, error) {
	files, err := pack.Folder(os.DirFS(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file, err := os.CreateTemp("", "verdict-bundle-*.tar.gz")
	if err != nil {
		return nil, err
	}
	err = pack.Write(file, files)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		_, _ = file.Close(), os.Remove(file.Name()) // the first error tells
		return nil, fmt.Errorf("pack %s: %w", path, err)
	}
	return file, nil
}

func (b *pushed) close() {
	_ = b.file.Close() // it was only read
	if b.temporary {
		_ = os.Remove(b.file.Name()) // the system clears its temporary folder too
	}
}

// pushText tells people what became of a push.
func pushText(r *bundles.PushResult) string {
	var b strings.Builder
	switch r.Status {
	case "active":
		fmt.Fprintf(&b, "%s %s is active", r.Name, r.Revision)
		if r.Previous != "" {
			fmt.Fprintf(&b, ", %s was before", r.Previous)
		}
	case "kept":
		fmt.Fprintf(&b, "%s %s is kept and not active", r.Name, r.Revision)
	case "unchanged":
		fmt.Fprintf(&b, "%s %s was active already", r.Name, r.Revision)
	case "dry_run":
		fmt.Fprintf(&b, "%s %s passes the gates; nothing is kept", r.Name, r.Revision)
	default:
		fmt.Fprintf(&b, "%s %s: %s", r.Name, r.Revision, r.Status)
	}
	fmt.Fprintf(&b, "\ndigest %s, %d files, %d bytes\n%s", r.Digest, r.Files, r.Size, gatesText(r.Gates))
	if r.Changes != nil {
		b.WriteString(changesText(r.Changes))
	}
	return b.String()
}

func gatesText(gates []bundles.GateResult) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, g := range gates {
		took := ""
		if g.Result == bundles.Passed || g.Result == bundles.Failed {
			took = fmt.Sprintf("%.1f ms", g.Millis)
		}
		fmt.Fprintf(w, "gate %s\t%s\t%s\n", g.Name, g.Result, took)
	}
	_ = w.Flush() // a strings.Builder takes everything
	var lines strings.Builder
	for line := range strings.Lines(b.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return lines.String()
}

func changesText(c *bundles.Changes) string {
	var b strings.Builder
	if c.Against != "" {
		fmt.Fprintf(&b, "against %s: ", c.Against)
	}
	fmt.Fprintf(&b, "%d rules and %d data are different\n", c.Rules.Count, c.Data.Count)
	for _, list := range []struct {
		mark  string
		names []string
	}{
		{"+", c.Rules.Added},
		{"-", c.Rules.Removed},
		{"~", c.Rules.Changed},
		{"+", c.Data.Added},
		{"-", c.Data.Removed},
		{"~", c.Data.Changed},
		{"replaces base rule", c.BaseRulesReplaced},
		{"drops API write", c.APIWritesDropped},
	} {
		for _, name := range list.names[:min(len(list.names), maxShownNames)] {
			fmt.Fprintf(&b, "  %s %s\n", list.mark, name)
		}
		if more := len(list.names) - maxShownNames; more > 0 {
			fmt.Fprintf(&b, "  %s and %d more; --output json has them\n", list.mark, more)
		}
	}
	return b.String()
}

// progress is a line on a terminal that tells how much is sent. A nil one shows
// nothing.
type progress struct {
	w     io.Writer
	now   func() time.Time
	label string
	total int64

	mu    sync.Mutex // guards what follows
	sent  int64
	next  time.Time // when the line is written again
	ended bool
}

// newProgress gives nil where standard error is not a terminal.
func newProgress(p *process, label string, total int64) *progress {
	file, ok := p.stderr.(*os.File)
	if !ok || lookupEnv(p.environ, "TERM") == "dumb" {
		return nil
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &progress{w: file, now: p.now, label: plain(label), total: total}
}

// reader counts what is read from r.
func (g *progress) reader(r io.Reader) io.Reader {
	if g == nil {
		return io.NopCloser(r)
	}
	return &countedReader{r: r, progress: g}
}

type countedReader struct {
	r        io.Reader
	progress *progress
}

// Read implements io.Reader.
func (c *countedReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.progress.add(n)
	return n, err
}

func (g *progress) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent += int64(n)
	now := g.now()
	if g.ended || n == 0 || g.sent < g.total && now.Before(g.next) {
		return
	}
	g.next = now.Add(progressEvery)
	const mib = 1 << 20
	line := fmt.Sprintf("%.1f of %.1f MiB (%d %%)", float64(g.sent)/mib, float64(g.total)/mib, 100*g.sent/max(1, g.total))
	if g.sent >= g.total {
		line += ", waiting for the gates"
	}
	fmt.Fprintf(g.w, "\r\x1b[K%s: %s", g.label, line)
}

// end takes the line away; what is read later writes none.
func (g *progress) end() {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended && g.sent > 0 {
		fmt.Fprint(g.w, "\r\x1b[K")
	}
	g.ended = true
}
