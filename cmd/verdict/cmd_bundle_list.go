package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles"
)

// askExitCodes are those of the commands that only look.
const askExitCodes = `0  done
2  the command line is wrong, there is no such bundle or revision, or the server could not be reached or refused access`

func newBundleListCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List the active bundles of a server, or the revisions of one",
		Long: `List the active bundles of a server or, with NAME, the revisions that it keeps of
that bundle: newest first, refused pushes at the end.`,
		Example: `  verdict bundle list --server https://verdict.example --token-file token
  verdict bundle list app --output json`,
		Annotations: map[string]string{exitCodesKey: askExitCodes},
		Args:        cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.connect(p)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return listBundles(cmd.Context(), p, r, &f, []string{"bundles"}, "bundles", "NAME\tREVISION\tSINCE\tBEFORE\tROOTS\n", bundleRow)
			}
			return listBundles(cmd.Context(), p, r, &f, []string{"bundles", args[0], "revisions"}, "revisions", "REVISION\tSTATUS\tPUSHED\tBY\tDIGEST\tREFUSED BY\n", revisionRow)
		},
	}
	f.add(cmd)
	return cmd
}

// listBundles prints all entries of a list; member is its name in the answer.
func listBundles[T any](ctx context.Context, p *process, r *remote, f *bundleServerFlags, path []string, member, head string, row func(*T) string) error {
	entries, err := r.askAll(ctx, path, member)
	if err != nil {
		return f.failed(p, err)
	}
	if f.output == "json" {
		return json.NewEncoder(p.stdout).Encode(map[string]any{member: entries})
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, head)
	for _, raw := range entries {
		entry, err := decodeAnswer(raw, func(*T) bool { return true })
		if err != nil {
			return withExit(exitUsage, err)
		}
		fmt.Fprint(w, row(entry))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return writePlain(p.stdout, b.String())
}

// askAll asks for all pages of a list.
func (r *remote) askAll(ctx context.Context, path []string, member string) ([]json.RawMessage, error) {
	entries, cursor := []json.RawMessage{}, ""
	for {
		query := url.Values{}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		body, err := r.ask(ctx, question{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return nil, err
		}
		page, err := decodeAnswer(body, func(v *map[string]json.RawMessage) bool { return (*v)[member] != nil })
		if err != nil {
			return nil, err
		}
		var list []json.RawMessage
		next := ""
		err = json.Unmarshal((*page)[member], &list)
		if raw := (*page)["cursor"]; err == nil && raw != nil {
			err = json.Unmarshal(raw, &next)
		}
		if err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
		entries = append(entries, list...)
		if next == "" {
			return entries, nil
		}
		if next == cursor {
			return nil, errors.New("read the server's answer: a page is followed by itself")
		}
		cursor = next
	}
}

func bundleRow(b *bundles.Summary) string {
	roots := strings.Join(b.Roots, ", ")
	if b.Revision != "" && roots == "" {
		roots = "everything"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\n", cell(b.Name), cell(b.Revision), shownTime(b.Since), cell(b.Previous), cell(roots))
}

func revisionRow(r *bundles.Revision) string {
	gate := ""
	for _, g := range r.Gates {
		if g.Result == bundles.Failed {
			gate = g.Name
		}
	}
	digest := r.Digest[:min(12, len(r.Digest))]
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n", cell(r.Revision), r.Status, shownTime(&r.PushedAt), cell(r.PushedBy), cell(digest), cell(gate))
}

// cell is what a cell of a table shows: no cell is empty.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return strings.NewReplacer("\t", " ", "\n", " ").Replace(text)
}

func shownTime(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
