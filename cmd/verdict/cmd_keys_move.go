package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/legacy"
	"github.com/verdict-pdp/verdict/keys/local"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	moveBatch    = 1000    // lines of one request
	moveBytes    = 4 << 20 // of the lines of one request
	maxMoveLine  = 8 << 20
	maxLegacyKey = 4 << 20 // of the file
)

const moveExitCodes = `0  all values were encrypted and verified
1  some were not; their lines say why
2  the command line or a file is wrong, or the server could not be reached or refused access`

// moved is a line of output.
type moved struct {
	Ciphertext string `json:"ciphertext,omitempty"`
	Error      string `json:"error,omitempty"`
}

// moveLines reads lines of JSON, has them encrypted in batches, and writes a
// line for each; it gives how many were encrypted and how many not.
func moveLines[T any](p *process, do func([]T) ([]keys.Encrypted, error)) (done, failed int, err error) {
	scanner := bufio.NewScanner(p.stdin)
	scanner.Buffer(nil, maxMoveLine)
	out := bufio.NewWriter(p.stdout)
	encoder := json.NewEncoder(out)
	var batch []T
	size, number := 0, 0
	flush := func() error {
		results, err := do(batch)
		if err != nil {
			return err
		}
		for _, r := range results {
			line := moved{Ciphertext: r.Text}
			if r.Err == nil {
				done++
			} else {
				line.Error, failed = r.Err.Error(), failed+1
			}
			if err := encoder.Encode(line); err != nil {
				return fmt.Errorf("write results: %w", err)
			}
		}
		batch, size = batch[:0], 0
		return out.Flush()
	}
	for scanner.Scan() {
		number++
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		var line T
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return done, failed, withExit(exitUsage, fmt.Errorf("line %d: %w", number, err))
		}
		batch, size = append(batch, line), size+len(scanner.Bytes())
		if len(batch) == moveBatch || size >= moveBytes {
			if err := flush(); err != nil {
				return done, failed, err
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return done, failed, withExit(exitUsage, fmt.Errorf("line %d: %w", number+1, err))
	}
	if len(batch) == 0 {
		return done, failed, nil
	}
	return done, failed, flush()
}

// moveEnd tells the counts and gives the exit code.
func moveEnd(p *process, f *bundleServerFlags, done, failed int, err error) error {
	fmt.Fprintf(p.stderr, "%d values encrypted and verified, %d not\n", done, failed)
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit
	}
	if err != nil {
		return f.failed(p, err)
	}
	if failed > 0 {
		return withExit(exitFailure, nil)
	}
	return nil
}

func newKeysImportCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	var keyFile string
	cmd := &cobra.Command{
		Use:   "import-legacy --keys FILE",
		Short: "Re-encrypt fields of the predecessor framework",
		Long: `Read encrypted fields of the predecessor framework from standard input, one per
line; decrypt them locally, have a server encrypt the values, and verify the result
by decrypting it. A line is such a field (encrypted_data, key_id, algorithm, iv)
plus the members classification and context (tenant, type, id, pointer) that it
gets. The output has one line for each, with its ciphertext or error. FILE is JSON:
the framework's keys by id, each 32 bytes in base64 or an RSA key in PEM. The token
needs keys:encrypt and keys:decrypt.`,
		Example:     "  verdict keys import-legacy --keys old-keys.json --server https://verdict.example --token-file token < fields.ndjson > ciphertexts.ndjson",
		Annotations: map[string]string{exitCodesKey: moveExitCodes},
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			old, err := readLegacyKeys(keyFile)
			if err != nil {
				return withExit(exitUsage, err)
			}
			r, err := f.connect(p)
			if err != nil {
				return err
			}
			done, failed, err := moveLines(p, func(lines []legacyLine) ([]keys.Encrypted, error) {
				return importLegacy(cmd.Context(), old, remoteRing{r}, lines)
			})
			return moveEnd(p, &f, done, failed, err)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&keyFile, "keys", "", "`FILE` with the framework's keys")
	_ = cmd.MarkFlagRequired("keys") // the error is for a flag that does not exist
	return cmd
}

// legacyLine is a line of input of import-legacy.
type legacyLine struct {
	legacy.Field
	Classification keys.Class   `json:"classification"`
	Context        keys.Context `json:"context"`
}

func importLegacy(ctx context.Context, old *legacy.Keys, ring legacy.Ring, lines []legacyLine) ([]keys.Encrypted, error) {
	items := make([]legacy.Item, len(lines))
	for i, line := range lines {
		raw, err := json.Marshal(line.Field)
		if err != nil {
			return nil, fmt.Errorf("read field: %w", err)
		}
		field, err := legacy.Parse(raw)
		if err != nil {
			field = legacy.Field{} // which does not open
		}
		items[i] = legacy.Item{Field: field, Class: line.Classification, Context: line.Context}
	}
	results, _, err := old.Reencrypt(ctx, ring, keys.By{}, items)
	return results, err
}

