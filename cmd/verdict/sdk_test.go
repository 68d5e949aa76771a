package main_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestTypeScriptSDK runs the calls of OPA's own SDK, which knows nothing of
// verdict, against a server that wants a token.
func TestTypeScriptSDK(t *testing.T) {
	t.Parallel()
	sdk := components.Path(t, "opa-sdk")
	data := filepath.Join(t.TempDir(), "data")
	token, stderr, code := servertest.Run(t, "token", "create", "--name", "sdk", "--scope", "decide", "--data-dir", data)
	if code != 0 {
		t.Fatal(stderr)
	}
	s := servertest.Start(t, servertest.Options{Dir: data, Strict: true, Args: []string{
		"--standard-policies=false", "--bundle", "testdata/opa-sdk/bundle", "--set", "limits.evaluation=20s",
	}})
	node := exec.CommandContext(t.Context(), "node", "testdata/opa-sdk/calls.mjs")
	node.Env = append(servertest.Environ(), "SDK="+sdk, "URL="+s.URL, "TOKEN="+lastField(token))
	var errs strings.Builder
	node.Stderr = &errs
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%v after\n%s\n%s", err, out, errs.String())
	}
	done := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, name := range []string{"evaluate", "evaluateDefault", "evaluateBatch", "evaluateBatch mixed", "getFilters postgresql", "getFilters ucast", "getFilters prisma", "getMultipleFilters"} {
		if !slices.Contains(done, name) {
			t.Errorf("%s did not run; what did: %q", name, done)
		}
	}
	s.Stop()
	list := readLog(t, data)
	decisions := slices.DeleteFunc(list, func(r record) bool { return r.Type != "decision" })
	if len(decisions) < len(done) {
		t.Errorf("%d records of %d calls", len(decisions), len(done))
	}
	for _, r := range decisions {
		if !strings.Contains(string(r.raw), `"requested_by":"sdk"`) {
			t.Errorf("the record does not name the caller: %s", r.raw)
		}
	}
}

// lastField is the token in the output of token create.
func lastField(text string) string {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return ""
	}
	return fields[len(fields)-1]
}
