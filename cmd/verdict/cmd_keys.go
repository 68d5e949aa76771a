package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// keyExitCodes are those of the commands that change a key.
const keyExitCodes = `0  done
1  refused: a job holds the key, the key has changed or is not lost, or a share is invalid
2  the command line is wrong, there is no such key, or the server could not be reached or refused access`

func newKeysCmd(p *process) *cobra.Command {
	cmd := newGroup("keys", "List, rotate and recover the keys of a server")
	cmd.Long = `List, rotate, compromise, retire and recover the keys of a server (scope admin);
create and use the escrow key, without a server.`
	cmd.AddCommand(
		newKeysListCmd(p), newKeysShowCmd(p), newKeysRotateCmd(p), newKeysScheduleCmd(p),
		newKeysCompromiseCmd(p), newKeysRetireCmd(p), newKeysRecoverCmd(p), newKeysReencryptCmd(p), newKeysMasterCmd(p), newKeysEscrowCmd(p),
		newKeysImportCmd(p), newKeysMigrateCmd(p),
	)
	return cmd
}

// shownKey is what the commands show of a key.
type shownKey struct {
	ID             string     `json:"id"`
	Type           string     `json:"type"`
	Classification string     `json:"classification"`
	Version        uint32     `json:"version"`
	MinDecryption  uint32     `json:"min_decryption_version"`
	AgeDays        int64      `json:"age_days"`
	NextRotation   *time.Time `json:"next_rotation"`
	Scheduled      *time.Time `json:"scheduled"`
	Compromised    []uint32   `json:"compromised"`
	Holds          []string   `json:"holds"`
	Escrow         struct {
		Required bool     `json:"required"`
		Versions []uint32 `json:"versions"`
	} `json:"escrow"`
}

func newKeysListCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	var within string
	cmd := &cobra.Command{
		Use:         "list",
		Short:       "List the keys of a server, with age and next rotation",
		Example:     "  verdict keys list --server https://verdict.example --token-file token\n  verdict keys list --expires-within 30d --output json",
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if within != "" {
				query.Set("expires_within", within)
			}
			return askKeys(cmd.Context(), p, &f, question{method: http.MethodGet, path: []string{"keys"}, query: query}, keyTable)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&within, "expires-within", "", "only keys that are rotated within this `duration`, such as 720h or 30d")
	return cmd
}

// askKeys asks a server and prints its answer: as it is, or as show shows it.
func askKeys(ctx context.Context, p *process, f *bundleServerFlags, q question, show func([]byte) (string, error)) error {
	r, err := f.connect(p)
	if err != nil {
		return err
	}
	body, err := r.ask(ctx, q)
	if err != nil {
		return f.failed(p, err)
	}
	if f.output == "json" && len(body) > 0 {
		return writeRaw(p.stdout, body)
	}
	text, err := show(body)
	if err != nil {
		return withExit(exitUsage, err)
	}
	return writePlain(p.stdout, text)
}

func keyTable(body []byte) (string, error) {
	answer, err := decodeAnswer(body, func(v *struct {
		Keys []shownKey `json:"keys"`
	},
	) bool {
		return v.Keys != nil
	})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTYPE\tVERSION\tAGE\tNEXT ROTATION\tESCROW\tCOMPROMISED")
	for _, k := range answer.Keys {
		fmt.Fprintf(w, "%s\t%s\t%d\t%dd\t%s\t%s\t%s\n",
			cell(k.ID), cell(k.Type), k.Version, k.AgeDays, shownTime(k.NextRotation), k.escrowed(), cell(versionList(k.Compromised)))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String(), nil
}

// escrowed says whether the latest version can be recovered.
func (k *shownKey) escrowed() string {
	if !k.Escrow.Required {
		return "-"
	}
	for _, v := range k.Escrow.Versions {
		if v == k.Version {
			return "yes"
		}
	}
	return "missing"
}

func versionList(versions []uint32) string {
	words := make([]string, 0, len(versions))
	for _, v := range versions {
		words = append(words, strconv.FormatUint(uint64(v), 10))
	}
	return strings.Join(words, ",")
}

func keyText(body []byte) (string, error) {
	k, err := decodeAnswer(body, func(v *shownKey) bool { return v.ID != "" })
	if err != nil {
		return "", err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"key", k.ID},
		{"type", k.Type},
		{"classification", k.Classification},
		{"version", fmt.Sprintf("%d, decrypts from %d on", k.Version, k.MinDecryption)},
		{"age", fmt.Sprintf("%d days", k.AgeDays)},
		{"next rotation", shownTime(k.NextRotation)},
		{"scheduled", shownTime(k.Scheduled)},
		{"escrow", k.escrowed()},
		{"compromised", versionList(k.Compromised)},
		{"held by", strings.Join(k.Holds, ", ")},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], cell(line[1]))
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String(), nil
}

