package workload_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/verdict-pdp/verdict/bench/workload"
)

// fields are the length-delimited fields of a message, by number.
func fields(t *testing.T, b []byte) map[protowire.Number][][]byte {
	t.Helper()
	all := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		size := -1
		if n >= 0 {
			size = protowire.ConsumeFieldValue(number, kind, b[n:])
		}
		if size < 0 {
			t.Fatalf("not a message: %x", b)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[n:])
			all[number] = append(all[number], value)
		}
		b = b[n+size:]
	}
	return all
}

// TestChecksAskTheSame decides the checks by OPA's library, as opa-envoy-plugin's
// input has them.
func TestChecksAskTheSame(t *testing.T) {
	set := workload.RBAC()
	dir := t.TempDir()
	if err := set.WriteBundle(dir); err != nil {
		t.Fatal(err)
	}
	query, err := rego.New(rego.LoadBundle(dir), rego.Query("data.envoy.authz.allow")).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Checks) != len(set.Requests) {
		t.Fatalf("%d checks of %d requests", len(set.Checks), len(set.Requests))
	}
	for i := 0; i < len(set.Checks); i += 20 {
		c := set.Checks[i]
		attributes := fields(t, fields(t, c.Body)[1][0])
		http := fields(t, fields(t, attributes[4][0])[2][0])
		headers := map[string]any{}
		for _, entry := range http[3] {
			pair := fields(t, entry)
			headers[string(pair[1][0])] = string(pair[2][0])
		}
		path := string(http[4][0])
		if id := string(c.Body[c.ID : c.ID+8]); !strings.Contains(path, "/res-"+id+"/") {
			t.Fatalf("the id of %s is not at %d: %s", path, c.ID, id)
		}
		var segments []any
		for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
			segments = append(segments, segment)
		}
		rs, err := query.Eval(t.Context(), rego.EvalInput(map[string]any{
			"attributes": map[string]any{"request": map[string]any{"http": map[string]any{"headers": headers}}}, "parsed_path": segments,
		}))
		if err != nil || len(rs) != 1 || rs[0].Expressions[0].Value != (string(c.Want) == "true") || string(c.Want) != string(set.Requests[i].Want) {
			t.Errorf("%d: %s %v: %v %v, want %s", i, path, headers, rs, err, c.Want)
		}
	}
}
