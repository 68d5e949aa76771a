package opa_test

import (
	"fmt"
	"strings"
)

func policyProbes() (probes []probe) {
	modules := []string{
		"", " ", "\n", "# only a comment\n", "package", "package a", "package a.b[\"c d\"]\n\nx := 1", "package a\n\nx := ", "package a\n\nx = 1 { true }",
		"package a.b.c\n\np ;- true\n", "package a\n\np if q\nq if p\n", "package a\n\np := count(1)\n", "package a\n\np := nosuch(1)\n", "package a\n\np := x\n",
		"package a\n\np if { not y }", "package a\n\np { true }\n", "import rego.v1\npackage a", "package a\nimport rego.v1\np := 1", "package a\nimport future.keywords\np if 1 == 1",
		"package a\n\nimport data.nothing\n\np := nothing.x", "package a\n\nimport data.b\nimport data.b\np := b", "package a\n\np := 1\np := 2\n", "package a\n\ndefault p := 1\ndefault p := 2\n",
		"package a\n\np := 1\n\np(x) := x", "package a\n\nf(x) := x\n\np := f(1, 2)", "package a\n\np := input.x + \"s\"", "package a\n\np contains x if { some x in [1] }", "package a\np[x] := 1 if x := 2",
		"package a\n\np := \"\\x\"", "package a\n\np := \"unterminated", "package a\n\np := [1,", "package a\n\np := {\"a\": 1,, }", "package a\n\np if input.x == input.y; z := 1; z == 2",
		"package lab\n\nextra := 1", "package lab\n\nallow := 3", "package roles.bob\n\nx := 1", "package arr\n\nx := 1", "package scalar\nx := 1", "package roles\n\nbob := 1", "package roles\n\nnew_rule := 1",
		"package data", "package input", "package system.authz\n\ndefault allow := true", "package a\n\np if http.send({\"method\":\"get\",\"url\":\"http://127.0.0.1:1\"})",
		"# METADATA\n# title: T\n# scope: package\npackage a\n\n# METADATA\n# description: d\np := 1\n", "# METADATA\n# bogus: [\npackage a\n\np := 1\n", "# METADATA\n# title: [unclosed\npackage a\n",
		"package a\n\np := data.other.x\n\nq := data.a.p", "package a\n\nwith_it if data.lab.allow with input as {\"user\": \"alice\"}", "package a\n\np := x if { some x; x = input.y[_] }", "package é\n\nx := 1", "package a\n\nx := \"é😀\"",
		"package a\n\np contains 1\n\np := 2", "package a\n\na := 1\nb := 2\nc := x1\nd := x2\ne := x3\nf := x4\ng := x5\nh := x6\ni := x7\nj := x8\nk := x9\nl := x10\nm := x11\nn := x12\n", "package a\n\nimport rego.v2\n", "package a\n\nimport foo.bar\n", "package a\n\np := {x | x := 1; y}",
		"package a\n\nelse_rule := 1 if input.a else := 2 if input.b else := 3", "package a\n\np if every x in [1] { x == 1 }", "package a\n\ninput := 1", "package a\n\ndata := 1", "package a\np := `raw`", "package a\r\n\r\np := 1\r\n", "\ufeffpackage a\np := 1", "package a\x00", "package a\n\np := \xff",
		"package a\n\ntype_err := 1 if { x := \"a\"; x == 1 }", "package a\n\np := print(1)", "package a\n\np if print(\"x\")", "package a\n\nx.y.z := 1\n\nx[\"y\"].w := 2\n\nx.y := 3", "package test_x\n\ntest_p if false", "package a\n\np := [1, 2][5]", "package a\n\n_ := 1",
	}
	for i, m := range modules {
		id := fmt.Sprintf("/v1/policies/m%d", i%3)
		probes = append(probes,
			probe{method: "PUT", target: id + "?pretty", body: m},
			probe{method: "GET", target: id},
			probe{method: "POST", target: "/v1/data/a", body: `{"input":{"a":1}}`},
			probe{method: "DELETE", target: id},
		)
	}
	ids := []string{"x", "a/b", "a//b", "a/../b", "a%2Fb", "a%20b", "a+b", "%C3%A9", "a%00b", "a%22b", "..", "a.rego", "A", "a/", "%2F", "%2Fx", "x%2F", "a?b", "100%25", "-", "_"}
	for _, id := range ids {
		probes = append(probes,
			probe{method: "PUT", target: "/v1/policies/" + id, body: "package ids\n\nx := 1\n"},
			probe{method: "GET", target: "/v1/policies/" + id},
			probe{method: "GET", target: "/v1/policies/" + id + "?pretty"},
			probe{method: "PUT", target: "/v1/policies/" + id, body: "package ids\n\nx := \n"},
			probe{method: "GET", target: "/v1/policies"},
			probe{method: "DELETE", target: "/v1/policies/" + id},
			probe{method: "DELETE", target: "/v1/policies/" + id},
		)
	}
	return append(probes,
		probe{method: "GET", target: "/v1/policies"},
		probe{method: "GET", target: "/v1/policies?pretty=true"},
		probe{method: "GET", target: "/v1/policies/lab.rego"},
		probe{method: "GET", target: "/v1/policies/lab.rego?pretty&metrics"},
		probe{method: "PUT", target: "/v1/policies/lab.rego?metrics", body: lab},
		probe{method: "PUT", target: "/v1/policies/lab.rego?metrics&pretty", body: lab + "\n"},
		probe{method: "PUT", target: "/v1/policies/n1?metrics", body: "package n1\n\nx := 1"},
		probe{method: "PUT", target: "/v1/policies/fn", body: "package fn\n\nf(x) := x * 2\n"},
		probe{method: "PUT", target: "/v1/policies/user", body: "package user\n\nimport data.fn\n\nx := fn.f(2)\n"},
		probe{method: "DELETE", target: "/v1/policies/fn"},
		probe{method: "DELETE", target: "/v1/policies/fn?pretty&metrics"},
		probe{method: "POST", target: "/v1/data/user/x", body: `{"input":{}}`},
		probe{method: "DELETE", target: "/v1/policies/user?metrics&pretty"},
		probe{method: "DELETE", target: "/v1/policies/fn?metrics"},
		probe{method: "DELETE", target: "/v1/policies/nope?pretty"},
		probe{method: "GET", target: "/v1/policies/nope?pretty"},
		probe{method: "PUT", target: "/v1/policies/chunky", body: "package chunky\n\nx := 1\n", chunked: true},
		probe{method: "GET", target: "/v1/policies/chunky"},
	)
}

