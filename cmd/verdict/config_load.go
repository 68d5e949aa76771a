package main

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// configFlags are the flags of every command that takes a configuration.
type configFlags struct {
	file             string
	dev              bool
	dataDir          string
	addr             string
	grpcAddr         string
	bundles          []string
	standardPolicies bool
	set              []string

	flags interface{ Changed(name string) bool } // tells which of them were given
}

// addConfigFlags declares all flags of serve on cmd.
func addConfigFlags(cmd *cobra.Command, f *configFlags) {
	addDataDirFlags(cmd, f)
	fs := cmd.Flags()
	fs.BoolVar(&f.dev, "dev", false, "development mode: loopback only, decisions open, policy writes on, an admin token in DIR/admin.token")
	fs.StringVar(&f.addr, "addr", "", "`HOST:PORT` of HTTP (server.addr)")
	fs.StringVar(&f.grpcAddr, "grpc-addr", "", "`HOST:PORT` of gRPC (server.grpc_addr)")
	fs.StringArrayVar(&f.bundles, "bundle", nil, "load the folder or tarball at `PATH`, as opa run -b does; may be repeated")
	fs.BoolVar(&f.standardPolicies, "standard-policies", true, "load the standard policies; with =false the engine starts empty")
}

// addDataDirFlags declares on cmd the flags that say where the data folder
// is, for commands that need nothing else.
func addDataDirFlags(cmd *cobra.Command, f *configFlags) {
	fs := cmd.Flags()
	f.flags = fs
	fs.StringVar(&f.file, "config", "", "read the configuration `FILE` (YAML)")
	fs.StringVar(&f.dataDir, "data-dir", "", "`DIR` where verdict keeps everything (data_dir)")
	fs.StringArrayVar(&f.set, "set", nil, "set one `key=value` of the configuration; may be repeated")
}

// loadConfig gives the configuration that a process shall run with, or what
// is wrong with it as [Problems].
func loadConfig(f *configFlags, environ []string) (*Config, []Warning, error) {
	c, err := readConfig(f, environ)
	if err != nil {
		return nil, nil, err
	}
	warnings := c.exposed()
	if problems := c.validate(); len(problems) > 0 {
		return nil, warnings, problems
	}
	return c, warnings, nil
}

// readConfig brings the sources together in their order: defaults, file,
// environment, --set, dedicated flags. It refuses what it cannot read; what
// the values mean together is for validate.
func readConfig(f *configFlags, environ []string) (*Config, error) {
	c := defaultConfig()
	c.origins = map[string]Origin{}
	var problems Problems
	if f.file != "" {
		found, err := c.readFile(f.file)
		if err != nil {
			return nil, withExit(exitUsage, err)
		}
		problems = found
	}
	problems = append(problems, c.readEnvironment(environ)...)
	for _, assignment := range f.set {
		problems = append(problems, c.readAssignment(assignment)...)
	}
	problems = append(problems, c.readFlags(f)...)
	if len(problems) > 0 {
		return nil, problems
	}
	c.applyDev()
	if c.ForwardAuth.Path == "" {
		c.ForwardAuth.Path = c.ExtAuthz.Path
	}
	return c, nil
}

// assign gives the field named key the value of text.
func (c *Config) assign(key, text string, from Origin) Problems {
	f, ok := c.field(key)
	if !ok {
		if below := keysBelow(key + "."); len(below) > 0 {
			return Problems{{Key: key, Text: "is a section; set one of its keys: " + strings.Join(below, ", "), From: from.Detail}}
		}
		return Problems{{Key: key, Text: unknownKey(key), From: from.Detail}}
	}
	c.origins[key] = from
	if f.value.Kind() == reflect.Slice {
		problems := setListText(f.value, key, text)
		for i := range problems {
			problems[i].From = from.Detail
		}
		return problems
	}
	if err := setText(f.value, text); err != nil {
		return Problems{{Key: key, Text: err.Error(), From: from.Detail}}
	}
	return nil
}

// readEnvironment takes the variables VERDICT_SERVER_ADDR and so on.
func (c *Config) readEnvironment(environ []string) Problems {
	keys := map[string]string{}
	names := []string{}
	for f := range c.fields() {
		keys[f.env()] = f.key
		names = append(names, f.env())
	}
	var problems Problems
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || foreignVariable(name) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			problems = append(problems, Problem{Key: name, Text: "unknown environment variable; the nearest known one is " + nearest(name, names)})
			continue
		}
		problems = append(problems, c.assign(key, value, Origin{Source: SourceEnvironment, Detail: name})...)
	}
	return problems
}

// foreignVariable tells whether a variable with verdict's prefix is not
// configuration: the credential and address that client commands take, what
// the project's own tests are told, or what Kubernetes puts into each pod when a service is called verdict or
// verdict-something.
func foreignVariable(name string) bool {
	if name == "VERDICT_TOKEN" || name == "VERDICT_SERVER" || name == "VERDICT_TOOLS" || strings.HasPrefix(name, "VERDICT_TEST_") {
		return true
	}
	return regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`).MatchString(name)
}

// readAssignment takes one --set key=value.
func (c *Config) readAssignment(assignment string) Problems {
	key, value, ok := strings.Cut(assignment, "=")
	if !ok {
		return Problems{{Text: fmt.Sprintf("--set %s: write key=value", assignment)}}
	}
	return c.assign(key, value, Origin{Source: SourceSet, Detail: "--set"})
}

// readFlags takes the flags that have a name of their own.
func (c *Config) readFlags(f *configFlags) Problems {
	var problems Problems
	for _, flag := range []struct{ name, key, value string }{
		{"data-dir", "data_dir", f.dataDir},
		{"addr", "server.addr", f.addr},
		{"grpc-addr", "server.grpc_addr", f.grpcAddr},
	} {
		if f.flags.Changed(flag.name) {
			problems = append(problems, c.assign(flag.key, flag.value, Origin{Source: SourceFlag, Detail: "--" + flag.name})...)
		}
	}
	c.Dev, c.BundlePaths = f.dev, f.bundles
	if f.flags.Changed("standard-policies") {
		c.StandardPolicies = f.standardPolicies
	}
	return problems
}

// resolveDataDir gives the data folder, for commands that need nothing else
// of the configuration.
func resolveDataDir(f *configFlags, environ []string) (string, error) {
	c, err := readConfig(f, environ)
	if err != nil {
		return "", err
	}
	return c.DataDir, nil
}
