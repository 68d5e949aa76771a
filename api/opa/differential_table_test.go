package opa_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
)

// lab is the policy that most probes are asked against.
const lab = `package lab

import rego.v1

default allow := false

allow if input.user == "alice"

allow if "admin" in data.roles[input.user]

echo := input

undefd if input.nothere

conflict := 1 if input
conflict := 2 if input

partial[k] := v if {
	some k in ["a", "b"]
	v := input.v
}

clash[k] := v if {
	k := "same"
	some v in [1, 2]
}

set contains x if some x in [3, 1, 2, "a", null, true, {"k": 1}, [1]]

keys := {1: "one", true: "t", null: "n", [1, 2]: "arr", {"o": 1}: "obj", "s": "str"}

strictly := 1 / input.zero

bad_builtin if to_number("x") == 1

nums := [1, 1.0, 1e2, 12345678901234567890123, 0.1, -0, 1e-7, 100000000000000000000000]

html := "<a href=\"x\">&\u2028\u2029é</a>"

noted if {
	trace("a note")
	input.user == "alice"
}

big := [sprintf("element number %d", [i]) | some i in numbers.range(1, input.n)]

f(x) := x + 1

call := f(input.n)

nested := {"a": {"b": [{"c": input.x}]}}

truth := true

falsity := false

nothing := null

every_one if every x in input.list { x > 1 }

walked := [p | walk(input, [p, _])]

# METADATA
# title: a rule
# custom:
#   severity: high
annotated := 1
`

// labSetup is what probes find.
func labSetup() []probe {
	return []probe{
		{method: "PUT", target: "/v1/policies/lab.rego", body: lab},
		{method: "PUT", target: "/v1/policies/dir/sub%20dir/other.rego", body: "package other\n\nx := data.lab.truth\n"},
		{method: "PUT", target: "/v1/data/roles", body: `{"bob":["admin"],"a/b":["x"],"é":[1],"":["empty"],"1":["one"],"a b":1,"a~b":2,"-":3}`},
		{method: "PUT", target: "/v1/data/arr", body: `[1,[2,3],{"k":"v"},12345678901234567890123,1.50,"<&>"]`},
		{method: "PUT", target: "/v1/data/scalar", body: `"text"`},
		{method: "PUT", target: "/v1/data/nothing", body: `null`},
		{method: "PUT", target: "/v1/data/no", body: `false`},
	}
}

func TestSameAsOPA(t *testing.T) {
	servers := newPair(t)
	for _, group := range []struct {
		name   string
		probes []probe
	}{
		{"paths", pathProbes()},
		{"bodies", bodyProbes()},
		{"parameters", parameterProbes()},
		{"methods", methodProbes()},
		{"gzip", gzipProbes()},
		{"v0", v0Probes()},
		{"policies", policyProbes()},
		{"data", dataProbes()},
		{"patch", patchProbes()},
		{"conflicts", conflictProbes()},
		{"health", healthProbes()},
	} {
		t.Run(group.name, func(t *testing.T) {
			servers.reset(t)
			for _, q := range append(labSetup(), group.probes...) {
				servers.same(t, q)
			}
		})
	}
}

