package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/bundles/pack"
	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

func newBundleCmd(p *process) *cobra.Command {
	cmd := newGroup("bundle", "Build, sign, inspect, test and push policy bundles")
	cmd.Long = `Build, sign, inspect and test policy bundles without a server; push them to a
server, and list, compare, activate, deactivate and roll back what it keeps.`
	cmd.AddCommand(
		newBundleBuildCmd(p), newBundleSignCmd(p), newBundleInspectCmd(p), newBundleTestCmd(p),
		newBundlePushCmd(p), newBundleListCmd(p), newBundleDiffCmd(p), newBundleActivateCmd(p), newBundleDeactivateCmd(p), newBundleRollbackCmd(p),
		newBundleReplayCmd(p),
		newBundleStageCmd(p), newBundleUnstageCmd(p), newBundlePromoteCmd(p),
	)
	return cmd
}

// signFlags say how a bundle is signed.
type signFlags struct {
	key, algorithm, keyID, scope string
}

func (f *signFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.key, "signing-key", "", "`FILE` with the private key, PEM, or with the secret of HS256, HS384 and HS512")
	f.addCommon(cmd)
}

// addCommon declares what a key is given with, to sign and to verify.
func (f *signFlags) addCommon(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.algorithm, "algorithm", "", "signature `algorithm`; default: the usual one for the type of key (a secret has none)")
	fs.StringVar(&f.keyID, "key-id", "", "`ID` of the key")
	fs.StringVar(&f.scope, "scope", "", "`scope` of the signature")
	var names []string
	for _, a := range signature.Algorithms() {
		names = append(names, string(a))
	}
	// The error is for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("algorithm", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

// signer reads the key. One that others may read is warned of when it is a
// private key, and refused when it is a secret.
func (f *signFlags) signer(p *process) (*signature.Signer, error) {
	algorithm := signature.Algorithm(f.algorithm)
	raw, err := signature.ReadKeyFile(f.key, algorithm.Secret())
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	if algorithm == "" {
		if algorithm, err = signature.AlgorithmFor(raw); err != nil {
			return nil, withExit(exitUsage, fmt.Errorf("key file %s: %w; a secret needs --algorithm", f.key, err))
		}
	}
	signer, err := signature.NewSigner(raw, signature.SignerOptions{Algorithm: algorithm, KeyID: f.keyID, Scope: f.scope})
	if err != nil {
		return nil, withExit(exitUsage, fmt.Errorf("key file %s: %w", f.key, err))
	}
	if info, err := os.Stat(f.key); err == nil && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(p.stderr, "verdict: warning: the private key in %s may be read by others (mode %04o); make it 0600\n", f.key, info.Mode().Perm())
	}
	if f.keyID == "" {
		fmt.Fprintln(p.stderr, "verdict: warning: without --key-id the signature names no key, and OPA verifies it only where it is told which key to use")
	}
	return signer, nil
}

// compileBundles loads bundles into an engine as serve would.
func compileBundles(standard bool, list ...*eval.Bundle) (*eval.Engine, error) {
	v := readVersion()
	engine, err := eval.New(eval.Options{Version: v.Version, Commit: v.Commit})
	if err != nil {
		return nil, err
	}
	if standard {
		base, err := standardBundle(false)
		if err != nil {
			return nil, fmt.Errorf("load standard policies: %w", err)
		}
		list = append([]*eval.Bundle{base}, list...)
	}
	_, err = engine.Write(func(d *eval.Draft) error { return d.SetBundles(list) })
	return engine, err
}

// replaceFile writes a file so that another process sees the old one or the
// whole new one. check looks at it before it takes its place.
func replaceFile(name string, write func(io.Writer) error, check func(temporary string) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return withExit(exitUsage, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // it was renamed, or is of no use
		}
	}()
	err = write(file)
	if err = errors.Join(err, file.Chmod(0o644), file.Close()); err != nil {
		return err
	}
	if err := check(file.Name()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return withExit(exitUsage, err)
	}
	return nil
}

// openArchive opens a tarball. What cannot be read is an error of usage; what
// is no bundle is a failure.
func openArchive(name string) (*bundles.Archive, *bundles.ManifestInfo, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, nil, withExit(exitUsage, fmt.Errorf("%s is a folder; verdict bundle build makes a bundle of it", name))
	}
	archive, err := bundles.OpenArchive(name, bundles.Limits{})
	if err != nil {
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, nil, withExit(exitUsage, err)
		}
		return nil, nil, err
	}
	manifest, err := archive.Describe()
	if err != nil {
		return nil, nil, fmt.Errorf("read bundle %s: %w", name, err)
	}
	return archive, manifest, nil
}

// readBundle reads a folder or a tarball as a push would.
func readBundle(path string) (b *eval.Bundle, tests []*eval.Module, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	file := path
	if info.IsDir() {
		files, err := pack.Folder(os.DirFS(path))
		if err != nil {
			return nil, nil, err
		}
		temporary, err := os.CreateTemp("", "verdict-bundle-*.tar.gz")
		if err != nil {
			return nil, nil, err
		}
		defer os.Remove(temporary.Name())
		if err := errors.Join(pack.Write(temporary, files), temporary.Close()); err != nil {
			return nil, nil, err
		}
		file = temporary.Name()
	}
	archive, err := bundles.OpenArchive(file, bundles.Limits{})
	if err != nil {
		return nil, nil, err
	}
	return archive.Load(bundleName(path))
}

// writtenBundle is what build and sign say of the file they wrote.
type writtenBundle struct {
	File     string   `json:"file"`
	Revision string   `json:"revision"`
	Roots    []string `json:"roots"`
	Digest   string   `json:"digest"`
	Size     int64    `json:"size"`
	Files    int      `json:"files"`
	// Signature is nil for a bundle that is not signed.
	Signature *signature.Description `json:"signature"`
}

// describeWritten reads a file again that was written for the place name.
func describeWritten(temporary, name string) (*writtenBundle, error) {
	archive, manifest, err := openArchive(temporary)
	if err != nil {
		return nil, err
	}
	w := &writtenBundle{
		File: name, Revision: manifest.Revision, Roots: manifest.Roots,
		Digest: archive.Digest, Size: archive.Size, Files: len(archive.Files),
	}
	if archive.Signatures() != nil {
		w.Signature, err = signature.Describe(archive.Signatures(), signature.Limits{})
	}
	return w, err
}

// print prints it.
func (w *writtenBundle) print(p *process, output outputFlag) error {
	if output == "json" {
		return json.NewEncoder(p.stdout).Encode(w)
	}
	signed := "not signed"
	if s := w.Signature; s != nil {
		signed = "signed " + string(s.Algorithm)
		if s.KeyID != "" {
			signed += " by " + s.KeyID
		}
	}
	_, err := fmt.Fprintf(p.stdout, "wrote %s: revision %s, %d files, %d bytes, %s\ndigest %s\n", w.File, w.Revision, w.Files, w.Size, signed, w.Digest)
	return err
}
