package opa_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// shop is a policy for filters and partial evaluation.
const shop = `package shop

import rego.v1

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
#   mask_rule: masks
include if input.fruits.name == input.favorite

include if {
	input.fruits.price < 10
	startswith(input.fruits.name, "a")
}

masks.fruits.price.replace.value := "***" if not input.admin

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
either if input.fruits.colour in {"red", "green"}

either if not input.fruits.rotten

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits, input.owners]
joined if {
	input.fruits.owner == input.owners.id
	input.owners.name == input.user
}

# METADATA
# scope: document
# compile:
#   unknowns: [fruits.x]
faulty if input.fruits.name == "x"

default always := true

always if input.fruits.name

never if {
	input.fruits.name == "x"
	false
}

yes if true

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
untranslatable if sprintf("%v", [input.fruits.name]) == "x"

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
typo if input.fruit.name == "x"

conflicted := 1 if input.a

conflicted := 2 if input.a

multi contains x if {
	some x in input.fruits.list
}

helper(x) := y if y := x + input.n

uses_helper if helper(1) == 3

timed if time.now_ns() > 0
`

// TestQuestionsSameAsOPA compares what is asked without a path, and filters.
func TestQuestionsSameAsOPA(t *testing.T) {
	servers := newPair(t)
	for _, group := range []struct {
		name   string
		probes []probe
	}{
		{"query", queryProbes()},
		{"query bodies", questionBodyProbes("/v1/query")},
		{"partial", partialProbes()},
		{"partial bodies", questionBodyProbes("/v1/compile")},
		{"filters", filterProbes()},
		{"filter bodies", questionBodyProbes("/v1/compile/shop/include")},
		{"methods", questionMethodProbes()},
	} {
		t.Run(group.name, func(t *testing.T) {
			servers.reset(t)
			setup := append(labSetup(), probe{method: "PUT", target: "/v1/policies/shop.rego", body: shop})
			for _, q := range setup {
				if a, err := servers.verdict.send(q); err != nil || a.status/100 != 2 {
					t.Fatalf("%v: %v, %d %s", q, err, a.status, a.body)
				}
			}
			for _, q := range append(setup, group.probes...) {
				servers.same(t, q)
			}
		})
	}
}

// queries are texts of ad-hoc queries.
func queries() []string {
	return []string{
		`x = 1`, `x = 1; y = 2`, `x := 1`, `1 == 2`, `1 == 1`, `1 = 2`, `true`, `false`, `null`, `1`, `"a"`, `[]`, `{}`,
		`1 == 2; true`, `true; false`, `not false`, `not true`, `x = 1; not x = 2`, `_ = 1`, `[x, _] = [1, 2]`,
		`data.roles`, `data.roles.bob`, `data.roles[x]`, `data.roles[_]`, `data.roles[x][_] = y`, `data.nosuch`,
		`data.no`, `data.nothing`, `data.scalar`, `data.arr[i] = v`, `data.arr[_]`, `x = data.arr`, `data.lab.set[x]`,
		`data.lab.set`, `x = data.lab.set`, `x = data.lab.keys`, `x = data.lab.nums`, `data.lab.f(1)`, `data.lab.f(1, x)`, `x = data.lab.f(1)`,
		`data.lab.conflict`, `data.lab.undefd`, `data.lab.bad_builtin`, `data.lab.allow`, `x = data.lab.allow`,
		`plus(1, 2)`, `plus(1, 2, x)`, `plus(1, 2, 3)`, `neq(1, 2)`, `1 < 2`, `2 < 1`, `2 < 1; true`, `count([1, 2])`, `count([1, 2]) > 3`,
		`walk([1, [2]], [p, v])`, `walk({"a": 1})`, `walk([1], x)`, `numbers.range(1, 3)`, `x = numbers.range(1, 3)[_]`,
		`some x in [1, 2]`, `some i, x in ["a", "b"]`, `x in [1]`, `1 in [1]`, `3 in [1]`, `every x in [1, 2] { x > 0 }`, `every x in [1, 2] { x > 1 }`,
		`x = [y | y = data.arr[_]]`, `x = {y | y = data.arr[_]}`, `x = {k: v | v = data.arr[k]}`, `[y | y = data.arr[_]]`,
		`x = 1/0`, `1/0`, `to_number("x")`, `x = to_number("x")`, `x = "<&>\u2028"`, `x = {3, 1, 2}`, `x = {1: {2}}`, `x = 1e2`, `x = 12345678901234567890123`,
		`input`, `input.x`, `x = input`, `x = y`, `x`, `x > 1`, `f(1)`, `data.`, `x = `, `{`, ``, ` `, `# comment`, `package x`, `import data.x`,
		`http.send({"method": "get", "url": "http://x"}, x)`, `x = http.send({})`, `x := [http.send({})]`, `nosuch(1)`, `data.lab.nosuch(1)`,
		`data.lab.f`, `x = data.lab`, `trace("a note")`, `print("x")`, `x = opa.runtime().nosuch`, `x := 1; x := 2`, `x = 1 with input as 2`,
		`data.lab.allow with input as {"user": "alice"}`, `data.lab.allow with input.user as "alice"; x = 1`, `x = data.lab.echo with input as {"a": 1}`,
		`data.roles[x][_] = "admin"; x = "bob"`, `x = [1, 2][_]; y = [3, 4][_]`, `x = {"a": 1}.a`, `[1, 2][1]`, `{"a": {"b": 1}}.a.b`, `"abc" == "abc"; x = concat(",", ["a"])`,
		`startswith("abc", "a")`, `startswith("abc", "b")`, `startswith("abc", "b"); x = 1`, `regex.match("(", "a")`, `object.get({"a": 1}, "a", 2)`, `x = object.get({"a": 1}, "b", 2)`,
		`a = 1; b = a; c = b`, `data[x].lab`, `data.lab[x] = true`, `x = sprintf("%d", [1])`, `__local0__ = 1`, `$x = 1`, `_x = 1`, `x_ = 1`,
		`data.annotated`, `x = time.parse_ns("2006", "2020")`, `x = io.jwt.decode("a")`, `data["roles"]["a/b"]`, "x = `raw`", `x = "é"`, `"unterminated`,
	}
}

