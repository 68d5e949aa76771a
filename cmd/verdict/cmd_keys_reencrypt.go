package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/keys"
)

// reencryptBytes bounds the lines of one request.
const reencryptBytes = 4 << 20

// reencryptFlags are those of verdict keys reencrypt.
type reencryptFlags struct {
	bundleServerFlags
	in, out, state string
	batch          int
	abandon        bool
	context        keys.Context
}

func newKeysReencryptCmd(p *process) *cobra.Command {
	var f reencryptFlags
	cmd := &cobra.Command{
		Use:   "reencrypt ID",
		Short: "Encrypt the values of a file anew, under the latest version of a key",
		Long: `Re-encrypt the values in a file under the latest version of a key, as a job of the
server: it counts them and keeps the key's old versions until the job ends.

A line is a ciphertext, whose context the flags give, or a JSON object with the
members ciphertext and context; its other members are kept. --out receives the
lines in the same order, failed ones unchanged. Progress is kept in --state, so
an interrupted command can be run again. Needs scopes keys:decrypt and
keys:encrypt.`,
		Example: "  verdict keys reencrypt verdict-confidential --in values.jsonl --out renewed.jsonl --server https://verdict.example --token-file token",
		Annotations: map[string]string{exitCodesKey: `0  every value was re-encrypted and verified
1  some values failed, as standard error says; the job stays open, unless --abandon
2  the command line or a file is wrong, or the server could not be reached or refused access: run it again to go on`},
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), p, args[0]) },
	}
	f.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.in, "in", "", "`FILE` with the values")
	fs.StringVar(&f.out, "out", "", "`FILE` to write")
	fs.StringVar(&f.state, "state", "", "`FILE` with the progress (default: that of --out with .state)")
	fs.IntVar(&f.batch, "batch", 500, "maximum number of `values` per request")
	fs.BoolVar(&f.abandon, "abandon", false, "end the job even if values failed")
	fs.StringVar(&f.context.Tenant, "tenant", "", "`tenant` of ciphertexts that stand alone")
	fs.StringVar(&f.context.Type, "type", "", "`type` of their document")
	fs.StringVar(&f.context.ID, "id", "", "`id` of their document")
	fs.StringVar(&f.context.Pointer, "pointer", "", "JSON `pointer` to them")
	for _, name := range []string{"in", "out"} {
		_ = cmd.MarkFlagRequired(name) // there is such a flag
	}
	return cmd
}

// reencryption is the work on one file.
type reencryption struct {
	*reencryptFlags
	p      *process
	server *remote
	in     *bufio.Reader
	out    *os.File
	at     reencryptState
}

// reencryptState is how far the work is.
type reencryptState struct {
	Key       string `json:"key"`
	In        string `json:"in"`
	Job       string `json:"job"`
	Batch     uint64 `json:"batch"`
	Lines     int    `json:"lines"`
	InOffset  int64  `json:"in_offset"`
	OutOffset int64  `json:"out_offset"`
}

// jobCounts is a job as the command needs it.
type jobCounts struct {
	ID, State             string
	Done, Current, Failed int64
}

func (f *reencryptFlags) run(ctx context.Context, p *process, key string) error {
	if f.batch < 1 || f.batch > 10_000 {
		return withExit(exitUsage, fmt.Errorf("--batch %d: want 1 to 10,000", f.batch))
	}
	if f.state == "" {
		f.state = f.out + ".state"
	}
	server, err := f.connect(p)
	if err != nil {
		return err
	}
	in, err := os.Open(f.in)
	if err != nil {
		return withExit(exitUsage, err)
	}
	defer in.Close()
	w := &reencryption{reencryptFlags: f, p: p, server: server}
	if err = w.begin(ctx, key, in); err == nil {
		defer w.out.Close()
		err = w.all(ctx)
	}
	if err == nil {
		err = w.finish(ctx)
	}
	if _, coded := errors.AsType[*exitError](err); err != nil && !coded {
		return f.failed(p, err)
	}
	return err
}

// begin opens a job, or goes on with that of the state file.
func (w *reencryption) begin(ctx context.Context, key string, in *os.File) error {
	raw, err := os.ReadFile(w.state)
	switch {
	case errors.Is(err, os.ErrNotExist):
		total, err := countLines(in)
		if err != nil {
			return err
		}
		if w.out, err = os.OpenFile(w.reencryptFlags.out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return err
		}
		q, err := keyQuestion(http.MethodPost, map[string]any{"total": total}, key, "jobs")
		if err != nil {
			return err
		}
		job, err := w.job(ctx, q)
		if err != nil {
			return errors.Join(err, w.out.Close(), os.Remove(w.reencryptFlags.out))
		}
		w.at = reencryptState{Key: key, In: w.reencryptFlags.in, Job: job.ID}
		if err := w.save(); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(raw, &w.at); err != nil || w.at.Key != key || w.at.In != w.reencryptFlags.in {
			return fmt.Errorf("%s is not the progress of %s under %s", w.state, w.reencryptFlags.in, key)
		}
		if w.out, err = os.OpenFile(w.reencryptFlags.out, os.O_WRONLY, 0); err != nil {
			return err
		}
	}
	if _, err := in.Seek(w.at.InOffset, io.SeekStart); err != nil {
		return err
	}
	w.in = bufio.NewReaderSize(in, 1<<16)
	if err := w.out.Truncate(w.at.OutOffset); err != nil {
		return err
	}
	_, err = w.out.Seek(w.at.OutOffset, io.SeekStart)
	return err
}

