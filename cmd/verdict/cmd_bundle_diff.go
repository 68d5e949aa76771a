package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
)

func newBundleDiffCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "diff NAME FROM TO",
		Short: "Show what differs between two revisions that a server keeps",
		Long: `Show the rules and data that differ between two revisions of a bundle that a
server keeps: + for what TO adds, - for what it removes, ~ for what it changes.
Formatting and comments do not count. A revision may be given by its digest.`,
		Example:     `  verdict bundle diff app r6 r7 --server https://verdict.example --token-file token`,
		Annotations: map[string]string{exitCodesKey: askExitCodes},
		Args:        cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.connect(p)
			if err != nil {
				return err
			}
			body, err := r.ask(cmd.Context(), question{
				method: http.MethodGet, path: []string{"bundles", args[0], "diff"},
				query: url.Values{"from": {args[1]}, "to": {args[2]}},
			})
			if err != nil {
				return f.failed(p, err)
			}
			changes, err := decodeAnswer(body, func(c *bundles.Changes) bool { return c.Rules.Added != nil })
			if err != nil {
				return withExit(exitUsage, err)
			}
			if f.output == "json" {
				return writeRaw(p.stdout, body)
			}
			return writePlain(p.stdout, changesText(changes))
		},
	}
	f.add(cmd)
	return cmd
}