func queryProbes() []probe {
	var probes []probe
	for _, q := range queries() {
		probes = append(probes, probe{method: "GET", target: "/v1/query?q=" + url.QueryEscape(q)})
		body, _ := json.Marshal(map[string]any{"query": q, "input": map[string]any{"x": 1, "user": "alice"}}) // texts
		probes = append(probes, probe{method: "POST", target: "/v1/query", body: string(body)})
	}
	for _, q := range []string{`x = 1`, `data.roles[x]`, `data.lab.allow`, `1 == 2`, `data.nosuch`, `data.lab.noted`, `x = data.lab.set[_]; count([x]) == 1`, `not data.lab.allow`, `startswith("ab", "a")`} {
		for _, p := range []string{
			"explain=full", "explain=notes", "explain=fails", "explain=debug", "explain=off", "explain=nosuch", "pretty", "pretty=true&explain=full",
			"metrics", "metrics&instrument", "instrument", "rule_labels", "pretty=false", "provenance",
		} {
			probes = append(probes, probe{method: "GET", target: "/v1/query?" + p + "&q=" + url.QueryEscape(q)})
			body, _ := json.Marshal(map[string]any{"query": q, "input": map[string]any{"user": "alice"}}) // texts
			probes = append(probes, probe{method: "POST", target: "/v1/query?" + p, body: string(body)})
		}
	}
	return append(
		probes,
		probe{method: "GET", target: "/v1/query"}, probe{method: "GET", target: "/v1/query?q"}, probe{method: "GET", target: "/v1/query?q="},
		probe{method: "GET", target: "/v1/query?q=x%3D1&q=x%3D2"}, probe{method: "GET", target: "/v1/query?Q=x%3D1"},
		probe{method: "GET", target: "/v1/query?q=x%3D%zz"}, probe{method: "GET", target: "/v1/query?q=x%3D1;y%3D2"},
	)
}

