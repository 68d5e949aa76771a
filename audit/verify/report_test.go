package verify_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
)

// The members of the report are a contract (docs/audit-verify.md).
func TestReportJSON(t *testing.T) {
	dir := write(t, 1000, surgeon.Sample, surgeon.Options{Marks: true})
	members := func(rep verify.Report) map[string]json.RawMessage {
		t.Helper()
		b, err := json.Marshal(rep)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		var names []string
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		want := "bytes detail duration_seconds errors errors_total file files first_bad_seq hash_chain_valid head is_valid kind origin " +
			"records_per_second result root signature_valid total_events verified_events warnings"
		if got := strings.Join(names, " "); got != want {
			t.Errorf("members %s, want %s", got, want)
		}
		return m
	}
	expect := func(m map[string]json.RawMessage, want map[string]string) {
		t.Helper()
		for name, w := range want {
			if got := string(m[name]); got != w {
				t.Errorf("%s: %s, want %s", name, got, w)
			}
		}
	}
	expect(members(check(t, dir)), map[string]string{
		"result": `"ok"`, "first_bad_seq": "null", "is_valid": "true", "total_events": "1000", "verified_events": "1000",
		"hash_chain_valid": "true", "signature_valid": "null", "errors": "[]", "warnings": "[]",
	})
	// One bit in record 500 of 1,000.
	at := strings.Index(string(surgeon.Sample(500)), "support")
	if err := surgeon.Open(dir, 0, surgeon.Layout{}).FlipRecord(500, at, 1); err != nil {
		t.Fatal(err)
	}
	rep := check(t, dir)
	detail := `"the record is not what was hashed when it was written"`
	expect(members(rep), map[string]string{
		"result": `"tampered"`, "first_bad_seq": "500", "kind": `"record_altered"`, "file": `"00000000.db"`, "is_valid": "false",
		"total_events": "1000", "verified_events": "744", "hash_chain_valid": "false", "signature_valid": "null", "errors_total": "1",
		"errors": `[{"seq":500,"last_seq":500,"kind":"record_altered","file":"00000000.db","detail":` + detail + `}]`,
	})
	line, _, _ := strings.Cut(rep.Text(), "\n")
	if want := "tampered: first bad record 500: record_altered: " + strings.Trim(detail, `"`); line != want {
		t.Errorf("first line %q, want %q", line, want)
	}
}

func TestExitCodes(t *testing.T) {
	for result, want := range map[verify.Result]int{
		verify.OK: 0, verify.Tampered: 1, verify.Truncated: 3, verify.RolledBack: 4, verify.Unverifiable: 5, verify.Damaged: 6,
	} {
		if got := result.ExitCode(); got != want {
			t.Errorf("%s: %d, want %d", result, got, want)
		}
	}
}
