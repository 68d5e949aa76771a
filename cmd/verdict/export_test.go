package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Main is the program.
func Main() { main() }

// Load parses the flags in args and gives the configuration for them.
func Load(args, environ []string) (*Config, []Warning, error) {
	f, err := parseFlags(args)
	if err != nil {
		return nil, nil, err
	}
	return loadConfig(f, environ)
}

// Read is Load without validation.
func Read(args, environ []string) (*Config, error) {
	f, err := parseFlags(args)
	if err != nil {
		return nil, err
	}
	return readConfig(f, environ)
}

func parseFlags(args []string) (*configFlags, error) {
	var f configFlags
	cmd := &cobra.Command{}
	addConfigFlags(cmd, &f)
	return &f, cmd.ParseFlags(args)
}

// Default is the configuration of a process that is told nothing.
func Default() *Config { return defaultConfig() }

// Values gives every key with its value as --set takes it.
func (c *Config) Values() map[string]string {
	m := map[string]string{}
	for f := range c.fields() {
		m[f.key] = formatValue(f.value)
	}
	return m
}

// KeyNames gives every key in order, and whether SIGHUP may change it.
func (c *Config) KeyNames() (keys []string, reload map[string]bool) {
	reload = map[string]bool{}
	for f := range c.fields() {
		keys = append(keys, f.key)
		reload[f.key] = f.reload
	}
	return keys, reload
}

// The unexported pieces that have tests of their own.
var (
	ParseSize       = parseSize
	Nearest         = nearest
	KnownKeys       = knownKeys
	EnvName         = envName
	ForeignVariable = foreignVariable
	RedactURLs      = redactURLs
	ExitCodesOf     = exitCodesOf
	GarbageFor      = garbageFor
)

// Tree gives the commands.
func Tree() *cobra.Command {
	return newRootCmd(&process{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, now: time.Now})
}

// Settings are what config print prints.
func Settings(c *Config) any { return c.settings(func(string) bool { return false }) }