// questionBodyProbes are bodies of every form and fault.
func questionBodyProbes(target string) []probe {
	var probes []probe
	for _, body := range []string{
		``, ` `, `null`, `[]`, `1`, `"x"`, `true`, `{}`, `{`, `{"query"`, `{"query":1}`, `{"query":null}`, `{"query":"x = 1"`, `{"query":"x = 1"} trailing`,
		`{"QUERY":"x = 1"}`, `{"query":"x = input","input":null}`, `{"query":"x = input","input":[1,{"a":2}]}`, `{"query":"x = input.n","input":{"n":12345678901234567890123}}`,
		`{"query":"input.x = 1","unknowns":["input"]}`, `{"query":"input.x = 1","unknowns":"input"}`, `{"query":"input.x = 1","unknowns":[1]}`, `{"query":"input.x = 1","unknowns":[]}`,
		`{"query":"input.x = 1","unknowns":null}`, `{"query":"input.x = 1","unknowns":["input.x","data.y"]}`, `{"query":"input.x = 1","unknowns":["("]}`, `{"query":"input.x = 1","unknowns":[""]}`, `{"query":"input.x = 1","unknowns":["x"]}`,
		`{"query":"input.x = 1","options":null}`, `{"query":"input.x = 1","options":[]}`, `{"query":"input.x = 1","options":{"disableInlining":["data.lab.allow"]}}`, `{"query":"input.x = 1","options":{"disableInlining":"x"}}`,
		`{"query":"input.x = 1","options":{"disableInlining":["("]}}`, `{"query":"input.x = 1","options":{"nondeterministicBuiltins":1}}`, `{"query":"x = 1","other":{"a":1}}`, `{"query":"x = 1","input":{"a":1},"input":{"b":1}}`,
		"query: x = 1\n", `{"query":"x = \u0000"}`, `{"query":"x = \"\ud800\""}`, "{\"query\":\"x = \xff\"}",
	} {
		for _, h := range [][]string{nil, {"Accept: application/vnd.opa.sql.postgresql+json"}} {
			if h != nil && !strings.Contains(target, "shop") {
				continue
			}
			probes = append(probes, probe{method: "POST", target: target, body: body, headers: h})
		}
	}
	gz := probe{method: "POST", target: target, body: zip(`{"query":"input.x = 1","unknowns":["input"]}`), headers: []string{"Content-Encoding: gzip", "Accept: application/vnd.opa.ucast.all+json"}}
	chunked := gz
	chunked.chunked = true
	return append(probes, gz, chunked,
		probe{method: "POST", target: target, chunked: true, body: `{"query":"input.x = 1"}`, headers: []string{"Accept: application/vnd.opa.ucast.all+json"}},
		probe{method: "POST", target: target, body: "query: x = 1\n", headers: []string{"Content-Type: application/yaml"}})
}

func partialProbes() []probe {
	var probes []probe
	ask := func(params string, body map[string]any) {
		text, _ := json.Marshal(body) // texts and lists
		probes = append(probes, probe{method: "POST", target: "/v1/compile" + params, body: string(text)})
	}
	input := map[string]any{"favorite": "apple", "user": "alice", "n": 2}
	for _, q := range append(queries(),
		"data.shop.include", "data.shop.include == true", "data.shop.either", "data.shop.joined", "data.shop.always", "data.shop.never", "data.shop.yes == true",
		"data.shop.multi[x]", "data.shop.multi", "data.shop.helper(1, x)", "data.shop.uses_helper", "data.shop.timed", "data.shop.conflicted = x", "data.shop", "data.lab.every_one", "data.lab.walked = x",
	) {
		ask("", map[string]any{"query": q})
		ask("", map[string]any{"query": q, "input": input, "unknowns": []string{"input.fruits", "data.roles"}})
	}
	for _, o := range []map[string]any{
		{"disableInlining": []string{"data.shop.include"}}, {"disableInlining": []string{"data.shop"}}, {"nondeterministicBuiltins": true},
	} {
		for _, q := range []string{"data.shop.include == true", "data.shop.timed", "data.shop.either"} {
			ask("", map[string]any{"query": q, "input": input, "unknowns": []string{"input.fruits"}, "options": o})
		}
	}
	for _, p := range []string{"?pretty", "?metrics", "?instrument", "?metrics&pretty", "?explain=full", "?explain=notes", "?explain=fails", "?explain=debug&pretty"} {
		ask(p, map[string]any{"query": "data.shop.include == true", "input": input, "unknowns": []string{"input.fruits"}})
		ask(p, map[string]any{"query": "data.shop.never", "input": input, "unknowns": []string{"input.fruits"}})
	}
	return probes
}

