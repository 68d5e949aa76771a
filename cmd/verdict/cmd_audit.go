package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/storage/segmentread"
)

const auditExitCodes = `0  ok: every record is there and unchanged
1  tampered
2  the log could not be read
3  truncated
4  rolled back
5  unverifiable
6  damaged`

// auditFlags are the flags of the commands that read the log.
type auditFlags struct {
	config configFlags
	remote remoteFlags
}

func (f *auditFlags) add(cmd *cobra.Command) {
	addDataDirFlags(cmd, &f.config)
	f.remote.add(cmd)
}

// open reads the configuration and finds the server, nil for none. An error
// means that the log could not be looked at.
func (f *auditFlags) open(p *process) (dir string, r *remote, err error) {
	c, err := readConfig(&f.config, p.environ)
	if err != nil {
		return "", nil, withExit(exitUsage, err)
	}
	if r, err = f.remote.connect(p, c.DataDir); err != nil {
		return "", nil, withExit(exitUsage, err)
	}
	return filepath.Join(c.DataDir, "audit"), r, nil
}

func newAuditCmd(p *process) *cobra.Command {
	cmd := newGroup("audit", "Verify and read the audit log")
	cmd.Long = `Verify and read the audit log: in the data folder while no server is using it, or
through the running server (--server).`
	cmd.AddCommand(newAuditVerifyCmd(p), newAuditShowCmd(p), newAuditTailCmd(p))
	return cmd
}