func pathProbes() (probes []probe) {
	paths := []string{
		"", "/", "//", "/lab", "/lab/", "/lab/allow", "/lab//allow", "/lab/./allow", "/lab/../lab/allow",
		"/lab/allow/", "/lab/allow//", "/lab/allow?", "/lab/allow/x", "/lab/echo/user", "/lab/partial/a",
		"/lab/set", "/lab/set/1", "/lab/keys", "/lab/keys/1", "/lab/keys/true", "/lab/nested/a/b/0/c",
		"/lab/f", "/lab/f/1", "/lab/call", "/lab/undefd", "/nope", "/nope/nope/nope", "/LAB/allow",
		"/roles", "/roles/bob", "/roles/bob/0", "/roles/bob/00", "/roles/bob/-1", "/roles/bob/1", "/roles/bob/x",
		"/roles/a%2Fb", "/roles/a%2fb/0", "/roles/%C3%A9", "/roles/é", "/roles/1", "/roles/a%20b", "/roles/a+b",
		"/roles/a~b", "/roles/-", "/arr", "/arr/0", "/arr/1/1", "/arr/2/k", "/arr/9", "/arr/-1", "/arr/01",
		"/scalar", "/scalar/x", "/scalar/0", "/nothing", "/nothing/x", "/no", "/data", "/input", "/system", "/system/main",
		"/lab%2Fallow", "/lab%2fallow", "/%6cab/allow", "/lab/all%6Fw", "/lab/%22", "/lab/a%22b", "/lab/%27",
		"/lab/%00", "/lab/a%00b", "/lab/%07", "/lab/%0a", "/lab/%0D", "/lab/%09", "/lab/%08", "/lab/%0c", "/lab/%0b",
		"/lab/%1f", "/lab/%7f", "/lab/%80", "/lab/%ff", "/lab/%5c", "/lab/%C2%A0", "/lab/%E2%80%A8", "/lab/%EF%BF%BD",
		"/lab/%F0%9F%98%80", "/lab/%F3%A0%80%81", "/lab/%ED%A0%80", "/lab/%zz", "/lab/%", "/lab/%2", "/lab/%%", "/lab/%25",
		"/lab/%2525", "/lab/if", "/lab/not", "/lab/_", "/lab/a.b", "/lab/a-b", "/lab/a[0]", "/lab/a%5B0%5D", "/lab/$", "/lab/a;b",
		"/lab/a,b", "/lab/a@b", "/lab/a:b", "/lab/{x}", "/lab/%7Bx%7D", "/lab/99999999999999999999", "/lab/1e3", "/lab/1.5",
		"/lab/+1", "/lab/0x10", "/a/b/c/d/e/f/g/h/i/j/k/l/m", "/lab/*", "/lab/..%2f", "/..", "/.", "/lab/.", "/lab/...",
		"/lab/allow#frag", "/lab/true", "/lab/null", "/true", "/null", "/lab/`", "/lab/|", "/lab/^",
	}
	for _, path := range paths {
		probes = append(
			probes,
			probe{method: "GET", target: "/v1/data" + path},
			probe{method: "POST", target: "/v1/data" + path, body: `{"input":{"user":"alice","n":1,"x":1}}`},
			probe{method: "POST", target: "/v0/data" + path, body: `{"user":"bob","n":1}`},
		)
	}
	for _, path := range []string{
		"/", "//", "/v1", "/v1/", "/v1/dat", "/v1/data2", "/v1/data2/x", "/v2/data", "/v0", "/v0/data", "/v0/data/", "/favicon.ico",
		"/healthz", "/health/", "/health//", "/metric", "/v1/policies", "/v1/policies/", "/v1/policies//", "/V1/data", "/v1/%64ata/lab/truth",
		"/v1%2Fdata/lab", "/./v1/data/lab/truth", "/../v1/data/lab/truth", "/v1/../v1/data/lab/truth", "/v1/data/lab/truth/..", "/x?y=z", "/v1/status",
		"/v1/status/", "/v1/status/x", "http://other/v1/data/lab/truth", "*",
	} {
		probes = append(probes, probe{method: "GET", target: path}, probe{method: "POST", target: path, body: "{}"})
	}
	return probes
}

