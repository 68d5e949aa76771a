package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/internal/timespan"
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

// durationFlag is a flag that takes a duration as the configuration does; it
// holds the default until it is parsed.
type durationFlag time.Duration

// String gives the duration.
func (d *durationFlag) String() string { return time.Duration(*d).String() }

// Set takes the duration from the command line.
func (d *durationFlag) Set(s string) error {
	parsed, err := timespan.Parse(s)
	*d = durationFlag(parsed)
	return err
}

// Type names the value in help.
func (d *durationFlag) Type() string { return "duration" }

// indent moves every line of text two columns in.
func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