func newAuditVerifyCmd(p *process) *cobra.Command {
	var f auditFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no record was changed, removed or added",
		Long: `Check every record of the log: its hash, its place in the chain and the tree, its
number and its time. The first line of the report names the first bad sequence
number and the kind of damage. The log alone cannot reveal that it was truncated
or rewritten consistently: keep the head and root that this command prints
somewhere else, and compare them.`,
		Example: `  verdict audit verify --data-dir ./data
  verdict audit verify --server http://127.0.0.1:8181 --json`,
		Annotations: map[string]string{exitCodesKey: auditExitCodes},
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, r, err := f.open(p)
			if err != nil {
				return err
			}
			var report verify.Report
			if r != nil {
				report, err = verifyRemote(cmd.Context(), r)
			} else {
				report, err = verifyFolder(cmd.Context(), dir)
			}
			if err != nil {
				return withExit(exitUsage, err)
			}
			return printReport(p.stdout, &report, asJSON)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func verifyFolder(ctx context.Context, dir string) (verify.Report, error) {
	source, err := segmentread.Open(dir)
	if err != nil {
		return verify.Report{}, err
	}
	defer source.Close()
	return verify.Run(ctx, source, verify.Options{})
}

// verifyRemote reads the lines that the server streams; the last one is the
// report.
func verifyRemote(ctx context.Context, r *remote) (verify.Report, error) {
	body, err := r.get(ctx, "/api/v1/audit/verify", nil)
	if err != nil {
		return verify.Report{}, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var line struct {
			Report *verify.Report `json:"report"`
			Error  string         `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return verify.Report{}, fmt.Errorf("read the server's answer: %w", err)
		}
		switch {
		case line.Error != "":
			return verify.Report{}, errors.New(line.Error)
		case line.Report != nil:
			return *line.Report, nil
		}
	}
	if err := lines.Err(); err != nil {
		return verify.Report{}, fmt.Errorf("read the server's answer: %w", err)
	}
	return verify.Report{}, errors.New("the server's answer ended before its report")
}

func printReport(w io.Writer, report *verify.Report, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(w).Encode(report); err != nil {
			return err
		}
	} else if _, err := io.WriteString(w, report.Text()); err != nil {
		return err
	}
	if code := report.Result.ExitCode(); code != exitOK {
		return withExit(code, nil)
	}
	return nil
}

func newAuditShowCmd(p *process) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "show SEQ|DECISION_ID",
		Short: "Print one record: the bytes that are stored and hashed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, r, err := f.open(p)
			if err != nil {
				return err
			}
			seq, numberErr := strconv.ParseUint(args[0], 10, 64)
			if r != nil {
				path := "/api/v1/audit/records/" + args[0]
				if numberErr != nil {
					path = "/api/v1/decisions/" + url.PathEscape(args[0])
				}
				return endLine(p.stdout, copyRemote(cmd.Context(), p.stdout, r, path, nil))
			}
			match := func(at uint64, _ []byte) bool { return at == seq }
			if numberErr != nil {
				match = func(_ uint64, rec []byte) bool { return hasDecisionID(rec, args[0]) }
			}
			return endLine(p.stdout, showRecord(cmd.Context(), p.stdout, dir, args[0], match))
		},
	}
	f.add(cmd)
	return cmd
}

// endLine ends the line of a record that was printed without err, on a terminal
// only: elsewhere the bytes are those that were hashed.
func endLine(w io.Writer, err error) error {
	file, ok := w.(*os.File)
	if err != nil || !ok {
		return err
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	_, err = io.WriteString(w, "\n")
	return err
}

// hasDecisionID tells whether a record is that of the decision.
func hasDecisionID(rec []byte, id string) bool {
	var record struct {
		DecisionID string `json:"decision_id"`
	}
	return json.Unmarshal(rec, &record) == nil && record.DecisionID == id
}

// errFound ends a walk at the record that was looked for.
var errFound = errors.New("found")

func showRecord(ctx context.Context, w io.Writer, dir, name string, match func(seq uint64, rec []byte) bool) error {
	err := walkRecords(ctx, dir, func(seq uint64, rec []byte) error {
		if !match(seq, rec) {
			return nil
		}
		if _, err := w.Write(rec); err != nil {
			return err
		}
		return errFound
	})
	switch {
	case errors.Is(err, errFound):
		return nil
	case err == nil:
		return fmt.Errorf("the log holds no record %s", name)
	}
	return withExit(exitUsage, err)
}

// walkRecords calls fn for every record of the log in the folder, in order.
func walkRecords(ctx context.Context, dir string, fn func(seq uint64, rec []byte) error) error {
	source, err := segmentread.Open(dir)
	if err != nil {
		return err
	}
	defer source.Close()
	files, err := source.Files(ctx)
	if err != nil {
		return err
	}
	for _, file := range files {
		err := source.Walk(ctx, file, "rec", func(key, rec []byte) error {
			if len(key) != 8 {
				return fmt.Errorf("file %d holds a record under a key of %d bytes; see audit verify", file, len(key))
			}
			return fn(binary.BigEndian.Uint64(key), rec)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func copyRemote(ctx context.Context, w io.Writer, r *remote, path string, query url.Values) error {
	body, err := r.get(ctx, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

func newAuditTailCmd(p *process) *cobra.Command {
	var f auditFlags
	var count uint64
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last records, a line each",
		Long: `Print the last records, one per line, exactly as they are stored. With --follow,
keep printing new records as they are written; this needs --server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, r, err := f.open(p)
			if err != nil {
				return err
			}
			if r != nil {
				return tailRemote(cmd.Context(), p.stdout, r, count, follow)
			}
			if follow {
				return withExit(exitUsage, errors.New("--follow needs --server: nobody writes to a log that has no server"))
			}
			return tailFolder(cmd.Context(), p.stdout, dir, count)
		},
	}
	f.add(cmd)
	cmd.Flags().Uint64VarP(&count, "lines", "n", 10, "how many of the last records to print, at most 1,000")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing new records as they are written")
	return cmd
}

func tailRemote(ctx context.Context, w io.Writer, r *remote, count uint64, follow bool) error {
	body, err := r.get(ctx, "/api/v1/status", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	var status struct {
		Audit struct {
			Next uint64 `json:"next"`
		} `json:"audit"`
	}
	if err := json.NewDecoder(body).Decode(&status); err != nil {
		return fmt.Errorf("read the server's status: %w", err)
	}
	from := status.Audit.Next - min(count, status.Audit.Next)
	query := url.Values{"from": {strconv.FormatUint(from, 10)}}
	if follow {
		query.Set("follow", "true")
	} else {
		query.Set("limit", strconv.FormatUint(max(1, count), 10))
	}
	return copyRemote(ctx, w, r, "/api/v1/audit/records", query)
}

// tailFolder keeps the last records while it walks over all of them.
func tailFolder(ctx context.Context, w io.Writer, dir string, count uint64) error {
	if count > 1000 {
		return withExit(exitUsage, errors.New("--lines is at most 1,000"))
	}
	var last [][]byte
	err := walkRecords(ctx, dir, func(_ uint64, rec []byte) error {
		last = append(last, append([]byte(nil), rec...))
		if uint64(len(last)) > count {
			last = last[1:]
		}
		return nil
	})
	if err != nil {
		return withExit(exitUsage, err)
	}
	for _, rec := range last {
		if _, err := fmt.Fprintf(w, "%s\n", rec); err != nil {
			return err
		}
	}
	return nil
}
