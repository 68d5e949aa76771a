package opa_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// generatedProbes is how many requests are made up.
const generatedProbes = 800

// TestSameAsOPAGenerated asks both servers the same made-up requests, reads and
// writes mixed, so that each meets what the ones before have left.
func TestSameAsOPAGenerated(t *testing.T) {
	servers := newPair(t)
	servers.reset(t)
	for _, q := range labSetup() {
		servers.same(t, q)
	}
	g := generator{rand.New(rand.NewPCG(1, 22))}
	for range generatedProbes {
		servers.same(t, g.probe())
		if t.Failed() {
			return // what follows would differ because of this
		}
	}
}

// generator makes up requests.
type generator struct{ *rand.Rand }

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) probe() probe {
	switch n := g.IntN(20); {
	case n < 8:
		return probe{method: "POST", target: g.target(), body: g.decisionBody(), headers: g.headers(), chunked: g.IntN(9) == 0}
	case n < 11:
		return probe{method: "GET", target: g.target(), headers: g.headers()}
	case n < 14:
		q := probe{method: "PUT", target: "/v1/data/w/" + g.path(), body: g.value(3)}
		if g.IntN(4) == 0 {
			q.headers = []string{"If-None-Match: *"}
		}
		return q
	case n < 16:
		return probe{method: "PATCH", target: "/v1/data/w/" + g.path(), body: g.patch()}
	case n < 17:
		return probe{method: "DELETE", target: "/v1/data/w/" + g.path()}
	case n < 18:
		return probe{method: "PUT", target: "/v1/policies/" + pick(g, "g1", "g2", "g3"), body: g.module()}
	case n < 19:
		return probe{method: pick(g, "DELETE", "GET"), target: "/v1/policies/" + pick(g, "g1", "g2", "g3", "lab.rego", "nope")}
	}
	return probe{method: pick(g, "GET", "POST", "HEAD", "OPTIONS", "PUT"), target: pick(g, "/health", "/health/"+g.path(), "/v1/data/"+g.path()+"/", "/v0/data//a/b?x=y", "/v1/"+g.path())}
}

func (g generator) target() string {
	path := pick(g, "lab/", "g/", "w/", "") + g.path()
	if g.IntN(3) == 0 {
		path = "lab/" + pick(g, "allow", "echo", "conflict", "set", "keys", "nums", "partial", "clash", "noted", "call", "big", "walked", "f")
	}
	query := ""
	for range g.IntN(3) {
		query += "&" + pick(g, "pretty", "pretty=false", "metrics", "provenance", "explain=notes", "explain=fails", "explain=debug", "strict-builtin-errors", "rule_labels", "instrument", "input=%7B%22user%22:%22alice%22%7D", "input=1", "input=%5B", "x=y")
	}
	return pick(g, "/v1/data/", "/v1/data/", "/v0/data/") + path + strings.Replace(query, "&", "?", 1)
}

// path is a path of segments that exist, may exist or are odd.
func (g generator) path() string {
	segments := make([]string, 1+g.IntN(4))
	for i := range segments {
		segments[i] = pick(g, "a", "b", "c", "0", "1", "x", "y", "rule", "a%2Fb", "a%20b", "%C3%A9", "-", "~", "a.b", "%22", "_", "if", "01", "-1", "A")
	}
	return strings.Join(segments, "/")
}

func (g generator) headers() (headers []string) {
	if g.IntN(5) == 0 {
		headers = append(headers, "Accept-Encoding: "+pick(g, "gzip", "gzip;q=0", "br, gzip", "identity"))
	}
	if g.IntN(6) == 0 {
		headers = append(headers, "Content-Type: "+pick(g, "application/json", "application/x-yaml", "text/plain"))
	}
	return headers
}

func (g generator) decisionBody() string {
	switch g.IntN(12) {
	case 0:
		return g.value(2)
	case 1:
		return `{"input":` + g.value(2)
	case 2:
		return ""
	case 3:
		return "input:\n  user: alice\n  n: " + pick(g, "1", "yes", "~", "[1, x]") + "\n"
	}
	return `{"input":` + pick(g, `{"user":"alice","n":40,"zero":0,"list":[2,3],"v":1}`, `{"user":"bob","n":2}`, g.value(3)) + `}`
}

// value is a JSON text, now and then one that is broken.
func (g generator) value(depth int) string {
	if depth > 0 && g.IntN(2) == 0 {
		parts := make([]string, g.IntN(4))
		if g.IntN(2) == 0 {
			for i := range parts {
				parts[i] = g.value(depth - 1)
			}
			return "[" + strings.Join(parts, ",") + "]"
		}
		for i := range parts {
			name, _ := json.Marshal(pick(g, "a", "b", "c", "0", "x", "y", "a/b", "a b", "é", "~", "", "user", "<k>", "n")) // a string
			parts[i] = string(name) + ":" + g.value(depth-1)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return pick(g, "null", "true", "false", "0", "1", "-1", "1.50", "1e2", "-0", "1E-7", "12345678901234567890123", `"s"`, `""`, `"<&>"`, `"\u00e9\ud83d\ude00"`, `"\ud800"`, `"a\/b\n"`, " 1 ", "@", "01", `"\x"`)
}

func (g generator) patch() string {
	ops := make([]string, 1+g.IntN(2))
	for i := range ops {
		ops[i] = fmt.Sprintf(`{"op":%q,"path":"/%s","value":%s}`, pick(g, "add", "add", "replace", "remove", "test"), strings.ReplaceAll(g.path(), "%22", "~1"), g.value(2))
	}
	return "[" + strings.Join(ops, ",") + "]"
}

// module is a policy below data.g, now and then one that does not compile. No
// name stands in two rules: which of them an error names first has no order.
func (g generator) module() string {
	rules := make([]string, 1+g.IntN(3))
	for i := range rules {
		name := string(rune('a' + i))
		rules[i] = pick(
			g,
			name+" := "+pick(g, "1", `"s"`, "input", "input.user", "data.w", "[x | some x in [1, 2]]", "{1, 2}", "1 / 0"),
			name+" if input.user == \"alice\"",
			name+" contains x if some x in "+pick(g, "input.list", "[3, 1]", "data.roles.bob"),
			name+"[k] := v if some k, v in "+pick(g, "input", `{"a": 1, "b": [2]}`),
			name+" := nosuch("+pick(g, "1", "input")+")",
			name+" := count("+pick(g, "1", "input", "[1]")+")",
			name+" if {",
			name+" if not undefined_var",
			"# METADATA\n# custom:\n#   team: x\n"+name+" := 2",
		)
	}
	return "package g\n\n" + strings.Join(rules, "\n\n") + "\n"
}
