package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
)

const changeExitCodes = `0  done
1  refused by a gate or a conflict: the bundles overlap or do not compile together
2  the command line is wrong, there is no such bundle or revision, or the server could not be reached, refused access or is busy`

func newBundleActivateCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "activate NAME=REVISION...",
		Short: "Make revisions that a server keeps active, all at once or none",
		Long: `Activate revisions that a server keeps: all of them at once, or none. A revision
may be given by its digest. Bundles that are not named stay as they are.`,
		Example:     `  verdict bundle activate app=r7 billing=r3 --server https://verdict.example --token-file token`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := parseSet(args)
			if err != nil {
				return withExit(exitUsage, err)
			}
			return changeBundles(cmd.Context(), p, &f, []string{"activations"}, map[string]any{"bundles": set})
		},
	}
	f.add(cmd)
	return cmd
}

func parseSet(args []string) (map[string]string, error) {
	set := map[string]string{}
	for _, arg := range args {
		name, revision, _ := strings.Cut(arg, "=")
		if name == "" || revision == "" {
			return nil, fmt.Errorf("%q: write NAME=REVISION", arg)
		}
		if _, twice := set[name]; twice {
			return nil, fmt.Errorf("bundle %s is named twice", name)
		}
		set[name] = revision
	}
	return set, nil
}

// changeBundles asks for a change of the active set and prints it.
func changeBundles(ctx context.Context, p *process, f *bundleServerFlags, path []string, want any) error {
	r, err := f.connect(p)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(want)
	if err != nil {
		return withExit(exitUsage, err)
	}
	body, err := r.ask(ctx, question{
		method: http.MethodPost, path: path, body: bytes.NewReader(raw),
		header: map[string]string{"Content-Type": "application/json"},
	})
	if err != nil {
		return f.failed(p, err)
	}
	done, err := decodeAnswer(body, func(a *bundles.Activation) bool { return a.Bundles != nil })
	if err != nil {
		return withExit(exitUsage, err)
	}
	if f.output == "json" {
		return writeRaw(p.stdout, body)
	}
	return writePlain(p.stdout, activationText(done))
}

func activationText(a *bundles.Activation) string {
	if a.Number == 0 {
		return "nothing has changed\n"
	}
	var b strings.Builder
	for _, c := range a.Changed {
		if c.To == "" {
			fmt.Fprintf(&b, "%s is not active any more, %s was before\n", c.Name, c.From)
			continue
		}
		fmt.Fprintf(&b, "%s %s is active", c.Name, c.To)
		if c.From != "" {
			fmt.Fprintf(&b, ", %s was before", c.From)
		}
		b.WriteByte('\n')
	}
	for _, name := range a.APIWritesDropped {
		fmt.Fprintf(&b, "  drops API write %s\n", name)
	}
	fmt.Fprintf(&b, "activation %d, %.1f ms\n", a.Number, a.Millis)
	return b.String()
}
