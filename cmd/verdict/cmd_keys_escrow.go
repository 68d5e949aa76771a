package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/keys/escrow"
)

const (
	maxShareFile   = 8 << 10
	maxPackageFile = 64 << 20
)

func newKeysMasterCmd(p *process) *cobra.Command {
	cmd := newGroup("master", "The master key of keys in the data folder")
	var f bundleServerFlags
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Give a server another master key and seal its keys anew",
		Long: `Give a running server a new master key and seal its keys under it. The three
previous ones stay in the file, so that backups remain readable. This is for a
master key in a file; to change one in an environment variable, or a passphrase,
put the new one before the old one at its source and restart verdict.`,
		Example:     "  verdict keys master rotate --server https://verdict.example --token-file token",
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := keyQuestion(http.MethodPost, nil, "master", "rotate")
			if err != nil {
				return err
			}
			return askKeys(cmd.Context(), p, &f, q, func([]byte) (string, error) { return "rotated the master key\n", nil })
		},
	}
	f.add(rotate)
	cmd.AddCommand(rotate)
	return cmd
}

func newKeysEscrowCmd(p *process) *cobra.Command {
	cmd := newGroup("escrow", "Create the escrow key, and open what is in escrow")
	cmd.AddCommand(newEscrowKeygenCmd(p), newEscrowExportCmd(p), newEscrowOpenCmd(p))
	return cmd
}

func newEscrowKeygenCmd(p *process) *cobra.Command {
	var out string
	shares, threshold := 5, 3
	cmd := &cobra.Command{
		Use:   "keygen --out DIR",
		Short: "Make an escrow key and split its private key into shares",
		Long: `Create an escrow key (P-256) and split its private key into shares. DIR receives
escrow.pem, for keys.escrow.public_key, and share-1, share-2 and so on, one for
each holder: move them off this machine. The private key itself is never written.
Run this on a machine that is trusted with all keys and has no network.`,
		Example: "  verdict keys escrow keygen --shares 5 --threshold 3 --out ceremony",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			public, parts, err := escrow.Split(rand.Reader, shares, threshold)
			if err != nil {
				return withExit(exitUsage, err)
			}
			return writeEscrowKey(p, out, public, parts)
		},
	}
	cmd.Flags().IntVar(&shares, "shares", shares, "`number` of shares")
	cmd.Flags().IntVar(&threshold, "threshold", threshold, "`number` of shares needed to rebuild the key")
	cmd.Flags().StringVar(&out, "out", "", "`DIR` to create for the files")
	_ = cmd.MarkFlagRequired("out") // the error is for a flag that does not exist
	return cmd
}

// writeEscrowKey writes the files of a new escrow key into a new folder.
func writeEscrowKey(p *process, dir string, public *escrow.PublicKey, shares []escrow.Share) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return withExit(exitUsage, fmt.Errorf("make the folder for the shares: %w", err))
	}
	text, err := public.PEM()
	if err != nil {
		return err
	}
	if err := writeSecretFile(filepath.Join(dir, "escrow.pem"), text, 0o644); err != nil {
		return err
	}
	for _, s := range shares {
		text, err := s.Text()
		if err != nil {
			return err
		}
		if err := writeSecretFile(filepath.Join(dir, fmt.Sprintf("share-%d", s.Number)), []byte(text+"\n"), 0o600); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(p.stdout, "escrow key %s: %d shares, %d of them give it\n", public.Thumbprint(), len(shares), shares[0].Threshold)
	return err
}

// writeSecretFile writes a file that does not exist yet.
func writeSecretFile(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return withExit(exitUsage, err)
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func newEscrowExportCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "export ID",
		Short: "Print the escrow packages of a key, JSON",
		Long: `Print the escrow packages of a key, to keep a copy outside the server or for
verdict keys escrow open. They are useless without the escrow key. The export is
recorded.`,
		Example:     "  verdict keys escrow export verdict-restricted --server https://verdict.example --token-file token > packages.json",
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := keyQuestion(http.MethodGet, nil, args[0], "escrow")
			if err != nil {
				return err
			}
			return askKeys(cmd.Context(), p, &f, q, func(body []byte) (string, error) { return strings.TrimSpace(string(body)) + "\n", nil })
		},
	}
	f.add(cmd)
	return cmd
}

// openFlags are the flags of keys escrow open.
type openFlags struct {
	packages, out string
	version       uint32
	shares        []string
}

