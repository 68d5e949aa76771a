package main

import (
	"github.com/spf13/cobra"
)

func newBundleDeactivateCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "deactivate NAME...",
		Short: "Take bundles out of the active set of a server, all at once or none",
		Long: `Take bundles out of a server's active set: all of them at once, or none. Whatever
they own becomes undefined. Their revisions are kept, so bundle rollback NAME
REVISION or bundle activate brings one back. Bundles that are not active are
left alone.`,
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
