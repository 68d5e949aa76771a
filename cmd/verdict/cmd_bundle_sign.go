package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles/signature"
)

func newBundleSignCmd(p *process) *cobra.Command {
	var f signFlags
	var k ringKeyFlags
	var out string
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a bundle",
		Long: `Sign a bundle in OPA's format. Stock OPA can verify the signature, except EdDSA,
which it does not support. An existing signature is replaced; the bundle's files
and digest stay the same.

The key is a file, or a key in Vault's transit engine that never leaves Vault. For
the latter, keys.vault of the configuration says where Vault is and how to log in.`,
		Example: `  verdict bundle sign app.tar.gz --signing-key ci.pem --key-id ci-2026
  verdict bundle sign app.tar.gz --signing-key secret.txt --algorithm HS256 --key-id shared --out signed.tar.gz
  verdict bundle sign app.tar.gz --key transit:verdict-bundles --config verdict.yaml --public-key bundles.pem`,
		Annotations: map[string]string{exitCodesKey: `0  the signed bundle is written
1  the file is not a bundle, or Vault did not sign it
2  the command line is wrong, or a file could not be read or written`},
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0]
			}
			signer, err := k.signer(cmd.Context(), p, &f)
			if err != nil {
				return err
			}
			return signBundle(p, args[0], out, signer, output)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write; none: the bundle itself")
	f.add(cmd)
	k.add(cmd)
	output.add(cmd)
	cmd.MarkFlagsOneRequired("signing-key", "key")
	cmd.MarkFlagsMutuallyExclusive("signing-key", "key")
	return cmd
}

func signBundle(p *process, name, out string, signer *signature.Signer, output outputFlag) error {
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