func dataProbes() (probes []probe) {
	targets := []string{"", "/w", "/w/x", "/w/x/y", "/w//x", "/w/", "/roles/bob", "/roles/bob/0", "/roles/bob/5", "/roles/bob/-", "/arr/0", "/arr/1/0", "/arr/6", "/arr/9", "/arr/-", "/arr/-1", "/arr/x", "/arr/0/x", "/arr/2/new", "/arr/2/new/deep", "/arr/9/x", "/arr/-/x", "/scalar/x", "/scalar/x/y", "/nothing/x", "/no/x/y", "/w%2Fx", "/w%20x/%C3%A9", "/w~1x", "/%00", "/a%22b", "/lab", "/lab/allow", "/lab/new", "/lab/new/deep", "/other", "/system", "/system/x", "/1", "/1/2", "/w/0/1"}
	bodies := []string{`{"a":1}`, `1`, `null`, `"x"`, `[1,2]`, ``, `{bad`, `{"a":1} trailing`, `{"a":1,"a":2}`, `12345678901234567890123`, `1.50`}
	for i, target := range targets {
		for j, body := range bodies {
			if target == "" && body == `{"a":1}` {
				continue
			}
			if (i+j)%2 == 1 {
				probes = append(probes, probe{method: "PUT", target: "/v1/data" + target, body: body, headers: []string{"If-None-Match: *"}})
			}
			probes = append(probes,
				probe{method: "PUT", target: "/v1/data" + target, body: body},
				probe{method: "GET", target: "/v1/data" + target})
		}
		probes = append(probes,
			probe{method: "PUT", target: "/v1/data" + target + "?metrics&pretty", body: `{"m":1}`, headers: []string{`If-None-Match: "etag"`}},
			probe{method: "GET", target: "/v1/data/w?pretty"},
			probe{method: "DELETE", target: "/v1/data" + target},
			probe{method: "DELETE", target: "/v1/data" + target + "?metrics"},
			probe{method: "GET", target: "/v1/data/arr"},
		)
		if strings.HasPrefix(target, "/arr") || target == "" {
			probes = append(probes, labSetup()...)
		}
	}
	return append(probes, probe{method: "GET", target: "/v1/data?pretty"}, probe{method: "PUT", target: "/v1/data", body: `{"lab":{"allow":1}}`}, probe{method: "PUT", target: "/v1/data", body: `{"z":{}}`}, probe{method: "GET", target: "/v1/data/z"})
}