func newEscrowOpenCmd(p *process) *cobra.Command {
	var f openFlags
	cmd := &cobra.Command{
		Use:   "open --packages FILE --share FILE... --out FILE",
		Short: "Open an escrow package with shares",
		Long: `Combine shares and open an escrow package, without a server. The key material (32
bytes, or PKCS #8, in base64) is written to a JSON file with mode 0600 and never
printed. Whoever has that file has the key.`,
		Example: "  verdict keys escrow open --packages packages.json --share share-1 --share share-2 --share share-4 --out key.json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return openPackage(p, &f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.packages, "packages", "", "`FILE` written by verdict keys escrow export")
	fs.Uint32Var(&f.version, "version", 0, "the `version` of the key; 0: the newest in escrow")
	fs.StringArrayVar(&f.shares, "share", nil, "`FILE` with a share; may be repeated")
	fs.StringVar(&f.out, "out", "", "`FILE` to create")
	for _, name := range []string{"packages", "share", "out"} {
		_ = cmd.MarkFlagRequired(name) // the error is for a flag that does not exist
	}
	return cmd
}

func openPackage(p *process, f *openFlags) error {
	chosen, err := choosePackage(f)
	if err != nil {
		return withExit(exitUsage, err)
	}
	texts, err := readShares(f.shares)
	if err != nil {
		return withExit(exitUsage, err)
	}
	shares := make([]escrow.Share, 0, len(texts))
	for i, text := range texts {
		s, err := escrow.ParseShare(text)
		if err != nil {
			return withExit(exitFailure, fmt.Errorf("%s: %w", f.shares[i], err))
		}
		shares = append(shares, s)
	}
	private, err := escrow.Combine(shares)
	if err != nil {
		return withExit(exitFailure, err)
	}
	content, err := private.Open(*chosen)
	if err != nil {
		return withExit(exitFailure, err)
	}
	defer clear(content.Material)
	encoded, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	defer clear(encoded)
	if err := writeSecretFile(f.out, append(encoded, '\n'), 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "opened version %d of key %s\n", content.Version, plain(content.Key))
	return err
}

// choosePackage finds the package of the version that was asked for.
func choosePackage(f *openFlags) (*escrow.Package, error) {
	raw, err := readBounded(f.packages, maxPackageFile)
	if err != nil {
		return nil, err
	}
	var file struct {
		Packages []escrow.Package `json:"packages"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.packages, err)
	}
	for i := len(file.Packages) - 1; i >= 0; i-- {
		if f.version == 0 || file.Packages[i].Version == f.version {
			return &file.Packages[i], nil
		}
	}
	return nil, fmt.Errorf("%s holds no package of version %d", f.packages, f.version)
}

// readShares reads files with a share each.
func readShares(paths []string) ([]string, error) {
	texts := make([]string, 0, len(paths))
	for _, path := range paths {
		raw, err := readBounded(path, maxShareFile)
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(bytes.TrimSpace(raw)))
	}
	return texts, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return raw, err
}

// recoverFlags are the flags of keys recover.
type recoverFlags struct {
	server bundleServerFlags
	shares []string
	cancel bool
}

func newKeysRecoverCmd(p *process) *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use:   "recover ID --share FILE...",
		Short: "Give shares to bring a lost key back",
		Long: `Submit shares of the escrow key to recover a lost key. Once there are enough, from
at least two independent principals (neither token created the other), the server
unwraps the key in memory and imports it. Each principal submits once; shares wait
for the others for at most one hour and are not stored. If the escrow key was
replaced, shares are needed of each escrow key that holds a version.`,
		Example:     "  verdict keys recover verdict-confidential --share share-1 --share share-2 --token-file ana\n  verdict keys recover verdict-confidential --share share-4 --token-file bo",
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.cancel {
				q := question{method: http.MethodDelete, path: []string{"keys", args[0], "recover"}}
				return askKeys(cmd.Context(), p, &f.server, q, func([]byte) (string, error) { return "the shares are forgotten\n", nil })
			}
			texts, err := readShares(f.shares)
			if err != nil {
				return withExit(exitUsage, err)
			}
			q, err := keyQuestion(http.MethodPost, map[string]any{"shares": texts}, args[0], "recover")
			if err != nil {
				return err
			}
			return askKeys(cmd.Context(), p, &f.server, q, recoveryText)
		},
	}
	f.server.add(cmd)
	cmd.Flags().StringArrayVar(&f.shares, "share", nil, "`FILE` with a share; may be repeated")
	cmd.Flags().BoolVar(&f.cancel, "cancel", false, "discard the shares submitted for the key")
	cmd.MarkFlagsOneRequired("share", "cancel")
	cmd.MarkFlagsMutuallyExclusive("share", "cancel")
	return cmd
}

func recoveryText(body []byte) (string, error) {
	progress, err := decodeAnswer(body, func(v *escrow.Progress) bool { return v.Key != "" })
	if err != nil {
		return "", err
	}
	if len(progress.Recovered) > 0 {
		return fmt.Sprintf("recovered %s\n", strings.Join(progress.Recovered, ", ")), nil
	}
	text := fmt.Sprintf("%d of %d shares, given by %s; another principal gives the rest before %s\n",
		progress.Shares, progress.Threshold, strings.Join(progress.Principals, ", "), shownTime(&progress.Expires))
	if len(progress.EscrowKeys) < 2 {
		return text, nil
	}
	for _, k := range progress.EscrowKeys {
		of := "an unknown number"
		if k.Threshold > 0 {
			of = strconv.Itoa(k.Threshold)
		}
		text += fmt.Sprintf("escrow key %s, for versions %v: %d of %s of shares, given by %d\n", k.Thumbprint, k.Versions, k.Shares, of, k.Principals)
	}
	return text, nil
}
