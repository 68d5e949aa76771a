package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newConfigCmd(p *process) *cobra.Command {
	cmd := newGroup("config", "Show and check the configuration that serve would use")
	cmd.AddCommand(newConfigPrintCmd(p), newConfigCheckCmd(p))
	return cmd
}

func newConfigPrintCmd(p *process) *cobra.Command {
	var flags configFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print each value and where it came from",
		Long: `Print each value of the configuration and where it comes from: file and line,
environment variable, flag, or default. Values are written as --set accepts them.
For secrets only the source is printed: the file, the variable, the path in Vault.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := readConfig(&flags, p.environ)
			if err != nil {
				return err
			}
			settings := c.settings(flags.flags.Changed)
			if output == "json" {
				return json.NewEncoder(p.stdout).Encode(settings)
			}
			w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
			for _, s := range settings {
				fmt.Fprintf(w, "%s\t%s  # %s\n", s.Key, cmp.Or(s.Value, `""`), s.From)
			}
			return w.Flush()
		},
	}
	addConfigFlags(cmd, &flags)
	output.add(cmd)
	return cmd
}

// setting is one line of config print.
type setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"`
}

// settings gives every key of c with its value, then the flags that have no
// key.
func (c *Config) settings(given func(flag string) bool) []setting {
	var list []setting
	for f := range c.fields() {
		list = append(list, setting{Key: f.key, Value: redactURLs(formatValue(f.value)), From: c.Origin(f.key).String()})
	}
	for _, flag := range []struct{ name, value string }{
		{"dev", fmt.Sprint(c.Dev)},
		{"bundle", strings.Join(c.BundlePaths, ",")},
		{"standard-policies", fmt.Sprint(c.StandardPolicies)},
	} {
		from := Origin{}
		if given(flag.name) {
			from = Origin{Source: SourceFlag, Detail: "command line"}
		}
		list = append(list, setting{Key: "--" + flag.name, Value: flag.value, From: from.String()})
	}
	return list
}

// redactURLs hides the password of a URL, which validation refuses but
// config print meets before that.
func redactURLs(value string) string {
	if !strings.Contains(value, "://") {
		return value
	}
	words := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(" ,{}[]\"'", r) })
	for _, word := range words {
		if u, err := url.Parse(word); err == nil && u.User != nil {
			value = strings.ReplaceAll(value, word, u.Redacted())
		}
	}
	return value
}

func newConfigCheckCmd(p *process) *cobra.Command {
	var flags configFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and name keys that have no effect in this version",
		Annotations: map[string]string{exitCodesKey: `0  serve would accept the configuration
1  serve would refuse it
2  the command line is wrong, or the file could not be read`},
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			report, err := checkConfig(&flags, p.environ)
			if err != nil {
				return err
			}
			if output == "json" {
				err = json.NewEncoder(p.stdout).Encode(report)
			} else {
				_, err = fmt.Fprint(p.stdout, report)
			}
			if err == nil && !report.OK {
				return withExit(exitFailure, nil)
			}
			return err
		},
	}
	addConfigFlags(cmd, &flags)
	output.add(cmd)
	return cmd
}