func bodyProbes() (probes []probe) {
	bodies := []string{
		"", " ", "\n\t", "null", "true", "1", `"s"`, "[]", "[1,2]", "{}", `{"input":null}`, `{"input":{}}`, `{"input":1}`,
		`{"input":"x"}`, `{"input":[]}`, `{"input":true}`, `{"input":false}`, `{"INPUT":1}`, `{"Input":{"a":1}}`, `{"inpuT":null}`,
		`{"input":1,"input":2}`, `{"input":{"a":1,"a":2}}`, `{"input":{"a":1}} trailing`, `{"input":1}{"input":2}`, `{"input":1}]`,
		`{"input":1,}`, `{"input":}`, `{"input"}`, `{input:1}`, `{'input':1}`, `{"input":01}`, `{"input":+1}`, `{"input":.5}`,
		`{"input":1.}`, `{"input":1e}`, `{"input":-}`, `{"input":NaN}`, `{"input":Infinity}`, `{"input":1e400}`, `{"input":1E+2}`,
		`{"input":-0}`, `{"input":-0.0}`, `{"input":1.50}`, `{"input":1e2}`, `{"input":100000000000000000000000000000}`,
		`{"input":0.1234567890123456789012345678901234567890}`, `{"input":` + strings.Repeat("9", 1000) + `}`,
		`{"input":"\u0041\n\t\"\\\/\b\f\r"}`, `{"input":"\ud83d\ude00"}`, `{"input":"\ud83d"}`, `{"input":"\ude00x"}`, `{"input":"\u0000"}`,
		`{"input":"\x"}`, `{"input":"\u12"}`, `{"input":"` + "\x01" + `"}`, `{"input":"` + "\xff" + `"}`, `{"input":"` + "\xed\xa0\x80" + `"}`, "{\"input\":\"a\nb\"}",
		`{"input":"é中😀<>&` + "\u2028\u2029\u007f" + `"}`, `{"input":"` + strings.Repeat("x", 5000) + `"}`, "\ufeff" + `{"input":1}`, "\x00", "\xff", "@", "tru", "nul", "nulll",
		`{"input":tru}`, `{"input":[1,2}`, `{"input":[1 2]}`, `{"input":{"a" 1}}`, `{"input":{"a":1 "b":2}}`, `{"input":{1:2}}`, `{"input":{,}}`, `{"input":[,]}`, `{"input":[1,]}`,
		`{"input":"abc`, `{"input":{"a":"b`, `{"input":`, `{"inp`, `{`, `[`, `"`, `{"input":1`, `{"other":{"deep":[1,2,{"x":null}]},"input":{"a":1}}`,
		`{"input":{"b":1,"a":2,"é":3,"Z":4,"":5,"a b":6}}`, `{"input":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `}`, `// c` + "\n{}", `{"input":1}` + "\x00",
		`{"input":[[],{},"",0,false,null]}`, `{"input":{"a":{"b":{"c":[1,{"d":"e"}]}}}}`,
	}
	for _, body := range bodies {
		for _, path := range []string{"/v1/data/lab/echo", "/v0/data/lab/echo", "/v1/data/lab/nope"} {
			probes = append(probes, probe{method: "POST", target: path, body: body})
		}
		probes = append(probes, probe{method: "POST", target: "/v1/data/lab/echo", body: body, chunked: true})
	}
	types := []string{"application/json", "text/plain", "application/x-yaml", "application/yaml", "text/yaml; charset=utf-8", "yaml", "YAML", "application/x-www-form-urlencoded", "", "bogus;;;"}
	for _, ct := range types {
		for _, body := range []string{`{"input":{"a":1}}`, "input:\n  a: 1\n", "input: [1, yes, no, on, ~, 0x1F, 0o17, 1_000, 1e3, .5, 2023-01-01]\n", "input: &a [1]\nother: *a\n", "- 1\n- 2\n", "just text", "input: [unclosed", "", "# comment\n", "input: 1\n---\ninput: 2\n", "input: !!binary aGk=\n", "1: 2\ninput: {1: 2, true: 3, null: 4, 1.5: 5}\n", "input: 1\ninput: 2\n", "input: .nan\n", "a: &x {k: v}\ninput: {<<: *x, z: 1}\n", "\tinput: 1", "input: '\u00e9'", "INPUT: 1\n", "null", "input:\n"} {
			probes = append(probes,
				probe{method: "POST", target: "/v1/data/lab/echo", body: body, headers: []string{"Content-Type: " + ct}},
				probe{method: "POST", target: "/v0/data/lab/echo", body: body, headers: []string{"Content-Type: " + ct}})
		}
	}
	return probes
}

func parameterProbes() (probes []probe) {
	rules := []string{"allow", "echo", "undefd", "conflict", "clash", "set", "keys", "strictly", "bad_builtin", "nums", "html", "noted", "partial", "call", "every_one", "walked", "annotated", "nested", "f", ""}
	params := []string{
		"pretty", "pretty=true", "pretty=false", "pretty=TRUE", "pretty=1", "pretty=", "pretty=false&pretty=true", "pretty;x", "pretty=%zz", "PRETTY=true",
		"metrics", "metrics=true", "metrics=false", "instrument", "instrument&metrics", "provenance", "provenance&pretty", "strict-builtin-errors", "strict-builtin-errors=true&pretty", "strict-builtin-errors=false",
		"explain", "explain=off", "explain=notes", "explain=fails", "explain=full", "explain=debug", "explain=bogus", "explain=bogus&explain=notes", "explain=notes&pretty", "explain=fails&pretty", "explain=full&pretty", "explain=debug&pretty", "explain=FULL",
		"rule_labels", "rule_labels=true&pretty", "unknown=1", "%zz", "&&&", "=", "metrics&pretty", "explain=full&metrics&provenance",
	}
	for i, rule := range rules {
		for j, p := range params {
			if i >= 6 && (i+j)%3 != 0 {
				continue // every rule with some, the first ones with all
			}
			probes = append(probes, probe{method: "POST", target: "/v1/data/lab/" + rule + "?" + p, body: `{"input":{"user":"alice","n":3,"zero":0,"list":[2,3],"x":[1,{"y":2}]}}`})
		}
		probes = append(probes,
			probe{method: "GET", target: "/v1/data/lab/" + rule + "?explain=full"},
			probe{method: "GET", target: "/v1/data/lab/" + rule + "?pretty&explain=notes"},
			probe{method: "POST", target: "/v0/data/lab/" + rule + "?pretty&metrics&explain=full", body: `{"user":"carol"}`},
			probe{method: "POST", target: "/v1/data/lab/" + rule + "?explain=full", body: `{}`},
			probe{method: "POST", target: "/v1/data/lab/" + rule + "?pretty", body: ``},
		)
	}
	for _, input := range []string{
		"", "null", "{}", "%7B%22user%22%3A%22alice%22%7D", "%7Bfoo", "1%202", "1x", "%7B%7D%7B%7D", "%5B1%5D%5D", "%22s%22", "true", "+1+", "%00", "%FF", "%zz", "1,2", `{"user":"bob"}`, "%7B%22a%22%3A%22%C3%A9%22%7D", "1%20%7B", "1%20null", "1%20%22x%22", "1%20:", "%0A1%0A",
	} {
		probes = append(probes,
			probe{method: "GET", target: "/v1/data/lab/echo?input=" + input},
			probe{method: "GET", target: "/v1/data/lab/allow?input=1&input=" + input},
			probe{method: "GET", target: "/v1/data/lab/echo?pretty&metrics&input=" + input})
	}
	return probes
}

