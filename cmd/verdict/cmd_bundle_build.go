package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pack"
	"github.com/verdict-pdp/verdict/bundles/signature"
)

// buildFlags are the flags of bundle build.
type buildFlags struct {
	sign             signFlags
	out              string
	revision         string
	roots            []string
	standardPolicies bool
}

func newBundleBuildCmd(p *process) *cobra.Command {
	var f buildFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "build FOLDER",
		Short: "Make a bundle of a folder",
		Long: `Build a bundle from a folder: its *.rego files including tests, data.json,
data.yaml, data.yml, and .manifest. Files are packed unchanged, and the same files
always give the same bytes, so builds can be repeated and compared. The bundle
must compile together with the standard policies. Tests may lie outside its roots;
because OPA refuses to load such a bundle, a warning is printed.`,
		Example: `  verdict bundle build ./policy --revision "$(git rev-parse --short HEAD)" --root app --out app.tar.gz
  verdict bundle build ./policy --out app.tar.gz --signing-key ci.pem --key-id ci-2026`,
		Annotations: map[string]string{exitCodesKey: `0  the bundle is written
1  the folder is not a valid bundle: something does not parse or compile, or lies outside the roots; nothing is written
2  the command line is wrong, or a file could not be read or written`},
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return buildBundle(p, args[0], &f, output) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.out, "out", "bundle.tar.gz", "`FILE` to write")
	fs.StringVar(&f.revision, "revision", "", "`revision` to write into the manifest; default: keep the one there")
	fs.StringArrayVar(&f.roots, "root", nil, "`path` below data that the bundle owns, to write into the manifest; may be repeated; default: keep those there")
	fs.BoolVar(&f.standardPolicies, "standard-policies", true, "compile it together with the standard policies")
	f.sign.add(cmd)
	output.add(cmd)
	return cmd
}

func buildBundle(p *process, folder string, f *buildFlags, output outputFlag) error {
	if info, err := os.Stat(folder); err != nil {
		return withExit(exitUsage, err)
	} else if !info.IsDir() {
		return withExit(exitUsage, fmt.Errorf("%s is not a folder", folder))
	}
	var signer *signature.Signer
	var err error
	if f.sign.key != "" {
		if signer, err = f.sign.signer(p); err != nil {
			return err
		}
	}
	files, err := pack.Folder(os.DirFS(folder))
	if err != nil {
		return withExit(exitUsage, fmt.Errorf("%s: %w", folder, err))
	}
	if files, err = pack.SetManifest(files, f.revision, f.roots); err != nil {
		return err
	}
	if signer != nil {
		signatures, err := signer.Sign(pack.Each(files))
		if err != nil {
			return err
		}
		files = append(files, pack.File{Name: signature.Name, Content: signatures})
	}
	var written *writtenBundle
	err = replaceFile(f.out, func(w io.Writer) error { return pack.Write(w, files) }, func(temporary string) (err error) {
		if written, err = describeWritten(temporary, f.out); err != nil {
			return err
		}
		return f.check(p, folder, temporary)
	})
	if err != nil {
		return err
	}
	return written.print(p, output)
}

// check asks whether a server would compile the bundle, and warns of one that
// OPA would not load.
func (f *buildFlags) check(p *process, folder, temporary string) error {
	archive, _, err := openArchive(temporary)
	if err != nil {
		return err
	}
	b, _, err := archive.Load(bundleName(folder))
	if err != nil {
		return err
	}
	if _, err := compileBundles(f.standardPolicies, b); err != nil {
		return err
	}
	if _, err := bundles.Load(bundleName(folder), temporary, bundles.Limits{}); err != nil {
		fmt.Fprintf(p.stderr, "verdict: warning: OPA does not load this bundle: %s\n", strings.ReplaceAll(err.Error(), temporary, f.out))
	}
	return nil
}