// all works batch by batch.
func (w *reencryption) all(ctx context.Context) error {
	for {
		lines, size, end, err := w.read()
		if err != nil {
			return err
		}
		if len(lines) > 0 {
			if err := w.renew(ctx, lines, size); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// read gives the lines of the next batch and their length in the file.
func (w *reencryption) read() (lines []sealedLine, size int64, end bool, err error) {
	for values := 0; values < w.batch && size < reencryptBytes; {
		text, err := readLine(w.in)
		end = errors.Is(err, io.EOF)
		if err != nil && !end {
			return nil, 0, false, err
		}
		if len(text) > 0 {
			line, err := w.parse(text)
			if err != nil {
				return nil, 0, false, fmt.Errorf("%s, line %d: %w", w.reencryptFlags.in, w.at.Lines+len(lines)+1, err)
			}
			if line.value != nil {
				values++
			}
			lines, size = append(lines, line), size+int64(len(text))
		}
		if end {
			return lines, size, true, nil
		}
	}
	return lines, size, false, nil
}

// renew has a batch encrypted anew, writes its lines, and notes that.
func (w *reencryption) renew(ctx context.Context, lines []sealedLine, size int64) error {
	var items []*reencryptItem
	for _, l := range lines {
		if l.value != nil {
			items = append(items, l.value)
		}
	}
	next := w.at
	next.InOffset, next.Lines = next.InOffset+size, next.Lines+len(lines)
	var results []reencryptResult
	if len(items) > 0 {
		next.Batch++
		var err error
		if results, err = w.send(ctx, next.Batch, items); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	for i, l := range lines {
		switch {
		case l.value == nil:
			out.Write(l.text)
			continue
		case results[0].Error != nil:
			fmt.Fprintf(w.p.stderr, "%s, line %d: %s\n", w.reencryptFlags.in, w.at.Lines+i+1, plain(results[0].Error.Code))
			out.Write(append(bytes.TrimRight(l.text, "\r\n"), '\n'))
		default:
			out.Write(l.renewed(results[0].Ciphertext))
		}
		results = results[1:]
	}
	if _, err := w.out.Write(out.Bytes()); err != nil {
		return err
	}
	if err := w.out.Sync(); err != nil {
		return err
	}
	next.OutOffset += int64(out.Len())
	w.at = next
	return w.save()
}

type reencryptResult struct {
	Ciphertext string
	Error      *struct{ Code string }
}

// send asks for one batch.
func (w *reencryption) send(ctx context.Context, number uint64, items []*reencryptItem) ([]reencryptResult, error) {
	raw, err := json.Marshal(map[string]any{"job": w.at.Job, "batch": number, "items": items})
	if err != nil {
		return nil, err
	}
	body, err := w.server.ask(ctx, question{
		method: http.MethodPost, path: []string{"reencrypt"}, header: map[string]string{"Content-Type": "application/json"},
		body: bytes.NewReader(raw), size: int64(len(raw)),
	})
	if err != nil {
		return nil, err
	}
	answer, err := decodeAnswer(body, func(v *struct{ Items []reencryptResult }) bool {
		for _, item := range v.Items {
			if _, err := keys.Inspect(item.Ciphertext); item.Error == nil && err != nil {
				return false
			}
		}
		return len(v.Items) == len(items)
	})
	if err != nil {
		return nil, err
	}
	return answer.Items, nil
}

func (w *reencryption) save() error {
	raw, err := json.Marshal(w.at)
	if err != nil {
		return err
	}
	return durable.WriteFile(w.state, append(raw, '\n'), 0o600)
}

func (w *reencryption) job(ctx context.Context, q question) (*jobCounts, error) {
	body, err := w.server.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return decodeAnswer(body, func(j *jobCounts) bool { return j.ID != "" })
}

// finish ends the job and tells the counts.
func (w *reencryption) finish(ctx context.Context) error {
	q, err := keyQuestion(http.MethodPost, map[string]any{"abandon": w.abandon}, w.at.Key, "jobs", w.at.Job, "finish")
	if err != nil {
		return err
	}
	job, err := w.job(ctx, q)
	if refused, ok := errors.AsType[*refusal](err); ok && refused.Code == "job_incomplete" {
		return withExit(exitFailure, fmt.Errorf("job %s stays open, since values failed; --abandon gives them up", w.at.Job))
	}
	if err != nil {
		return err
	}
	if err := os.Remove(w.state); err != nil {
		return err
	}
	if w.output == "json" {
		raw, err := json.Marshal(map[string]any{"job": job.ID, "state": job.State, "done": job.Done, "current": job.Current, "failed": job.Failed})
		if err != nil {
			return err
		}
		err = writeRaw(w.p.stdout, raw)
		if job.Failed > 0 && err == nil {
			err = withExit(exitFailure, errors.New("values failed"))
		}
		return err
	}
	text := fmt.Sprintf("job %s %s: %d encrypted anew and verified, %d current, %d failed\n", job.ID, job.State, job.Done, job.Current, job.Failed)
	if err := writePlain(w.p.stdout, text); err != nil || job.Failed == 0 {
		return err
	}
	return withExit(exitFailure, errors.New("values failed"))
}
