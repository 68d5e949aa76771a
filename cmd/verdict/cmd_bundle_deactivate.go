package main

import (
	"github.com/spf13/cobra"
)

func newBundleDeactivateCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "deactivate NAME...",
		Short: "Take bundles out of the active set of a server, all at once or none",
		Long: `Take bundles out of the active set of a server, all at once or none. What they own
is undefined from then on. Their revisions are kept: bundle rollback NAME REVISION
and bundle activate bring one back. A bundle that is not active stays so.`,
		Example:     `  verdict bundle deactivate app --server https://verdict.example --token-file token`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set := map[string]any{}
			for _, name := range args {
				set[name] = nil
			}
			return changeBundles(cmd.Context(), p, &f, []string{"activations"}, map[string]any{"bundles": set})
		},
	}
	f.add(cmd)
	return cmd
}
