package workload_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/verdict-pdp/verdict/bench/workload"
)

// digest is a hash over everything that a server gets to see, and the answers.
func digest(s *workload.Set) string {
	h := sha256.New()
	for _, name := range []string{"authz.rego", "data.json"} {
		h.Write(s.Files[name])
	}
	for _, r := range s.Requests {
		h.Write(r.Body)
		h.Write(r.Want)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestSetsAreFixed(t *testing.T) {
	for _, c := range []struct {
		set      *workload.Set
		requests int
		digest   string
	}{
		{workload.RBAC(), 20_000, "ff605c88e69f064efeff7ef1257bfcb5d393776ad70d1f0dd97442149c186027"},
		{workload.Cold(), 200_000, "9663face6fb6db563577c0affb653b91fc6ba9e4e11f0c4875b5dcf8e1c02d21"},
	} {
		t.Run(c.set.Name, func(t *testing.T) {
			if got := digest(c.set); got != c.digest {
				t.Errorf("digest %s, want %s: figures no longer compare with older ones", got, c.digest)
			}
			seen, subjects := make(map[string]bool), make(map[string]bool)
			allowed := 0
			for _, r := range c.set.Requests {
				seen[string(r.Body)] = true
				if string(r.Want) == "true" {
					allowed++
				}
				id := r.Body[r.ID : r.ID+8]
				if _, err := strconv.Atoi(string(id)); err != nil || !bytes.HasSuffix(r.Body[:r.ID], []byte(`"res-`)) {
					t.Fatalf("the resource id is not at %d of %s", r.ID, r.Body)
				}
				subjects[subject(t, r.Body)] = true
			}
			if len(seen) != c.requests || allowed != c.requests/2 {
				t.Errorf("%d distinct requests, %d allowed", len(seen), allowed)
			}
			if c.set.Cold && len(subjects) != c.requests {
				t.Errorf("%d requests have %d subjects", c.requests, len(subjects))
			}
		})
	}
}

func subject(t *testing.T, body []byte) string {
	t.Helper()
	var q struct {
		Input struct{ Subject struct{ ID string } }
	}
	if err := json.Unmarshal(body, &q); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return q.Input.Subject.ID
}

// evaluate asks OPA's library and returns the result as JSON.
func evaluate(t *testing.T, query rego.PreparedEvalQuery, body []byte) []byte {
	t.Helper()
	input, err := ast.ValueFromReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := input.(ast.Object).Get(ast.StringTerm("input"))
	rs, err := query.Eval(t.Context(), rego.EvalParsedInput(wrapped.Value))
	if err != nil || len(rs) != 1 {
		t.Fatalf("%s: %v, %d results", body, err, len(rs))
	}
	got, err := json.Marshal(rs[0].Expressions[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAnswersAreOPAs(t *testing.T) {
	for _, set := range []*workload.Set{workload.RBAC(), workload.Cold()} {
		t.Run(set.Name, func(t *testing.T) {
			dir := t.TempDir()
			if err := set.WriteBundle(dir); err != nil {
				t.Fatal(err)
			}
			query, err := rego.New(rego.LoadBundle(dir), rego.Query("data.authz.allow")).PrepareForEval(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(set.Requests); i += len(set.Requests) / 2000 {
				r := set.Requests[i]
				if got := evaluate(t, query, r.Body); !bytes.Equal(got, r.Want) {
					t.Errorf("%s: OPA says %s, the set %s", r.Body, got, r.Want)
				}
			}
		})
	}
}

func TestGrownHasTheSize(t *testing.T) {
	const size = 1 << 20
	set := workload.Grown(size)
	if n := len(set.Files["data.json"]); n < size || n > size*11/10 {
		t.Errorf("%d bytes of data, want about %d", n, size)
	}
}

func TestWriteBundle(t *testing.T) {
	dir := t.TempDir()
	set := &workload.Set{Files: map[string][]byte{"a/b.rego": []byte("package a.b\n")}}
	if err := set.WriteBundle(dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "a", "b.rego"))
	if err != nil || string(got) != "package a.b\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := set.WriteBundle(filepath.Join(dir, "a", "b.rego")); err == nil {
		t.Error("no error where the folder is a file")
	}
}

func TestStandard(t *testing.T) {
	set, err := workload.Standard(t.Context(), filepath.Join("..", "..", "policies"), 200)
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for _, r := range set.Requests {
		var want struct{ Allow bool }
		if err := json.Unmarshal(r.Want, &want); err != nil {
			t.Fatal(err)
		}
		if want.Allow {
			allowed++
		}
		if _, err := strconv.Atoi(string(r.Body[r.ID : r.ID+8])); err != nil {
			t.Errorf("the resource id is not at %d of %s", r.ID, r.Body)
		}
	}
	if len(set.Requests) != 200 || allowed != 100 || !set.FreshIDs {
		t.Errorf("%d requests, %d allowed, fresh ids %v", len(set.Requests), allowed, set.FreshIDs)
	}
	if _, err := workload.Standard(t.Context(), t.TempDir(), 1); err == nil {
		t.Error("no error without policies")
	}
}
