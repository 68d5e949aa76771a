package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/jsondoc"
)

const sample = ` { "b" : 1.50 , "a":[true,null,{"x/y":"z","~":"\u0074"}],"o":{}, "": [] } `

func parse(t testing.TB, text string) *jsondoc.Node {
	t.Helper()
	n, err := jsondoc.Parse([]byte(text), jsondoc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFind(t *testing.T) {
	root := parse(t, sample)
	for _, tt := range []struct {
		pattern string
		want    string // pointer=text, ...
	}{
		{"", "=" + strings.TrimSpace(sample)},
		{"/b", "/b=1.50"},
		{"/a/1", "/a/1=null"},
		{"/a/2/x~1y", `/a/2/x~1y="z"`},
		{"/a/2/~0", `/a/2/~0="\u0074"`},
		{"/a/*", `/a/0=true, /a/1=null, /a/2={"x/y":"z","~":"\u0074"}`},
		{"/o/*", ""},
		{"/", "/=[]"},
		{"//*", ""},
	} {
		p, err := jsondoc.ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		matches, err := p.Find(root, false)
		var got []string
		for _, m := range matches {
			got = append(got, m.Pointer+"="+string(m.Node.Raw()))
		}
		if err != nil || strings.Join(got, ", ") != tt.want || p.String() != tt.pattern {
			t.Errorf("%q: %v, %v", tt.pattern, got, err)
		}
	}
}

func TestMissing(t *testing.T) {
	root := parse(t, sample)
	for _, pattern := range []string{"/c", "/b/*", "/b/0", "/a/3", "/a/-", "/a/01", "/a/+1", "/a/*/x~1y", "/o/*/x/y", "/c/d"} {
		p, err := jsondoc.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Find(root, false); (pattern == "/o/*/x/y") != (err == nil) || err != nil && !errors.Is(err, jsondoc.ErrMissing) {
			t.Errorf("%s: %v", pattern, err)
		}
		if _, err := p.Find(root, true); err != nil {
			t.Errorf("%s, optional: %v", pattern, err)
		}
	}
	for _, wrong := range []string{"a", "/~", "/~2", "/a~", "/" + strings.Repeat("x", jsondoc.MaxPattern)} {
		if _, err := jsondoc.ParsePattern(wrong); !errors.Is(err, jsondoc.ErrPattern) {
			t.Errorf("%.10s: %v", wrong, err)
		}
	}
}

func TestReplace(t *testing.T) {
	root := parse(t, sample)
	got := root.Replace([]jsondoc.Edit{
		{Node: root.Member("o"), With: []byte(`"S"`)},
		{Node: root.Member("b"), With: []byte(`"T"`)},
	})
	if want := strings.TrimSpace(strings.NewReplacer("{}", `"S"`, "1.50", `"T"`).Replace(sample)); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := root.Replace([]jsondoc.Edit{{Node: root, With: []byte("1")}}); string(got) != "1" {
		t.Errorf("got %s", got)
	}
	if s, ok := root.Member("a").Children[2].Member("~").Text(); s != "t" || !ok {
		t.Errorf("text %q", s)
	}
	if _, ok := root.Text(); ok || root.Member("none") != nil || root.Member("b").Member("x") != nil {
		t.Error("an object is no text")
	}
}

func TestSurrogates(t *testing.T) {
	for text, want := range map[string]string{
		`"\ud83d\ude00"`: "\U0001F600", `"a\\ud83d\u0041\n"`: "a\\ud83dA\n", `"\uFFFD"`: "\uFFFD",
		`"\ud83d"`: "", `"\ude00"`: "", `"\ud83dx\ude00"`: "", `"\ud83d\ud83d\ude00"`: "", `"\ud83d\n"`: "",
	} {
		if got, ok := parse(t, text).Text(); ok != (want != "") || got != want {
			t.Errorf("%s: %q, %v", text, got, ok)
		}
	}
	if _, err := jsondoc.Parse([]byte(`{"\ud83d":1}`), jsondoc.Limits{}); err == nil {
		t.Error("a name that is no text")
	}
}

func TestWalk(t *testing.T) {
	var got []string
	parse(t, sample).Walk("", func(pointer string, n *jsondoc.Node) bool {
		got = append(got, pointer+" "+n.Kind.String())
		return pointer != "/a/2"
	})
	want := " object,/b number,/a array,/a/0 boolean,/a/1 null,/a/2 object,/o object,/ array"
	if strings.Join(got, ",") != want {
		t.Errorf("got %s", strings.Join(got, ","))
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "not JSON",
		"{}{}":                    "not JSON",
		`{"a":1,}`:                "not JSON",
		`{"a":1,"\u0061":2}`:      "twice",
		"[\"\xff\"]":              "UTF-8",
		strings.Repeat("[", 1e6):  "nests",
		`[[[[[[]]]]]]`:            "nests",
		`[1,2,3,4,5,6,7,8,9,0,1]`: "too many",
	} {
		if _, err := jsondoc.Parse([]byte(text), jsondoc.Limits{Depth: 5, Nodes: 10}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v", text, err)
		}
	}
	_, err := jsondoc.Parse([]byte(`{"x":[0,{"a/b":{"k":1,"k":2}}]}`), jsondoc.Limits{})
	if wrong, ok := errors.AsType[*jsondoc.Error](err); !ok || wrong.Pointer != "/x/1/a~1b" {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{sample, `[]`, `"a"`, `-1e5`, `{"a":{"b":[1,"\\\"",{}]}}`, `{"a":1,"a":2}`} {
		f.Add([]byte(seed), "/a/*/b")
	}
	f.Fuzz(func(t *testing.T, text []byte, pattern string) {
		root, err := jsondoc.Parse(text, jsondoc.Limits{})
		if err != nil {
			if root != nil {
				t.Error("an error and a value")
			}
			return
		}
		if !json.Valid(text) || !bytes.Equal(root.Replace(nil), bytes.Trim(text, " \t\r\n")) {
			t.Error("the text changed")
		}
		root.Walk("", func(pointer string, n *jsondoc.Node) bool {
			if !json.Valid(n.Raw()) {
				t.Errorf("%s is no value", pointer)
			}
			if len(pointer) > jsondoc.MaxPattern || strings.Contains(pointer, jsondoc.Any) {
				return true
			}
			p, err := jsondoc.ParsePattern(pointer)
			if err != nil {
				t.Fatalf("%q: %v", pointer, err)
			}
			if m, err := p.Find(root, false); err != nil || len(m) != 1 || m[0].Node != n || m[0].Pointer != pointer {
				t.Errorf("%q: %v, %v", pointer, m, err)
			}
			return true
		})
		p, err := jsondoc.ParsePattern(pattern)
		if err != nil {
			return
		}
		matches, err := p.Find(root, true)
		if err != nil {
			t.Error(err)
		}
		var edits []jsondoc.Edit
		for _, m := range matches {
			edits = append(edits, jsondoc.Edit{Node: m.Node, With: []byte(`"S"`)})
		}
		if !json.Valid(root.Replace(edits)) {
			t.Error("no JSON after edits")
		}
	})
}