func newKeysShowCmd(p *process) *cobra.Command {
	var f bundleServerFlags
	public := false
	cmd := &cobra.Command{
		Use:         "show ID",
		Short:       "Show a key, or its public keys",
		Example:     "  verdict keys show verdict-confidential --server https://verdict.example --token-file token\n  verdict keys show verdict-jwt --public --output json",
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := question{method: http.MethodGet, path: []string{"keys", args[0]}}
			if !public {
				return askKeys(cmd.Context(), p, &f, q, keyText)
			}
			q.path = append(q.path, "public")
			return askKeys(cmd.Context(), p, &f, q, publicText)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&public, "public", false, "print the public keys, PEM")
	return cmd
}

func publicText(body []byte) (string, error) {
	answer, err := decodeAnswer(body, func(v *struct {
		Versions []struct {
			PEM string `json:"pem"`
		} `json:"versions"`
	},
	) bool {
		return len(v.Versions) > 0
	})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, v := range answer.Versions {
		b.WriteString(v.PEM)
	}
	return b.String(), nil
}

// changeKey makes a command of one that posts about a key.
func changeKey(p *process, use, short, example string, add func(*cobra.Command), ask func(id string) (question, error)) *cobra.Command {
	var f bundleServerFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		Annotations: map[string]string{exitCodesKey: keyExitCodes},
		Args:        cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := ask(args[0])
			if err != nil {
				return withExit(exitUsage, err)
			}
			return askKeys(cmd.Context(), p, &f, q, keyText)
		},
	}
	f.add(cmd)
	add(cmd)
	return cmd
}

// keyQuestion is a question with a JSON body; nil: without.
func keyQuestion(method string, body any, path ...string) (question, error) {
	q := question{method: method, path: append([]string{"keys"}, path...)}
	if body == nil {
		return q, nil
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return question{}, fmt.Errorf("encode question: %w", err)
	}
	q.header = map[string]string{"Content-Type": "application/json"}
	q.body, q.size = strings.NewReader(string(raw)), int64(len(raw))
	return q, nil
}

func newKeysRotateCmd(p *process) *cobra.Command {
	return changeKey(p, "rotate ID", "Add a new version to a key and use it from then on",
		"  verdict keys rotate verdict-confidential --server https://verdict.example --token-file token",
		func(*cobra.Command) {},
		func(id string) (question, error) { return keyQuestion(http.MethodPost, nil, id, "rotate") })
}

func newKeysScheduleCmd(p *process) *cobra.Command {
	var at string
	clearDate := false
	cmd := changeKey(p, "schedule ID", "Set a date on which a key is rotated, in addition to its policy",
		"  verdict keys schedule verdict-jwt --at 2027-01-04T06:00:00Z\n  verdict keys schedule verdict-jwt --clear",
		func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&at, "at", "", "the `time`, RFC 3339")
			cmd.Flags().BoolVar(&clearDate, "clear", false, "remove the date")
			cmd.MarkFlagsOneRequired("at", "clear")
			cmd.MarkFlagsMutuallyExclusive("at", "clear")
		},
		func(id string) (question, error) {
			if clearDate {
				return keyQuestion(http.MethodDelete, nil, id, "next_rotation")
			}
			when, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return question{}, fmt.Errorf("--at %s: write a time as 2027-01-04T06:00:00Z", at)
			}
			return keyQuestion(http.MethodPut, map[string]any{"at": when}, id, "next_rotation")
		})
	return cmd
}

// versionChange is a command about a version of a key.
func versionChange(p *process, name, short, flag string) *cobra.Command {
	version := uint32(0)
	return changeKey(p, name+" ID", short,
		"  verdict keys "+name+" verdict-confidential --server https://verdict.example --token-file token\n  verdict keys "+name+" verdict-confidential --version 3",
		func(cmd *cobra.Command) { cmd.Flags().Uint32Var(&version, "version", 0, flag) },
		func(id string) (question, error) {
			body := map[string]any{}
			if version != 0 {
				body["version"] = version
			}
			return keyQuestion(http.MethodPost, body, id, name)
		})
}

func newKeysCompromiseCmd(p *process) *cobra.Command {
	cmd := versionChange(p, "compromise", "Mark a version of a key as known to others", "the compromised `version`; 0: the latest")
	cmd.Long = `Mark a version of a key as compromised. From then on nothing new is encrypted or
signed with it, and what it has signed no longer verifies. What it has encrypted
can still be decrypted, so that it can be re-encrypted; verdict keys retire ends
that.`
	return cmd
}

func newKeysRetireCmd(p *process) *cobra.Command {
	cmd := versionChange(p, "retire", "Destroy the versions of a key before one", "the oldest `version` that is kept; 0: the latest")
	cmd.Long = `Destroy all versions of a key older than the given one, in escrow too. What was
encrypted under them can never be decrypted again. Refused while a re-encryption
job holds the key.`
	return cmd
}
