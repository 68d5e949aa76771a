package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// maxInputFile bounds the input of an offline decision.
const maxInputFile = 1 << 20

// decideFlags are the flags of decide.
type decideFlags struct {
	bundles          []string
	path             string
	input            string
	standardPolicies bool
	strict           bool
	pretty           bool
	overlay          overlayFlags
	remote           remoteFlags // empty server: offline
}

func newDecideCmd(p *process) *cobra.Command {
	var f decideFlags
	cmd := &cobra.Command{
		Use:   "decide --path a/b [--bundle PATH]... [--input FILE|-]",
		Short: "Decide offline: evaluate one decision path and print the result",
		Long: `Evaluate one decision path on bundles from disk and print the result as JSON. It
opens no port, sends nothing and writes no record: it is for writing and trying
policies. The standard policies are loaded beside the bundles.

--with overlays files: a module replaces the one with the same file name and
package; data is merged over the existing data (RFC 7396). With --server, no
policy is loaded from disk: the server evaluates its own policies with and without
the overlay. Nothing changes on the server, and a preview is recorded.`,
		Example: `  verdict decide --bundle ./policy --path app/allow --input request.json
  verdict decide --bundle ./policy --with new/app.rego --with data.json --path app/allow --input request.json
  echo '{"subject": {"type": "user", "id": "alice"}}' | verdict decide --path verdict/authz/decision --input -`,
		Annotations: map[string]string{exitCodesKey: `0  there is a result; it is on standard output
1  the result is undefined, or the policy could not be evaluated
2  the command line is wrong, a bundle, the input or an overlay could
   not be read or does not compile, or the server refused or could not be asked`},
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return decide(cmd, p, &f) },
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.bundles, "bundle", nil, "load the folder or tarball at `PATH`; may be repeated")
	fs.StringVar(&f.path, "path", "", "decision `path` below data, such as app/allow")
	fs.StringVar(&f.input, "input", "", "`FILE` with the input document as JSON, - for standard input; none: no input")
	fs.BoolVar(&f.standardPolicies, "standard-policies", true, "load the standard policies beside the bundles")
	fs.BoolVar(&f.strict, "strict-builtin-errors", false, "an error in a built-in function fails the decision")
	fs.BoolVar(&f.pretty, "pretty", false, "indent the result")
	f.overlay.add(cmd)
	fs.StringVar(&f.remote.server, "server", "", "ask the server at `URL` for a preview instead")
	fs.StringVar(&f.remote.tokenFile, "token-file", "", "`FILE` with the token for --server (else environment VERDICT_TOKEN)")
	fs.StringVar(&f.remote.caFile, "ca-file", "", "`FILE` with the CA certificates to trust for the server, PEM")
	cmd.MarkFlagsMutuallyExclusive("server", "bundle")
	// The error is for a flag that does not exist.
	_ = cmd.MarkFlagRequired("path")
	return cmd
}

func decide(cmd *cobra.Command, p *process, f *decideFlags) error {
	overlay, err := f.overlay.read()
	if err != nil {
		return withExit(exitUsage, err)
	}
	if f.remote.server != "" {
		return decideRemotely(cmd.Context(), p, f, overlay)
	}
	v := readVersion()
	engine, err := eval.New(eval.Options{Version: v.Version, Commit: v.Commit})
	if err != nil {
		return err
	}
	files := policyFiles{standard: f.standardPolicies, paths: f.bundles}
	if _, err := files.load(engine); err != nil {
		return withExit(exitUsage, err)
	}
	input, err := readInput(p.stdin, f.input)
	if err != nil {
		return withExit(exitUsage, err)
	}
	snapshot, _, err := engine.Active().Preview(&overlay.Overlay)
	if err == nil {
		input, err = pdp.WithFacts(input, overlay.Facts)
	}
	if err != nil {
		return withExit(exitUsage, fmt.Errorf("lay over: %w", err))
	}
	res, err := snapshot.Eval(cmd.Context(), &eval.Query{Path: f.path, Input: input, Now: p.now(), Strict: f.strict})
	if err != nil {
		return fmt.Errorf("decide %s: %w", f.path, err)
	}
	if res.Value == nil {
		return fmt.Errorf("decide %s: undefined", f.path)
	}
	out, err := eval.AppendJSON(nil, res.Value)
	if err != nil {
		return fmt.Errorf("decide %s: %w", f.path, err)
	}
	return f.print(p, out)
}

// print writes a JSON document.
func (f *decideFlags) print(p *process, document []byte) error {
	if f.pretty {
		var indented bytes.Buffer
		if err := json.Indent(&indented, document, "", "  "); err != nil {
			return fmt.Errorf("decide %s: %w", f.path, err)
		}
		document = indented.Bytes()
	}
	_, err := p.stdout.Write(append(bytes.TrimSpace(document), '\n'))
	return err
}

// readInput reads the input document that name stands for.
func readInput(stdin io.Reader, name string) (ast.Value, error) {
	if name == "" {
		return nil, nil
	}
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open input: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	raw, err := io.ReadAll(io.LimitReader(stdin, maxInputFile+1))
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	if len(raw) > maxInputFile {
		return nil, fmt.Errorf("read input: more than %d bytes", maxInputFile)
	}
	value, n, err := eval.ParseInput(raw, eval.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	if rest := bytes.TrimSpace(raw[n:]); len(rest) > 0 {
		return nil, errors.New("read input: more than one JSON document")
	}
	return value, nil
}
