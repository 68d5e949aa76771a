package main_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/storage/segmentread"
)

// testPolicy has a rule for each way in which a decision can end.
const testPolicy = `package app

allow if input.user == "ada"

default denied := false

double := input.n * 2

echo := input

undefined_here if input.no.such.thing

# Two rules disagree: the evaluation fails.
broken := 1 if input.user
broken := 2 if input.user

slow if count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == -1]) == 0
`

// mainPolicy is what POST / asks.
const mainPolicy = `package system

main := data.app[input.rule]
`

// testBundle writes a folder with the test policy and further modules.
func testBundle(t testing.TB, modules ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, text := range append([]string{testPolicy, mainPolicy}, modules...) {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m%d.rego", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// plain are the arguments of a server with the test policy only, whose
// evaluations have all the time that a loaded machine may need.
func plain(t testing.TB, args ...string) []string {
	t.Helper()
	return append([]string{
		"--standard-policies=false", "--bundle", testBundle(t), "--set", "limits.evaluation=20s",
	}, args...)
}

// record is a record as tests look at it.
type record struct {
	Seq        uint64          `json:"seq"`
	Type       string          `json:"type"`
	Event      string          `json:"event"`
	Outcome    string          `json:"outcome"`
	DecisionID string          `json:"decision_id"`
	Path       string          `json:"path"`
	Resource   string          `json:"resource"`
	Input      json.RawMessage `json:"input"`
	Result     json.RawMessage `json:"result"`
	Message    string          `json:"message"`
	Fields     []string        `json:"affected_fields"`
	Details    struct {
		Status     int    `json:"status"`
		Suppressed int    `json:"suppressed"`
		Recovered  bool   `json:"recovered"`
		Code       string `json:"code"`
	} `json:"details"`

	raw []byte
}

// readLog gives the records in the folder of a server that does not run.
func readLog(t testing.TB, dir string) []record {
	t.Helper()
	source, err := segmentread.Open(filepath.Join(dir, "audit"))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	files, err := source.Files(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var list []record
	for _, file := range files {
		err := source.Walk(context.Background(), file, "rec", func(key, rec []byte) error {
			r := record{raw: slices.Clone(rec)}
			if err := json.Unmarshal(rec, &r); err != nil {
				return fmt.Errorf("record %q: %w", rec, err)
			}
			if seq := binary.BigEndian.Uint64(key); seq != r.Seq || seq != uint64(len(list)) {
				return errors.New("records are not numbered one after the other")
			}
			list = append(list, r)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// count is how many records have the event.
func count(list []record, event string) (n int) {
	for _, r := range list {
		if r.Event == event {
			n++
		}
	}
	return n
}

// last is the newest record with the event.
func last(t testing.TB, list []record, event string) record {
	t.Helper()
	for _, r := range slices.Backward(list) {
		if r.Event == event {
			return r
		}
	}
	t.Fatalf("the log holds no %s", event)
	return record{}
}

// verifyFolder runs audit verify on a folder that must be sound.
func verifyFolder(t testing.TB, dir string) {
	t.Helper()
	stdout, stderr, code := servertest.Run(t, "audit", "verify", "--data-dir", dir)
	if code != 0 {
		t.Fatalf("audit verify: exit code %d\n%s%s", code, stdout, stderr)
	}
}
