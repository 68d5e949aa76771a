package eval_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// checkEncode compares AppendJSON with encoding/json.
func checkEncode(t *testing.T, v ast.Value) {
	t.Helper()
	var want []byte
	x, wantErr := ast.JSON(v)
	if wantErr == nil {
		want, wantErr = json.Marshal(x)
	}
	got, err := eval.AppendJSON([]byte("head "), v)
	switch {
	case (err != nil) != (wantErr != nil):
		t.Fatalf("error %v, encoding/json: %v", err, wantErr)
	case err != nil:
		if string(got) != "head " {
			t.Fatalf("after %v: %q", err, got)
		}
	case string(got) != "head "+string(want):
		t.Fatalf("got  %s\nwant head %s", got, want)
	}
}

func TestAppendJSON(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `-1.50e+3`, `[]`, `{}`, `set()`, `[1, "a", [{}]]`, `{"b": 1, "a": {"d": [], "c": null}}`,
		`{3, 1, 2, "a", [1]}`, `{1: "n", "1": "s"}`, `{"x": 1, 2: 2, null: 3, true: 4, [1, "<"]: 5, {"k": {1, 2}}: 6, {3, 2}: 7}`,
		`{"a": {1: {"b": {2: 3}}}, "b": 2}`, `{"10": 1, "9": 2, "Z": 3, "é": 4, "": 5}`,
		`x`, `[x]`, `{"a": data.x}`, `{x: 1}`, `[y | y = 1]`,
	} {
		t.Run(text, func(t *testing.T) { checkEncode(t, ast.MustParseTerm(text).Value) })
	}
	for _, n := range []string{"", "0", "-0", "01", "+1", "1.", ".1", "1e", "1e+", "1e5", "1E-5", "-", "NaN", "+Inf", "1 ", "0x1", "--1", "1.5.1"} {
		t.Run("number "+n, func(t *testing.T) { checkEncode(t, ast.Number(n)) })
	}
	for c := range 0x180 {
		checkEncode(t, ast.String("a"+string(rune(c))+"b"))
		checkEncode(t, ast.String([]byte{byte(c), 'x', byte(c)}))
	}
	checkEncode(t, ast.String("\u2027\u2028\u2029\u202a\ufffd\xed\xa0\x80\xe2\x80"))
}

