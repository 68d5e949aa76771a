package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker (-X main.version=...), which can write variables only.
// Empty in a build by plain go build, where the build information stands in.
var version, commit string

// opaModule is the module whose version decides how Rego is evaluated.
const opaModule = "github.com/open-policy-agent/opa"

// versionInfo is what this binary is.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OPA     string `json:"opa"`
}

// readVersion tells what this binary is, "unknown" where the build did not
// say.
func readVersion() versionInfo {
	v := versionInfo{Version: version, Commit: commit, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v.Version == "" && info.Main.Version != "(devel)" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && v.Commit == "" {
				v.Commit = s.Value
			}
		}
		for _, dep := range info.Deps {
			if dep.Path == opaModule {
				v.OPA = dep.Version
			}
		}
	}
	for _, field := range []*string{&v.Version, &v.Commit, &v.OPA} {
		if *field == "" {
			*field = "unknown"
		}
	}
	return v
}

func newVersionCmd(p *process) *cobra.Command {
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and commit, and the versions of Go and OPA",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if output == "json" {
				return json.NewEncoder(p.stdout).Encode(v)
			}
			_, err := fmt.Fprintf(p.stdout, "verdict %s\ncommit  %s\ngo      %s\nopa     %s\n", v.Version, v.Commit, v.Go, v.OPA)
			return err
		},
	}
	output.add(cmd)
	return cmd
}