func methodProbes() (probes []probe) {
	targets := []string{"/", "/v1/data", "/v1/data/lab/allow", "/v1/data/lab/", "/v0/data", "/v0/data/lab/allow", "/v1/policies", "/v1/policies/lab.rego", "/v1/policies/nope", "/health", "/health/x", "/metrics/alloc_bytes/x", "/v1/status", "/nowhere", "/v1/data//x"}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE"} {
		for _, target := range targets {
			if method == "PUT" && target == "/v1/data" {
				continue // it would take the laboratory away
			}
			probes = append(probes, probe{method: method, target: target})
		}
	}
	return probes
}

func zip(text string) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return buf.String()
}

func gzipProbes() (probes []probe) {
	body := `{"input":{"user":"alice","n":60}}`
	for _, encoding := range []string{"gzip", "GZIP", "x-gzip", "gzip, deflate", "deflate", "identity", "br"} {
		probes = append(probes,
			probe{method: "POST", target: "/v1/data/lab/allow", body: body, headers: []string{"Content-Encoding: " + encoding}},
			probe{method: "POST", target: "/v1/data/lab/allow", body: zip(body), headers: []string{"Content-Encoding: " + encoding}},
			probe{method: "POST", target: "/v0/data/lab/echo", body: zip(`{"a":1}`), headers: []string{"Content-Encoding: " + encoding}},
			probe{method: "POST", target: "/v1/data/lab/allow", body: zip(body), headers: []string{"Content-Encoding: " + encoding}, chunked: true},
		)
	}
	probes = append(probes,
		probe{method: "POST", target: "/v1/data/lab/allow", body: zip(body) + zip("  "), headers: []string{"Content-Encoding: gzip"}},
		probe{method: "POST", target: "/v1/data/lab/allow", body: zip(""), headers: []string{"Content-Encoding: gzip"}},
		probe{method: "POST", target: "/v1/data/lab/allow", body: zip("input: {user: alice}"), headers: []string{"Content-Encoding: gzip", "Content-Type: application/yaml"}},
		probe{method: "PUT", target: "/v1/data/zipped", body: zip(`{"a":1}`), headers: []string{"Content-Encoding: gzip"}},
		probe{method: "PUT", target: "/v1/policies/zipped", body: zip("package z"), headers: []string{"Content-Encoding: gzip"}},
	)
	// Only where nothing panics in OPA: what is not gzip at all is left out.
	probes = slicesDelete(probes, func(p probe) bool {
		return len(p.headers) > 0 && strings.Contains(p.headers[0], "gzip") && p.body == body
	})
	for _, accept := range []string{"gzip", "GZIP", "*", "gzip;q=0", "gzip;q=0.5", "gzip;q=x", "deflate, gzip;q=1.0, *;q=0.5", "identity", "zstd", "gzip;level=1", "", "zstd, gzip", "x-gzip", "br;q=1.0, gzip ; q=0.8"} {
		for _, n := range []int{1, 40, 41, 42, 43, 44, 45, 60, 500} {
			probes = append(probes, probe{method: "POST", target: "/v1/data/lab/big", body: fmt.Sprintf(`{"input":{"n":%d}}`, n), headers: []string{"Accept-Encoding: " + accept}})
		}
		probes = append(probes,
			probe{method: "GET", target: "/v1/data/lab/big?input=%7B%22n%22:100%7D", headers: []string{"Accept-Encoding: " + accept}},
			probe{method: "POST", target: "/v0/data/lab/big", body: `{"n":100}`, headers: []string{"Accept-Encoding: " + accept}},
			probe{method: "POST", target: "/v1/data/lab/big?pretty", body: `{"input":{"n":100}}`, headers: []string{"Accept-Encoding: " + accept}},
			probe{method: "GET", target: "/v1/policies", headers: []string{"Accept-Encoding: " + accept}},
			probe{method: "POST", target: "/v1/data/lab/conflict?pretty", body: `{"input":1}`, headers: []string{"Accept-Encoding: " + accept}},
		)
	}
	return probes
}