func TestAppendJSONDepth(t *testing.T) {
	v := ast.ArrayTerm()
	for range 10_001 {
		v = ast.ArrayTerm(v)
	}
	if got, err := eval.AppendJSON(nil, v.Value); err != eval.ErrTooDeep || got != nil {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestAppendMasked(t *testing.T) {
	v := ast.MustParseTerm(`{"user": {"password": "x", "name": "n", "token": {"a": [1]}},
		"list": [{"token": null}, {"a/b~c": {"token": 1}}], "set": {{"token": 2}}, 1: {"password": 3}, [1]: 1}`).Value
	secret := func(key string) bool { return key == "password" || key == "token" }
	var hits []string
	got, err := eval.AppendMasked(nil, v, secret, func(p string) { hits = append(hits, p) })
	if err != nil {
		t.Fatal(err)
	}
	want := `{"1":{"password":"***"},"[1]":1,"list":[{"token":"***"},{"a/b~c":{"token":"***"}}],"set":[{"token":"***"}],"user":{"name":"n","password":"***","token":"***"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	slices.Sort(hits)
	wantHits := []string{"/1/password", "/list/0/token", "/list/1/a~1b~0c/token", "/set/0/token", "/user/password", "/user/token"}
	if !slices.Equal(hits, wantHits) {
		t.Errorf("hits %q", hits)
	}
	if got2, err := eval.AppendMasked(nil, v, secret, nil); err != nil || !bytes.Equal(got, got2) {
		t.Errorf("without hit: %s, %v", got2, err)
	}
}

// A list of pairs, as Envoy tells raw headers, names what it holds in a value.
func TestAppendMaskedPairs(t *testing.T) {
	v := ast.MustParseTerm(`{"headers": [{"key": "Token", "rawValue": "c2VjcmV0"}, {"key": "token", "value": "x"},
		{"key": "accept", "value": "y", "more": {"key": "password", "value": {"a": "x"}}}, {"key": ["token"], "value": "z"}, {"value": "w"}]}`).Value
	secret := func(key string) bool { return strings.EqualFold(key, "token") || key == "password" }
	var hits []string
	got, err := eval.AppendMasked(nil, v, secret, func(p string) { hits = append(hits, p) })
	if err != nil {
		t.Fatal(err)
	}
	want := `{"headers":[{"key":"Token","rawValue":"***"},{"key":"token","value":"***"},` +
		`{"key":"accept","more":{"key":"password","value":"***"},"value":"y"},{"key":["token"],"value":"z"},{"value":"w"}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if wantHits := []string{"/headers/0/rawValue", "/headers/1/value", "/headers/2/more/value"}; !slices.Equal(hits, wantHits) {
		t.Errorf("hits %q", hits)
	}
}

func TestAppendJSONAllocations(t *testing.T) {
	v, _, err := eval.ParseInput([]byte(envoyInput), eval.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { _, _ = eval.AppendJSON(buf, ast.InternedBooleanTrueValue) }); n != 0 {
		t.Errorf("a boolean: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = eval.AppendJSON(buf, v) }); n > 2 {
		t.Errorf("a document: %v allocations", n)
	}
}

// randomValue grows a value from the bytes of a fuzzer or a random source.
func randomValue(next func() byte, depth int) *ast.Term {
	kind := next() % 12
	if depth <= 0 {
		kind %= 6
	}
	size := int(next() % 5)
	text := func() string {
		b := make([]byte, size)
		for i := range b {
			b[i] = next()
		}
		return string(b)
	}
	switch kind {
	case 0:
		return ast.NullTerm()
	case 1:
		return ast.BooleanTerm(next()%2 == 0)
	case 2:
		return ast.IntNumberTerm(int(int8(next())))
	case 3:
		return ast.NumberTerm(json.Number(strconv.FormatFloat(float64(int8(next()))*1.25, 'g', -1, 64)))
	case 4, 5, 6:
		return ast.StringTerm(text())
	case 7, 8:
		o := ast.NewObject()
		for range size {
			o.Insert(ast.StringTerm(text()), randomValue(next, depth-1))
		}
		return ast.NewTerm(o)
	case 9:
		o := ast.NewObject()
		for range size {
			o.Insert(randomValue(next, depth-1), randomValue(next, depth-1))
		}
		return ast.NewTerm(o)
	case 10:
		a := make([]*ast.Term, size)
		for i := range a {
			a[i] = randomValue(next, depth-1)
		}
		return ast.ArrayTerm(a...)
	}
	s := ast.NewSet()
	for range size {
		s.Add(randomValue(next, depth-1))
	}
	return ast.NewTerm(s)
}

func TestAppendJSONRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3_000 {
		checkEncode(t, randomValue(func() byte { return byte(rnd.Uint32()) }, 4).Value)
	}
}

func FuzzAppendJSON(f *testing.F) {
	for _, doc := range documents() {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, _, err := eval.ParseInput(b, eval.Limits{}); err == nil {
			checkEncode(t, v)
		}
		i := 0
		checkEncode(t, randomValue(func() byte {
			if i++; i > len(b) {
				return byte(i)
			}
			return b[i-1]
		}, 4).Value)
		checkEncode(t, ast.String(b))
		checkEncode(t, ast.Number(b))
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	v, _, err := eval.ParseInput([]byte(workloadInput), eval.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	secret := func(key string) bool { return strings.EqualFold(key, "password") }
	buf := make([]byte, 0, 4096)
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = eval.AppendJSON(buf, v)
		}
	})
	b.Run("masked", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = eval.AppendMasked(buf, v, secret, nil)
		}
	})
	b.Run("opa", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(ast.MustJSON(v))
		}
	})
}
