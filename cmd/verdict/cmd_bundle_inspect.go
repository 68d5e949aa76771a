package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/signature"
)

// inspectFlags are the flags of bundle inspect.
type inspectFlags struct {
	config configFlags
	key    string
	about  signFlags // its algorithm, id and scope
	name   string
}

func newBundleInspectCmd(p *process) *cobra.Command {
	var f inspectFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what is in a bundle and who signed it",
		Long: `Show a bundle's revision, roots, digest, files and signature. To check the
signature as well, give a key (--verification-key) or a configuration whose keys
for the bundle's name are used (--config).`,
		Example: `  verdict bundle inspect app.tar.gz
  verdict bundle inspect app.tar.gz --verification-key ci.pub
  verdict bundle inspect app.tar.gz --config /etc/verdict/verdict.yaml --name app --output json`,
		Annotations: map[string]string{exitCodesKey: `0  the bundle is shown, and its signature verifies if keys were given
1  the file is not a bundle, or its signature does not verify
2  the command line is wrong, or a file could not be read`},
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return inspectBundle(p, args[0], &f, output) },
	}
	fs := cmd.Flags()
	f.config.flags = fs
	fs.StringVar(&f.config.file, "config", "", "verify with the keys of the configuration `FILE` (bundles.verification_keys)")
	fs.StringVar(&f.key, "verification-key", "", "verify with the public key, certificate or secret in `FILE`")
	f.about.addCommon(cmd)
	fs.StringVar(&f.name, "name", "", "`name` that the bundle is pushed under; default: the name of the file")
	output.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("config", "verification-key")
	return cmd
}

// inspectedBundle is what inspect shows.
type inspectedBundle struct {
	File string `json:"file"`
	Name string `json:"name"`
	bundles.ManifestInfo
	Digest    string             `json:"digest"`
	Size      int64              `json:"size"`
	Unpacked  int64              `json:"unpacked"`
	Files     []inspectedFile    `json:"files"`
	Signature inspectedSignature `json:"signature"`
}

type inspectedFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

type inspectedSignature struct {
	Signed bool `json:"signed"`
	// What the signature says of itself.
	*signature.Description
	// Verified is absent where no keys were given.
	Verified   *bool  `json:"verified,omitempty"`
	VerifiedBy string `json:"verified_by,omitempty"` // the key
	Statement  string `json:"statement,omitempty"`   // names what was signed
	// Reason and Message say why it does not verify, or cannot be read.
	Reason  signature.Reason `json:"reason,omitempty"`
	Message string           `json:"message,omitempty"`
}

func inspectBundle(p *process, name string, f *inspectFlags, output outputFlag) error {
	archive, manifest, err := openArchive(name)
	if err != nil {
		return err
	}
	shown := &inspectedBundle{
		File: name, Name: f.name, ManifestInfo: *manifest,
		Digest: archive.Digest, Size: archive.Size, Unpacked: archive.Unpacked,
	}
	if shown.Name == "" {
		shown.Name = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(name), ".gz"), ".tar")
	}
	for _, file := range archive.Files {
		shown.Files = append(shown.Files, inspectedFile{Path: file.Path, Size: file.Size, SHA256: hex.EncodeToString(file.SHA256[:])})
	}
	s := &shown.Signature
	if s.Signed = archive.Signatures() != nil; s.Signed {
		if s.Description, err = signature.Describe(archive.Signatures(), signature.Limits{}); err != nil {
			s.refuse(err)
		}
	}
	if err := f.verify(p, shown.Name, archive, s); err != nil {
		return err
	}
	if output == "json" {
		err = json.NewEncoder(p.stdout).Encode(shown)
	} else {
		err = shown.print(p)
	}
	if err == nil && s.Verified != nil && !*s.Verified {
		return withExit(exitFailure, fmt.Errorf("%s is not believed: %s", name, s.Message))
	}
	return err
}

// verify fills in whether the signature verifies, if keys were given.
func (f *inspectFlags) verify(p *process, name string, archive *bundles.Archive, s *inspectedSignature) error {
	keys, err := f.keys(p, s)
	if err != nil || keys == nil {
		return err
	}
	ring := signature.NewKeyring(signature.Options{Now: p.now})
	commit, err := ring.Prepare(keys)
	if err != nil {
		return withExit(exitUsage, err)
	}
	commit()
	proof, err := ring.Verify(name, archive.Signatures(), archive.SignedFiles)
	verified := err == nil
	if s.Verified = &verified; verified {
		s.VerifiedBy, s.Statement = proof.KeyID, proof.Statement
		return nil
	}
	return s.refuse(err)
}

// refuse notes why the signature is not believed; an error of another kind is
// given back.
func (s *inspectedSignature) refuse(err error) error {
	refused, ok := errors.AsType[*signature.Error](err)
	if !ok {
		return err
	}
	s.Reason, s.Message = refused.Reason, refused.Error()
	return nil
}

// keys gives the keys of the command line, nil for none.
func (f *inspectFlags) keys(p *process, s *inspectedSignature) ([]signature.KeyConfig, error) {
	if f.config.file != "" {
		c, err := readConfig(&f.config, p.environ)
		if err != nil {
			return nil, err
		}
		value, err := offlineSecrets(p, c)
		if err != nil {
			return nil, err
		}
		return verificationKeys(c, value), nil
	}
	if f.key == "" {
		return nil, nil
	}
	key := signature.KeyConfig{ID: f.about.keyID, Algorithm: signature.Algorithm(f.about.algorithm), File: f.key, Scope: f.about.scope}
	if key.ID == "" {
		key.ID = "given"
		if s.Description != nil && s.KeyID != "" {
			key.ID = s.KeyID // the key is meant, whatever the signer calls it
		}
	}
	if key.Algorithm == "" {
		raw, err := signature.ReadKeyFile(f.key, false)
		if err != nil {
			return nil, withExit(exitUsage, err)
		}
		if key.Algorithm, err = signature.AlgorithmFor(raw); err != nil {
			return nil, withExit(exitUsage, fmt.Errorf("key file %s: %w; a secret needs --algorithm", f.key, err))
		}
	}
	return []signature.KeyConfig{key}, nil
}

// print prints it for people.
func (b *inspectedBundle) print(p *process) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\nrevision\t%s\nroots\t%q\n", b.Name, b.Revision, b.Roots)
	if b.Serial != nil {
		fmt.Fprintf(w, "serial\t%d\n", *b.Serial)
	}
	fmt.Fprintf(w, "digest\t%s\nsize\t%d bytes, %d unpacked\nsignature\t%s\n", b.Digest, b.Size, b.Unpacked, b.Signature.String())
	fmt.Fprintf(w, "files\t%d\n", len(b.Files))
	for _, file := range b.Files {
		fmt.Fprintf(w, "  %.12s\t%s\t%d\n", file.SHA256, file.Path, file.Size)
	}
	return w.Flush()
}

// String says it in a line.
func (s *inspectedSignature) String() string {
	if !s.Signed {
		return "none"
	}
	text := "not readable"
	if s.Description != nil {
		text = string(s.Algorithm)
		if s.KeyID != "" {
			text += " by " + s.KeyID
		}
	}
	switch {
	case s.Verified == nil && s.Reason == "":
		return text + ", not verified: no key was given"
	case s.Verified != nil && *s.Verified:
		return text + ", verified"
	}
	return text + ", not verified: " + s.Message
}
