package bundles_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
)

func sum256(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestGates(t *testing.T) {
	const manifest = `{"revision": "r2", "roots": ["app"]}`
	slow := "package app_test\n\ntest_ever if count([1 | some i in numbers.range(1, 100000); some j in numbers.range(1, 100000); i == j + 1]) < 0\n"
	for _, tt := range []struct {
		name, gate, part string
		content          content
		options          func(*bundles.Options)
	}{
		{name: "all is well", content: content{".manifest": manifest, "app.rego": "package app\n\nx := 1"}},
		{name: "a manifest that is no JSON", gate: "manifest", part: ".manifest", content: content{".manifest": `{"roots": `}},
		{name: "two manifests in one", gate: "manifest", part: "something follows", content: content{".manifest": `{}{}`}},
		{name: "roots that overlap", gate: "manifest", part: "overlap", content: content{".manifest": `{"roots": ["a", "a/b"]}`}},
		{name: "a root with a hole", gate: "manifest", part: "empty segment", content: content{".manifest": `{"roots": ["a//b"]}`}},
		{name: "a revision with a line feed", gate: "manifest", part: "control characters", content: content{".manifest": `{"revision": "a\nb"}`}},
		{name: "a serial that is none", gate: "manifest", part: "verdict.serial", content: content{".manifest": `{"metadata": {"verdict": {"serial": 1.5}}}`}},
		{name: "WebAssembly", gate: "manifest", part: "WebAssembly", content: content{".manifest": `{"wasm": [{"entrypoint": "a/b", "module": "/policy.wasm"}]}`}},
		{name: "a bad Rego version", gate: "manifest", part: "rego-version", content: content{".manifest": `{"rego_version": 7}`, "a.rego": "package a"}},
		{name: "data outside of the roots", gate: "manifest", part: "do not permit", content: content{".manifest": manifest, "other/data.json": `{"x": 1}`}},
		{name: "a module outside of the roots", gate: "manifest", part: "do not permit", content: content{".manifest": manifest, "x.rego": "package other"}},
		{name: "data that are no JSON", gate: "manifest", part: "data.json", content: content{".manifest": manifest, "app/data.json": `{"x": `}},
		{name: "data nested for ever", gate: "manifest", part: "data.json", content: content{".manifest": manifest, "app/data.json": `{"x": ` + strings.Repeat("[", 1<<19)}},
		{name: "data twice", gate: "manifest", part: "defined twice", content: content{".manifest": manifest, "app/data.json": `{"x": 1}`, "app/data.yaml": "x: 2"}},
		{name: "a root of another bundle", gate: "roots", part: `root "mine/sub"`, content: content{".manifest": `{"roots": ["mine/sub"]}`}},
		{name: "everything", gate: "roots", part: "overlap", content: content{"x.rego": "package x"}},
		{name: "a rule of the base layer", gate: "roots", part: "names its whole package", content: content{".manifest": `{"roots": ["verdict/rbac/permitted"]}`}},
		{name: "a package of the base layer", content: content{".manifest": `{"roots": ["verdict/rbac"]}`, "r.rego": "package verdict.rbac\n\npermitted := true"}},
		{name: "no Rego", gate: "compile", part: "rego_parse_error", content: content{".manifest": manifest, "a.rego": "package app\n\nx := {"}},
		{name: "an empty file", gate: "compile", part: "empty module", content: content{".manifest": manifest, "a.rego": ""}},
		{name: "an unsafe variable", gate: "compile", part: "app/a.rego:3: rego_unsafe_var_error", content: content{".manifest": manifest, "a.rego": "package app\n\nx := y"}},
		{name: "an unknown function", gate: "compile", part: "undefined function", content: content{".manifest": manifest, "a.rego": "package app\n\nx := nope(1)"}},
		{name: "a rule and data at one path", gate: "compile", part: "conflict", content: content{".manifest": manifest, "a.rego": "package app\n\nx := 1", "app/data.json": `{"x": 2}`}},
		{name: "an unused variable", gate: "compile", part: "unused", content: content{".manifest": manifest, "a.rego": "package app\n\nx if { y := 1 }"}},
		{name: "an unused variable, leniently", content: content{".manifest": manifest, "a.rego": "package app\n\nx if { y := 1 }"}, options: func(o *bundles.Options) { o.GateOptions.Lenient = true }},
		{name: "the network", gate: "capabilities", part: "app/a.rego:3: the built-in http.send", content: content{".manifest": manifest, "a.rego": "package app\n\nx := http.send({\"url\": \"http://a\", \"method\": \"get\"})"}},
		{name: "a rule called http.send", content: content{".manifest": manifest, "a.rego": "package app\n\nimport input.http\n\nx := http.send"}},
		{name: "the network, allowed", content: content{".manifest": manifest, "a.rego": "package app\n\nx := http.send({\"url\": \"http://a\", \"method\": \"get\"})"}, options: func(o *bundles.Options) { o.GateOptions.Refused = []string{} }},
		{name: "a test that fails", gate: "tests", part: "1 of 2 tests failed: data.app_test.test_b (app/a_test.rego:", content: content{".manifest": manifest, "a.rego": "package app\n\nx := 1", "a_test.rego": "package app_test\n\ntest_a if data.app.x == 1\n\ntest_b if data.app.x == 2"}},
		{name: "a test that is an error", gate: "tests", part: "2 of 2 tests failed", content: content{".manifest": manifest, "a_test.rego": "package app_test\n\ntest_a := 1 if true\n\ntest_a := 2 if true"}},
		{name: "a test that does not compile", gate: "tests", part: "do not compile", content: content{".manifest": manifest, "a_test.rego": "package app_test\n\ntest_a if nope(1)"}},
		{name: "a test without end", gate: "tests", part: "did not end within 300ms", content: content{".manifest": manifest, "a_test.rego": slow}, options: func(o *bundles.Options) { o.GateOptions.TestsTimeout = 300 * time.Millisecond }},
		{name: "a test that eats memory", gate: "tests", part: "too much memory", content: content{".manifest": manifest, "a_test.rego": "package app_test\n\ntest_a if count([x | some i in numbers.range(1, 20000000); x := sprintf(\"%d-%d\", [i, i])]) == 0"}, options: func(o *bundles.Options) { o.GateOptions.TestsMemory = 100 << 20 }},
		{name: "a test of a policy of the base layer", content: content{".manifest": manifest, "a_test.rego": "package app_test\n\ntest_a if data.verdict.rbac.permitted"}},
		{name: "covered", content: content{".manifest": manifest, "a.rego": "package app\n\nx := 1", "a_test.rego": "package app_test\n\ntest_a if data.app.x == 1"}, options: func(o *bundles.Options) { o.GateOptions.Coverage = 100 }},
		{name: "half covered", gate: "coverage", part: "66.7 % of the lines", content: content{".manifest": manifest, "a.rego": "package app\n\nx := 1\n\ny := 2", "a_test.rego": "package app_test\n\ntest_a if data.app.x == 1"}, options: func(o *bundles.Options) { o.GateOptions.Coverage = 80 }},
		{name: "nothing covered", gate: "coverage", part: "no tests", content: content{".manifest": manifest, "a.rego": "package app\n\nx := 1"}, options: func(o *bundles.Options) { o.GateOptions.Coverage = 1 }},
		{name: "nothing to cover", content: content{".manifest": manifest, "app/data.json": "{}"}, options: func(o *bundles.Options) { o.GateOptions.Coverage = 100 }},
		{name: "unsigned", gate: "signature", part: "allow_unsigned", content: content{".manifest": manifest}, options: func(o *bundles.Options) { o.Verifier = nil }},
		{name: "a gate of our own", gate: "ours", part: "not on Mondays", content: content{".manifest": manifest}, options: func(o *bundles.Options) {
			o.Gates = []bundles.Gate{{Name: "ours", Check: func(_ context.Context, c *bundles.Candidate) (bundles.Finding, error) {
				if c.Snapshot == nil {
					return bundles.Finding{}, errors.New("no snapshot")
				}
				return bundles.Finding{Details: "x"}, &bundles.Error{Code: bundles.CodeGate, Message: "not on Mondays"}
			}}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, t.TempDir(), func(o *bundles.Options) { o.Verifier = bundles.Unsigned{Allow: true} })
			b.mustPush("mine", files(t, content{".manifest": `{"revision": "m1", "roots": ["mine"]}`, "mine/data.json": `{"x": 1}`}))
			b = open(t, reopened(b), tt.options)
			before := b.engine.Active()
			result, err := b.push("app", files(t, tt.content))
			if tt.gate == "" {
				if err != nil || result.Status != "active" {
					t.Fatalf("%+v, %v", result, err)
				}
				return
			}
			refused := wantRefusal(t, err, bundles.CodeGate, tt.gate, tt.part)
			at := slices.IndexFunc(refused.Gates, func(g bundles.GateResult) bool { return g.Result == bundles.Failed })
			if at < 0 || refused.Gates[at].Name != tt.gate || refused.Gates[at].Message != refused.Message {
				t.Errorf("gates %+v", refused.Gates)
			}
			if b.engine.Active() != before {
				t.Error("the snapshot that answers changed")
			}
			if last := b.recorder.last(t); last.Event != "bundle_refused" || !strings.Contains(string(last.Details), `"gate":"`+tt.gate+`"`) {
				t.Errorf("record %+v", last)
			}
			wantKept := tt.gate != bundles.GateSignature
			if _, err := b.Revision(t.Context(), "app", refused.Digest); (err == nil) != wantKept {
				t.Errorf("kept to be looked at: %v, want %v", err, wantKept)
			}
		})
	}
}

func TestReplacedRulesAreTold(t *testing.T) {
	b := newBench(t)
	result := b.mustPush("app", files(t, content{".manifest": `{"roots": ["verdict/rbac"]}`, "r.rego": "package verdict.rbac\n\npermitted := true"}))
	if !slices.Equal(result.Changes.BaseRulesReplaced, []string{"data.verdict.rbac.permitted"}) || result.Revision != result.Digest[:12] {
		t.Errorf("%+v %+v", result, result.Changes)
	}
}
