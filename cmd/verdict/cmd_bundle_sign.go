package main

import (
	"io"

	"github.com/spf13/cobra"
)

func newBundleSignCmd(p *process) *cobra.Command {
	var f signFlags
	var out string
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "sign FILE --signing-key FILE",
		Short: "Sign a bundle",
		Long: `Sign a bundle in OPA's format, which stock OPA verifies (EdDSA excepted, which it
does not have). A signature that the bundle has already is replaced. Its files
and its digest stay what they are.`,
		Example: `  verdict bundle sign app.tar.gz --signing-key ci.pem --key-id ci-2026
  verdict bundle sign app.tar.gz --signing-key secret.txt --algorithm HS256 --key-id shared --out signed.tar.gz`,
		Annotations: map[string]string{exitCodesKey: `0  the signed bundle is written
1  the file is no bundle
2  the command line is wrong, or a file could not be read or written`},
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				out = args[0]
			}
			return signBundle(p, args[0], out, &f, output)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write; none: the bundle itself")
	f.add(cmd)
	output.add(cmd)
	// The error is for a flag that does not exist.
	_ = cmd.MarkFlagRequired("signing-key")
	return cmd
}

func signBundle(p *process, name, out string, f *signFlags, output outputFlag) error {
	signer, err := f.signer(p)
	if err != nil {
		return err
	}
	archive, _, err := openArchive(name)
	if err != nil {
		return err
	}
	var written *writtenBundle
	err = replaceFile(out, func(w io.Writer) error { return archive.Sign(signer, w) }, func(temporary string) (err error) {
		written, err = describeWritten(temporary, out)
		return err
	})
	if err != nil {
		return err
	}
	return written.print(p, output)
}