func patchProbes() (probes []probe) {
	paths := []string{"", "/", "/k", "k", "/k/l", "/arr/0", "/arr/1", "/arr/-", "/arr/9", "/arr/x", "/arr/-1", "/arr/3", "/obj/x", "/obj/x~1y", "/obj/x~0y", "/obj/x~01", "/obj/x%2Fy", "/obj/%zz", "/obj/", "//obj//x", "/nope/x", "/obj/\u00e9", "/s/x", "/obj/a/b", "/arr/1/in", "/arr/00", "/obj/~", "/obj/~2"}
	for _, base := range []string{"/p", ""} {
		for _, op := range []string{"add", "remove", "replace"} {
			for _, path := range paths {
				full := path
				if base == "" {
					full = "/p/" + strings.TrimPrefix(path, "/")
				}
				probes = append(probes,
					probe{method: "PUT", target: "/v1/data/p", body: `{"arr":[1,{"in":2},3],"obj":{"x":1,"a":{"b":2}},"s":"str"}`},
					probe{method: "PATCH", target: "/v1/data" + base, body: fmt.Sprintf(`[{"op":%q,"path":%q,"value":{"new":[1]}}]`, op, full)},
					probe{method: "GET", target: "/v1/data/p"},
				)
			}
		}
	}
	bodies := []string{
		``, ` `, `null`, `{}`, `[]`, `"x"`, `1`, `[1]`, `[null]`, `[{}]`, `[{"op":"add"}]`, `[{"op":"test","path":"/a","value":1}]`, `[{"op":"move","from":"/a","path":"/b"}]`, `[{"op":"copy"}]`, `[{"op":"ADD","path":"/a"}]`, `[{"op":"","path":"/a"}]`, `[{"OP":"add","PATH":"/up","VALUE":3}]`,
		`[{"op":1,"path":"/a"}]`, `[{"op":"add","path":1}]`, `[{"op":"add","path":["a"]}]`, `[{"op":"add","path":null,"value":{}}]`, `[{"op":"add","path":"/n"}]`, `[{"op":"add","path":"/n","value":null}]`, `[{"op":"add","path":"/n","value":12345678901234567890123}]`, `[{"op":"add","path":"/n","value":1.50,"extra":true}]`,
		`[{"op":"add","path":"/n","value":1},{"op":"add","path":"/n/x","value":1}]`, `[{"op":"add","path":"/n","value":{}},{"op":"add","path":"/n/x","value":1},{"op":"remove","path":"/n/x"}]`, `[{"op":"add","path":"/n","value":1}`, `[{"op":"add","path":"/n","value":1}]]`, `[{"op":"add","path":"/n","value":@}]`, `[{"op":"add","path":"/n","value":1}] x`, `[{"op":"add","op":"remove","path":"/s"}]`,
		`[{"op":"add","path":"/deep","value":{"a":[{"b":"<&>\u00e9"}]}},{"op":"replace","path":"/deep/a/0/b","value":"z"}]`, `[{"op":"remove","path":"/"}]`, `[{"op":"replace","path":"","value":5}]`, `[{"op":"add","path":"/","value":{"whole":1}}]`,
	}
	for _, body := range bodies {
		for _, target := range []string{"/v1/data/p", "/v1/data/p/obj", "/v1/data/nope", "/v1/data/p?metrics", "/v1/data/p/arr/1", "/v1/data/lab"} {
			probes = append(probes,
				probe{method: "PUT", target: "/v1/data/p", body: `{"arr":[1,{"in":2},3],"obj":{"x":1},"s":"str"}`},
				probe{method: "PATCH", target: target, body: body},
				probe{method: "GET", target: "/v1/data/p"},
			)
		}
	}
	return append(probes,
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"add","path":"/","value":[1]}]`},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"remove","path":"/"}]`},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"add","path":"/lab/allow","value":1}]`},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"add","path":"/lab/base","value":1}]`},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"add","path":"/lab","value":{"allow":{}}}]`},
		probe{method: "GET", target: "/v1/data/lab/truth"},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"replace","path":"/","value":{"fresh":true}}]`},
		probe{method: "GET", target: "/v1/data/fresh"},
		probe{method: "PATCH", target: "/v1/data/a%2Fb", body: `[{"op":"add","path":"","value":{}}]`},
		probe{method: "PATCH", target: "/v1/data/", body: `[]`},
		probe{method: "PATCH", target: "/v1/data", body: `[{"op":"add","path":"/chunk","value":1}]`, chunked: true},
		probe{method: "GET", target: "/v1/data/chunk"},
	)
}

