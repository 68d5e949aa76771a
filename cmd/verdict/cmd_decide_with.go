package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// overlayFlags are the flags that lay files over the policies.
type overlayFlags struct {
	with  []string
	facts string
}

func (f *overlayFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.with, "with", nil, "overlay the policies with `FILE`: a module (*.rego) or data (*.json, *.yaml, *.yml); may be repeated")
	fs.StringVar(&f.facts, "with-facts", "", "`FILE` with facts that replace those in the input, such as {\"network\": {\"zone\": \"admin\"}}")
}

// read reads the files.
func (f *overlayFlags) read() (*pdp.PreviewOverlay, error) {
	o := &pdp.PreviewOverlay{}
	for _, name := range f.with {
		raw, err := readOverlayFile(name)
		if err != nil {
			return nil, err
		}
		switch filepath.Ext(name) {
		case ".rego":
			id := path.Clean(filepath.ToSlash(name))
			if _, twice := o.Modules[id]; twice {
				return nil, fmt.Errorf("--with %s: given twice", name)
			}
			if o.Modules == nil {
				o.Modules = map[string][]byte{}
			}
			o.Modules[id] = raw
		case ".json", ".yaml", ".yml":
			data, err := overlayObject(name, raw)
			if err != nil {
				return nil, err
			}
			if o.Data != nil {
				data = eval.MergePatch(o.Data, data)
			}
			o.Data = data
		default:
			return nil, fmt.Errorf("--with %s: a module ends in .rego, data in .json, .yaml or .yml", name)
		}
	}
	if f.facts == "" {
		return o, nil
	}
	raw, err := readOverlayFile(f.facts)
	if err != nil {
		return nil, err
	}
	o.Facts, err = overlayObject(f.facts, raw)
	return o, err
}

func readOverlayFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open overlay: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxInputFile+1))
	if err != nil {
		return nil, fmt.Errorf("read overlay: %w", err)
	}
	if len(raw) > maxInputFile {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, maxInputFile)
	}
	return raw, nil
}

// overlayObject reads a document of data or facts.
func overlayObject(name string, raw []byte) (ast.Object, error) {
	if filepath.Ext(name) != ".json" {
		var v any
		if err := yaml.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	v, err := eval.ParseData(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	obj, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("read %s: the document must be an object", name)
	}
	return obj, nil
}

// previewRequest is the body of POST /api/v1/preview.
type previewRequest struct {
	Path    string          `json:"path"`
	Input   json.RawMessage `json:"input,omitempty"`
	Strict  bool            `json:"strict_builtin_errors,omitempty"`
	Overlay struct {
		Data    json.RawMessage   `json:"data,omitempty"`
		Facts   json.RawMessage   `json:"facts,omitempty"`
		Modules map[string]string `json:"modules,omitempty"`
	} `json:"overlay"`
}

func newPreviewRequest(f *decideFlags, input ast.Value, o *pdp.PreviewOverlay) ([]byte, error) {
	ask := previewRequest{Path: f.path, Strict: f.strict}
	ask.Overlay.Modules = map[string]string{}
	for id, text := range o.Modules {
		ask.Overlay.Modules[id] = string(text)
	}
	encode := func(into *json.RawMessage, v ast.Value) (err error) {
		*into, err = eval.AppendJSON(nil, v)
		return err
	}
	var errs []error
	if input != nil {
		errs = append(errs, encode(&ask.Input, input))
	}
	if o.Data != nil {
		errs = append(errs, encode(&ask.Overlay.Data, o.Data))
	}
	if o.Facts != nil {
		errs = append(errs, encode(&ask.Overlay.Facts, o.Facts))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("encode overlay: %w", err)
	}
	return json.Marshal(ask)
}

// decideRemotely asks a server for a preview and prints its answer.
func decideRemotely(ctx context.Context, p *process, f *decideFlags, o *pdp.PreviewOverlay) error {
	input, err := readInput(p.stdin, f.input)
	if err != nil {
		return withExit(exitUsage, err)
	}
	body, err := newPreviewRequest(f, input, o)
	if err != nil {
		return err
	}
	server, err := f.remote.connect(p, "")
	if err != nil {
		return withExit(exitUsage, err)
	}
	answer, err := server.ask(ctx, question{
		method: http.MethodPost, path: []string{"preview"}, body: bytes.NewReader(body), size: int64(len(body)),
		header: map[string]string{"Content-Type": "application/json"},
	})
	if err != nil {
		return withExit(exitUsage, previewRefused(err))
	}
	if err := f.print(p, answer); err != nil {
		return err
	}
	var told struct {
		Result json.RawMessage        `json:"result"`
		Error  *struct{ Code string } `json:"error"`
	}
	switch err := json.Unmarshal(answer, &told); {
	case err != nil:
		return fmt.Errorf("read the server's answer: %w", err)
	case told.Error != nil:
		return fmt.Errorf("decide %s: %s", f.path, plain(told.Error.Code))
	case told.Result == nil:
		return fmt.Errorf("decide %s: undefined", f.path)
	}
	return nil
}

// previewRefused adds to a refusal where the modules do not compile.
func previewRefused(err error) error {
	refused, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	var told struct {
		Errors []struct {
			Code, Message, File string
			Row                 int
		}
	}
	if json.Unmarshal(refused.raw, &told) != nil {
		return err
	}
	var lines strings.Builder
	for _, e := range told.Errors {
		fmt.Fprintf(&lines, "\n%s:%d: %s: %s", e.File, e.Row, e.Code, e.Message)
	}
	return fmt.Errorf("%w%s", err, plain(lines.String()))
}
