package main

import (
	"github.com/spf13/cobra"
)

func newBundleRollbackCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "rollback NAME [REVISION]",
		Short: "Make an older revision of a bundle active again",
		Long: `Make an older revision of a bundle active again: the previously active one, or the
one given by revision or digest. It does not go through the gates again, but must
still fit the other bundles and compile with them.`,
		Example: `  verdict bundle rollback app --server https://verdict.example --token-file token
  verdict bundle rollback app r5 --output json`,
		Annotations: map[string]string{exitCodesKey: changeExitCodes},
		Args:        cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			want := map[string]any{}
			if len(args) == 2 {
				want["revision"] = args[1]
			}
			return changeBundles(cmd.Context(), p, &f, []string{"bundles", args[0], "rollback"}, want)
		},
	}
	f.add(cmd)
	return cmd
}