func slicesDelete(probes []probe, drop func(probe) bool) []probe {
	kept := probes[:0]
	for _, p := range probes {
		if !drop(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

func v0Probes() []probe {
	return []probe{
		{method: "POST", target: "/", body: `{}`},
		{method: "POST", target: "/?pretty", body: `{"a":1}`},
		{method: "PUT", target: "/v1/policies/main", body: "package system\n\nmain := {\"got\": input} if input.x\n"},
		{method: "POST", target: "/", body: `{}`},
		{method: "POST", target: "/", body: `{"x":1}`},
		{method: "POST", target: "/?pretty", body: `{"x":{"y":[1,{}, []]}}`},
		{method: "POST", target: "/", body: ``},
		{method: "POST", target: "/", body: `{bad`},
		{method: "POST", target: "/", body: `x: 1`, headers: []string{"Content-Type: application/yaml"}},
		{method: "POST", target: "/", body: zip(`{"x":1}`), headers: []string{"Content-Encoding: gzip"}},
		{method: "POST", target: "/", body: `{"x":1}`, headers: []string{"Accept-Encoding: gzip"}},
		{method: "POST", target: "/v0/data", body: `{}`},
		{method: "POST", target: "/v0/data?pretty", body: `{}`},
		{method: "POST", target: "/v0/data/system", body: `{"x":2}`},
		{method: "GET", target: "/v1/data/system/main?input=%7B%22x%22%3A3%7D"},
		{method: "PUT", target: "/v1/policies/main", body: "package system\n\nmain := 1 / input.x\n"},
		{method: "POST", target: "/", body: `{"x":0}`},
		{method: "PUT", target: "/v1/policies/main", body: "package system\n\nmain := 1 if input\nmain := 2 if input\n"},
		{method: "POST", target: "/", body: `{"x":0}`},
	}
}

func healthProbes() []probe {
	return []probe{
		{method: "GET", target: "/health"},
		{method: "GET", target: "/health?bundle"},
		{method: "GET", target: "/health?bundles"},
		{method: "GET", target: "/health?bundles=true&plugins&exclude-plugin=x&exclude-plugin=y"},
		{method: "GET", target: "/health?pretty"},
		{method: "GET", target: "/health/live"},
		{method: "GET", target: "/health/a%22b"},
		{method: "GET", target: "/health/a%00b"},
		{method: "GET", target: "/health/a%20b"},
		{method: "GET", target: "/health/a/b-c/1/x"},
		{method: "PUT", target: "/v1/policies/h", body: "package system.health\n\nlive := true\n\nready if input.plugins_ready\n\nno := false\n\nn := 1\n\nundefd if input.x\n\nbad := 1 if true\nbad := 2 if true\n\nf(x) := x\n\nstate := input.plugin_state == {\"discovery\": \"OK\"}\n\ndeep[\"a/b\"] := true\n"},
		{method: "GET", target: "/health/live"},
		{method: "GET", target: "/health/live/"},
		{method: "GET", target: "/health/ready"},
		{method: "GET", target: "/health/no"},
		{method: "GET", target: "/health/n"},
		{method: "GET", target: "/health/undefd"},
		{method: "GET", target: "/health/bad"},
		{method: "GET", target: "/health/f"},
		{method: "GET", target: "/health/state"},
		{method: "GET", target: "/health/deep/a%2Fb"},
		{method: "GET", target: "/health/deep/a/b"},
		{method: "GET", target: "/health/live/x"},
		{method: "GET", target: "/health/nope?pretty"},
	}
}
