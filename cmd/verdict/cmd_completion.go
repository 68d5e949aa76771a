package main

import "github.com/spf13/cobra"

func newCompletionCmd(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a completion script for a shell",
		Example: `  source <(verdict completion bash)
  verdict completion zsh > "${fpath[1]}/_verdict"
  verdict completion fish > ~/.config/fish/completions/verdict.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			default:
				return root.GenPowerShellCompletionWithDesc(p.stdout)
			}
		},
	}
}