func readLegacyKeys(path string) (*legacy.Keys, error) {
	raw, err := readBounded(path, maxLegacyKey)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	var byID map[string]string
	if err := json.Unmarshal(raw, &byID); err != nil {
		return nil, fmt.Errorf("%s is no JSON object of keys by their ids", path) // the cause could show a key
	}
	set := legacy.NewKeys()
	for id, material := range byID {
		if err := set.Add(id, []byte(material)); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return set, nil
}

// migrateFlags are the flags of keys migrate.
type migrateFlags struct {
	server                      bundleServerFlags
	dataDir                     string
	masterFile, passphrase, env string
}

func newKeysMigrateCmd(p *process) *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate --from DIR",
		Short: "Encrypt ciphertexts of keys in a data folder anew by another server",
		Long: `Read ciphertexts made with the keys in a data folder from standard input, one per
line ({"ciphertext": ..., "context": {...}}); decrypt them locally, have a server
encrypt the values, and verify the result by decrypting it. Use it to move from
keys.provider local to vault, or to another server. No server may be using the keys
in DIR meanwhile. The output has one line for each, with its ciphertext or error.
The token needs keys:encrypt and keys:decrypt.`,
		Example:     "  verdict keys migrate --from ./old-data --server https://verdict.example --token-file token < old.ndjson > new.ndjson",
		Annotations: map[string]string{exitCodesKey: moveExitCodes},
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.server.connect(p)
			if err != nil {
				return err
			}
			ring, end, err := f.source(p)
			if err != nil {
				return withExit(exitUsage, err)
			}
			done, failed, err := moveLines(p, func(lines []migrateLine) ([]keys.Encrypted, error) {
				return migrate(cmd.Context(), ring, remoteRing{r}, lines)
			})
			return errors.Join(moveEnd(p, &f.server, done, failed, err), end())
		},
	}
	f.server.add(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.dataDir, "from", "", "the data folder `DIR` with the keys")
	fs.StringVar(&f.masterFile, "master-key-file", "", "`FILE` with its master key; default: DIR/master.key")
	fs.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase of its master key")
	fs.StringVar(&f.env, "master-key-env", "", "`name` of the environment variable with its master key")
	cmd.MarkFlagsMutuallyExclusive("master-key-file", "passphrase-file", "master-key-env")
	_ = cmd.MarkFlagRequired("from") // the error is for a flag that does not exist
	return cmd
}

// migrateLine is a line of input of migrate.
type migrateLine struct {
	Ciphertext string       `json:"ciphertext"`
	Context    keys.Context `json:"context"`
}

// source opens the keys of the data folder, to read with.
func (f *migrateFlags) source(p *process) (*keys.Ring, func() error, error) {
	m := local.Master{File: f.masterFile, PassphraseFile: f.passphrase}
	switch {
	case f.env != "":
		m.Variable = lookupEnv(p.environ, f.env)
	case m.File == "" && m.PassphraseFile == "":
		m.File = filepath.Join(f.dataDir, "master.key")
	}
	dir := filepath.Join(f.dataDir, "keys")
	if _, err := os.Stat(dir); err != nil {
		return nil, nil, fmt.Errorf("look for the keys: %w", err)
	}
	backend, err := local.Open(dir, m, local.Options{Now: p.now, Command: "verdict keys migrate"})
	if err != nil {
		return nil, nil, err
	}
	ring, err := keys.New(backend, noState{}, noState{}, keys.Options{Now: p.now})
	if err != nil {
		return nil, nil, errors.Join(err, backend.Close())
	}
	return ring, backend.Close, nil
}

// migrate opens values and has them encrypted.
func migrate(ctx context.Context, from *keys.Ring, to remoteRing, lines []migrateLine) ([]keys.Encrypted, error) {
	texts := make([]keys.Ciphertext, len(lines))
	for i, line := range lines {
		texts[i] = keys.Ciphertext{Text: line.Ciphertext, Context: line.Context}
	}
	opened, err := from.Decrypt(ctx, keys.By{}, texts)
	if err != nil {
		return nil, fmt.Errorf("open ciphertexts: %w", err)
	}
	results := make([]keys.Encrypted, len(lines))
	var values []keys.Value
	var at []int
	defer func() {
		for i := range values {
			clear(values[i].Data)
		}
	}()
	for i, o := range opened {
		if results[i].Err = o.Err; o.Err == nil {
			values, at = append(values, keys.Value{Class: o.Class, Context: lines[i].Context, Data: o.Data}), append(at, i)
		}
	}
	sealed, err := to.Encrypt(ctx, keys.By{}, values)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		results[i] = sealed[n]
	}
	return results, nil
}

// noState is the store and the log of a ring that only opens, of which the
// output of the command tells.
type noState struct{}

// Get implements keys.Store.
func (noState) Get(context.Context, string) (storage.Entry, error) {
	return storage.Entry{}, storage.ErrNotFound
}

// List implements keys.Store.
func (noState) List(context.Context, string, string, int) (storage.Page, error) {
	return storage.Page{}, nil
}

// Apply implements keys.Store.
func (noState) Apply(context.Context, ...storage.Op) ([]uint64, error) {
	return nil, storage.ErrUnavailable
}

// Watch implements keys.Store.
func (noState) Watch(context.Context, string, uint64, func(storage.Event) error) error { return nil }

// RecordKey implements keys.Recorder.
func (noState) RecordKey(context.Context, keys.Event) error { return nil }
