package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// outputFlag is --output text|json; it holds the default until it is parsed.
type outputFlag string

func (o *outputFlag) add(cmd *cobra.Command) {
	cmd.Flags().VarP(o, "output", "o", "text or json")
	// The error is for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// String gives the format.
func (o *outputFlag) String() string { return string(*o) }

// Set takes the format from the command line.
func (o *outputFlag) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("write text or json")
	}
	*o = outputFlag(s)
	return nil
}

// Type names the value in help.
func (o *outputFlag) Type() string { return "format" }

// indent moves every line of text two columns in.
func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
