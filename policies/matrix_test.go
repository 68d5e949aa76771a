package policies_test

import (
	"encoding/csv"
	"os"
	"strings"
	"testing"
)

// TestRolesMatrix asks for each of the 25 permissions in each of the 7 system
// roles and compares with testdata/roles.csv (origin: testdata/README.md).
func TestRolesMatrix(t *testing.T) {
	file, err := os.Open("testdata/roles.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	eval := newEvaluator(t, standard(t))
	cells := 0
	for _, row := range rows[1:] {
		kind, action, _ := strings.Cut(row[0], ".")
		for i, role := range rows[0][1:] {
			answer := eval.decide(t, map[string]any{
				"subject": map[string]any{"type": "user", "id": "u", "properties": map[string]any{
					"roles": []any{role}, "tenant": "t",
				}},
				"action":   map[string]any{"name": action},
				"resource": map[string]any{"type": kind, "id": "r", "properties": map[string]any{"tenant": "t"}},
			})
			cells++
			if want := row[i+1] == "1"; answer["allow"] != want {
				t.Errorf("%s as %s: allow is %v for %v", row[0], role, answer["allow"], reasonCodes(answer))
			}
		}
	}
	if cells != 7*25 {
		t.Errorf("%d cells, want %d", cells, 7*25)
	}
}