func filterProbes() []probe {
	var probes []probe
	ask := func(path, accept, body string) {
		probes = append(probes, probe{method: "POST", target: "/v1/compile/" + path, body: body, headers: []string{"Accept: " + accept}})
	}
	const vnd = "application/vnd.opa."
	accepts := []string{
		vnd + "sql.postgresql+json", vnd + "sql.mysql+json", vnd + "sql.sqlserver+json", vnd + "sql.sqlite+json",
		vnd + "ucast.all+json", vnd + "ucast.minimal+json", vnd + "ucast.linq+json", vnd + "ucast.prisma+json", "application/json",
	}
	input := `"input":{"favorite":"pine'apple","user":"alice","admin":true,"n":2}`
	for _, rule := range []string{
		"include", "either", "joined", "faulty", "always", "never", "yes", "untranslatable", "typo", "conflicted", "multi", "helper", "uses_helper", "timed", "nosuch", "masks",
	} {
		for _, accept := range accepts {
			ask("shop/"+rule, accept, "{"+input+"}")
		}
		ask("shop/"+rule, accepts[0], "")
		ask("shop/"+rule, accepts[4], "{"+input+`,"unknowns":["input.fruits","input.owners"]}`)
	}
	for _, rest := range []string{
		`"unknowns":["input.fruits"],"options":{"maskRule":"masks"}`, `"options":{"maskRule":"data.shop.masks"}`, `"options":{"maskRule":"nosuch"}`,
		`"options":{"maskRule":1}`, `"options":{"targetSQLTableMappings":{"fruits":{"$self":"f","name":"n"}}}`, `"options":{"targetSQLTableMappings":{"sql":{"fruits":{"$self":"f"}}}}`,
		`"options":{"targetSQLTableMappings":{"postgresql":{"fruits":{"$self":"f","price":"p"}}}}`, `"options":{"targetSQLTableMappings":{"fruits":{"name":1}}}`,
		`"options":{"targetSQLTableMappings":{"sql":1}}`, `"options":{"targetSQLTableMappings":[]}`, `"options":{"disableInlining":["data.shop.include"]}`, `"options":{"disableInlining":["("]}`,
		`"options":{"disableInlining":[""]}`, `"options":{"disableInlining":["1"]}`, `"options":{"disableInlining":["a b"]}`,
		`"unknowns":[]`, `"unknowns":["input"]`, `"unknowns":["("]`, `"unknowns":["data.roles"]`, `"extra":{"a":1}`, `"query":"data.shop.yes"`,
	} {
		ask("shop/include", accepts[0], "{"+input+","+rest+"}")
		ask("shop/include", accepts[4], "{"+input+","+rest+"}")
	}
	for _, dialects := range []string{
		`["sql+postgresql","sql+mysql","sql+sqlserver","sql+sqlite","ucast+all"]`, `["ucast+minimal","ucast+prisma"]`, `[]`, `["sql+nosuch"]`, `["nosuch+all"]`, `["sql+"]`, `["sql+postgresql+more"]`, `null`, `"x"`,
	} {
		for _, rule := range []string{"include", "never", "yes"} {
			ask("shop/"+rule, vnd+"multitarget+json", fmt.Sprintf(`{%s,"options":{"targetDialects":%s}}`, input, dialects))
		}
	}
	for _, accept := range []string{"", "*/*", "text/html", "application/json, text/html", vnd + "sql.oracle+json", vnd + "SQL.postgresql+json", vnd + "sql.postgresql+json;q=1"} {
		ask("shop/include", accept, "{"+input+"}")
	}
	for _, path := range []string{"shop", "shop/", "/shop/include", "shop%2Finclude", "shop/%22", "no/such", "lab/conflict", "lab/set", "roles", ""} {
		ask(path, accepts[0], "{"+input+"}")
	}
	for _, params := range []string{"?pretty", "?metrics", "?instrument", "?explain=full", "?metrics=true&pretty=true"} {
		ask("shop/include"+params, accepts[0], "{"+input+"}")
	}
	return append(probes,
		probe{method: "GET", target: "/v1/compile/shop/include", headers: []string{"Accept: " + accepts[0]}},
		probe{method: "GET", target: "/v1/compile/shop/include", body: "{" + input + "}", headers: []string{"Accept: " + accepts[0]}},
		probe{method: "POST", target: "/v1/compile/shop/include", body: "{" + input + "}"},
		probe{method: "POST", target: "/v1/compile/shop/include", body: `{"input":{"favorite":"` + strings.Repeat("long ", 300) + `"}}`, headers: []string{"Accept: " + accepts[0], "Accept-Encoding: gzip"}},
	)
}

func questionMethodProbes() []probe {
	var probes []probe
	for _, target := range []string{
		"/v1/query", "/v1/query/x", "/v1/query/", "/v1/compile", "/v1/compile/", "/v1/compile/shop/include", "/v1/compile/shop/include/", "/v1/config/x", "/v1/config/", "/v1/querys", "/v1/compiled",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
			if target == "/v1/compile" && (method == "GET" || method == "HEAD") {
				continue // OPA redirects it to and fro
			}
			probes = append(probes, probe{method: method, target: target, body: ``})
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
		probes = append(probes, probe{method: method, target: "/v1/config"})
	}
	return probes
}
