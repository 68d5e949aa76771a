package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/internal/timespan"
)

func newTokenCmd(p *process) *cobra.Command {
	cmd := newGroup("token", "Create, list and revoke the tokens of callers")
	cmd.Long = `Create, list and revoke the tokens of callers. Their hashes are in
DIR/tokens.json. A server running on the same folder picks up changes within a
second, without a restart.`
	cmd.AddCommand(newTokenCreateCmd(p), newTokenListCmd(p), newTokenRevokeCmd(p))
	return cmd
}

// tokenFlags are the flags of token create.
type tokenFlags struct {
	config        configFlags
	name, expires string
	createdBy     string
	scopes        []string
}

func newTokenCreateCmd(p *process) *cobra.Command {
	var f tokenFlags
	cmd := &cobra.Command{
		Use:   "create --name N --scope S...",
		Short: "Create a token and print it, once",
		Long: `Create a token and print it on standard output. It is stored nowhere: if it is lost,
revoke it and create another. The scopes are
  ` + strings.Join(tokens.ValidScopes(), "\n  ") + `
where admin is all of them and NAME may be *. Two callers of whom one created the other
cannot recover a key together: --created-by names the creator.`,
		Example: `  verdict token create --name gateway --scope decide
  verdict token create --name ci --scope bundles:app --scope bundles:app:read --expires 90d`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && len(f.scopes) == 0 {
				return fmt.Errorf("unexpected argument %q", args[0])
			}
			f.scopes = append(f.scopes, args...)
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return createToken(cmd.Context(), p, &f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "`name` of the caller in records")
	fs.StringSliceVar(&f.scopes, "scope", nil, "what the caller may do; may be repeated, or a comma-separated list")
	fs.StringVar(&f.expires, "expires", "", "`duration` after which it expires, such as 12h or 90d; default: never")
	fs.StringVar(&f.createdBy, "created-by", "", "name or id of the `token` whose holder creates this one; default: the administrator of the host")
	addDataDirFlags(cmd, &f.config)
	// The errors are for flags that do not exist.
	_ = cmd.MarkFlagRequired("name")
	_ = cmd.MarkFlagRequired("scope")
	_ = cmd.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(tokens.ValidScopes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func createToken(ctx context.Context, p *process, f *tokenFlags) error {
	n := tokens.NewToken{Name: f.name, Scopes: f.scopes, CreatedBy: f.createdBy}
	if f.expires != "" {
		d, err := timespan.Parse(f.expires)
		if err != nil || d <= 0 {
			return withExit(exitUsage, fmt.Errorf("--expires %s: write a duration above 0, for example 12h or 90d", f.expires))
		}
		n.Expires = p.now().Add(d)
	}
	store, err := openTokens(p, &f.config, true)
	if err != nil {
		return err
	}
	secret, t, err := store.Create(ctx, n)
	if errors.Is(err, tokens.ErrScope) || errors.Is(err, tokens.ErrName) || errors.Is(err, tokens.ErrUnknown) {
		return withExit(exitUsage, err)
	} else if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "created token %q (id %s, expires %s); it is shown only this once\n", t.Name, t.ID, formatExpiry(&t, p.now()))
	_, err = fmt.Fprintln(p.stdout, secret)
	return err
}

func newTokenListCmd(p *process) *cobra.Command {
	var flags configFlags
	output := outputFlag("text")
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tokens, including expired ones, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := openTokens(p, &flags, false)
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(p.stdout).Encode(describeTokens(store.List()))
			}
			w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tSCOPES\tCREATED\tEXPIRES")
			for _, t := range store.List() {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, strings.Join(t.Scopes.Names(), ","), t.Created.Format(time.RFC3339), formatExpiry(&t, p.now()))
			}
			return w.Flush()
		},
	}
	addDataDirFlags(cmd, &flags)
	output.add(cmd)
	return cmd
}

func newTokenRevokeCmd(p *process) *cobra.Command {
	var flags configFlags
	cmd := &cobra.Command{
		Use:   "revoke NAME|ID",
		Short: "Revoke a token",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openTokens(p, &flags, false)
			if err != nil {
				return err
			}
			t, err := store.Revoke(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "revoked token %q (id %s)\n", t.Name, t.ID)
			return err
		},
	}
	addDataDirFlags(cmd, &flags)
	return cmd
}

// openTokens opens the token file of the data folder. A folder that is not
// there is an error unless it may be made: a wrong --data-dir would look like
// one without tokens.
func openTokens(p *process, f *configFlags, create bool) (*tokens.Store, error) {
	dir, err := resolveDataDir(f, p.environ)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil && (!create || !errors.Is(err, fs.ErrNotExist)) {
		return nil, withExit(exitUsage, fmt.Errorf("look at the data folder: %w", err))
	}
	store, err := tokens.Open(dir, tokens.Options{Now: p.now})
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	return store, nil
}

// formatExpiry says when a token ends.
func formatExpiry(t *tokens.Token, now time.Time) string {
	if t.Expires.IsZero() {
		return "never"
	}
	text := t.Expires.Format(time.RFC3339)
	if t.Expired(now) {
		text += " (expired)"
	}
	return text
}

// createdBy says who created a token.
func createdBy(t *tokens.Token) string {
	if len(t.CreatedBy) == 0 {
		return "host"
	}
	return t.CreatedBy[0]
}

// tokenDescription is one entry of token list --output json.
type tokenDescription struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	// CreatedBy is the id of a token, or host.
	CreatedBy string `json:"created_by"`
}

func describeTokens(list []tokens.Token) []tokenDescription {
	out := make([]tokenDescription, 0, len(list))
	for _, t := range list {
		out = append(out, tokenDescription{
			ID: t.ID, Name: t.Name, Scopes: t.Scopes.Names(), Created: t.Created, Expires: t.Expires, CreatedBy: createdBy(&t),
		})
	}
	return out
}