func conflictProbes() []probe {
	return []probe{
		{method: "PUT", target: "/v1/policies/c1", body: "package base.virt\n\np := 1\n\nq[\"k\"] := 2\n\nr contains 1\n\nx.y.z := 1\n"},
		{method: "PUT", target: "/v1/data/base", body: `{"other":1}`},
		{method: "PUT", target: "/v1/data/base", body: `{"virt":{"p":1}}`},
		{method: "PUT", target: "/v1/data/base", body: `{"virt":{"ok":1}}`},
		{method: "PUT", target: "/v1/data/base/virt", body: `{"q":{"z":1}}`},
		{method: "PUT", target: "/v1/data/base/virt", body: `1`},
		{method: "PUT", target: "/v1/data/base/virt/p/x", body: `1`},
		{method: "PUT", target: "/v1/data/base/virt/x", body: `{"y":{"other":1}}`},
		{method: "PUT", target: "/v1/data/base/virt/x", body: `{"y":1}`},
		{method: "GET", target: "/v1/data/base"},
		{method: "GET", target: "/v1/data/base/virt/x"},
		{method: "PUT", target: "/v1/policies/c2", body: "package base\n\nother := 2\n"},
		{method: "PUT", target: "/v1/policies/c2", body: "package base.virt\n\np := 2\n"},
		{method: "GET", target: "/v1/data/base/virt"},
		{method: "POST", target: "/v1/data/base/virt/p", body: `{"input":1}`},
		{method: "POST", target: "/v0/data/base/virt/p", body: `1`},
		{method: "POST", target: "/v1/data/base?explain=fails", body: `{"input":1}`},
		{method: "GET", target: "/v1/data/base/virt/p?strict-builtin-errors&metrics"},
		{method: "DELETE", target: "/v1/policies/c2"},
		{method: "DELETE", target: "/v1/data/base/virt/ok"},
		{method: "DELETE", target: "/v1/data/base/virt"},
		{method: "GET", target: "/v1/data/base"},
		{method: "DELETE", target: "/v1/data/lab/truth"},
		{method: "PUT", target: "/v1/policies/c3", body: "package str\n\ns := sprintf(\"%v\", [data.arr])\n\nn := data.arr[3] + 1\n\nm := 9223372036854775807 + 1\n\nd := 10 / 4\n\ne := 1e3\n\nr := round(2.5)\n\ng := 0.1 + 0.2\n\nj := json.marshal({\"a\": 1.50, \"b\": data.arr})\n\nu := yaml.marshal({\"a\": [1]})\n\nt := time.parse_rfc3339_ns(\"2020-01-01T00:00:00Z\")\n\nx := {\"é\": 1, \"a\": {1, 2}}\n\nz := object.union({\"a\": 1}, {1: 2})\n\nmany := {x: y | x := numbers.range(1, 15)[_]; y := x * 1.5}\n"},
		{method: "POST", target: "/v1/data/str", body: `{"input":{}}`},
		{method: "POST", target: "/v1/data/str?pretty", body: `{"input":{}}`},
		{method: "POST", target: "/v0/data/str", body: `{}`},
		{method: "GET", target: "/v1/policies/c3"},
	}
}
