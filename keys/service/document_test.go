package service_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/internal/jsondoc"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

const person = `{ "name":"Ana", "ssn" : "123-45", "salary":1e3, "rate":1.50,"active":true ,"left":null,
 "tags":["a", 2], "cards":[{"number":"4111"},{"number":"4222","cvc":7}], "notes":{"x":{"k":"v"}, "y":{"k":[]}},"empty":[]}`

// document makes a document with rules such as "/ssn=top_secret" and
// "/x=internal?", which is optional.
func document(t testing.TB, text string, rules ...string) *service.Document {
	t.Helper()
	root, err := jsondoc.Parse([]byte(text), jsondoc.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	d := &service.Document{Root: root, Context: keys.Context{Tenant: "t1", Type: "customer", ID: "c1"}}
	for _, rule := range rules {
		pattern, class, _ := strings.Cut(rule, "=")
		name, optional := strings.CutSuffix(class, "?")
		r := service.Rule{Optional: optional}
		r.Class, _ = keys.ParseClass(name)
		if r.Pattern, err = jsondoc.ParsePattern(pattern); err != nil {
			t.Fatal(err)
		}
		d.Rules = append(d.Rules, r)
	}
	return d
}

func seal(t testing.TB, r *encryptiontest.Rig, d *service.Document) *service.Result {
	t.Helper()
	got, err := r.Seal(t.Context(), encryptiontest.Asker(), d)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDocumentWithThreeClasses(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	rules := []string{
		"/ssn=top_secret", "/salary=restricted", "/rate=restricted", "/active=confidential", "/left=confidential", "/tags=confidential",
		"/cards/*/number=restricted", "/cards/1/cvc=top_secret", "/notes/*/k=confidential", "/name=public", "/gone=internal?", "/empty/*=internal",
	}
	sealed := seal(t, r, document(t, person, rules...))
	want := map[string]keys.Class{
		"/ssn": keys.TopSecret, "/salary": keys.Restricted, "/rate": keys.Restricted, "/active": keys.Confidential, "/left": keys.Confidential,
		"/tags": keys.Confidential, "/cards/0/number": keys.Restricted, "/cards/1/number": keys.Restricted, "/cards/1/cvc": keys.TopSecret,
		"/notes/x/k": keys.Confidential, "/notes/y/k": keys.Confidential,
	}
	root := document(t, string(sealed.Document)).Root
	lengths := map[int]int{}
	root.Walk("", func(pointer string, n *jsondoc.Node) bool {
		text, ok := n.Text()
		if !ok || pointer == "/name" {
			return true
		}
		h, err := keys.Inspect(text)
		if err != nil || h.Class != want[pointer] {
			t.Errorf("%s: class %v, %v", pointer, h.Class, err)
		}
		if h.Class == keys.Confidential {
			lengths[len(text)]++
		}
		delete(want, pointer)
		return true
	})
	if len(want) > 0 || len(sealed.Fields) != 11 || len(lengths) != 1 {
		t.Errorf("missing %v, %d fields, lengths %v", want, len(sealed.Fields), lengths)
	}
	for _, fields := range [][]string{nil, rules} {
		opened, err := r.Open(t.Context(), encryptiontest.Asker(), document(t, string(sealed.Document), fields...))
		if err != nil || string(opened.Document) != person || opened.DecisionID == "" || len(opened.Fields) != 11 {
			t.Errorf("%v, %s", err, opened.Document)
		}
	}
	one, err := r.Open(t.Context(), encryptiontest.Asker(), document(t, string(sealed.Document), "/ssn=top_secret"))
	if err != nil || strings.Count(string(one.Document), "vd1.") != 10 || !strings.Contains(string(one.Document), `"ssn" : "123-45"`) {
		t.Errorf("%v, %s", err, one.Document)
	}
	whole := seal(t, r, document(t, ` [1] `, "=internal"))
	back, err := r.Open(t.Context(), encryptiontest.Asker(), document(t, string(whole.Document)))
	if err != nil || string(back.Document) != "[1]" {
		t.Errorf("%v, %s", err, back.Document)
	}
}

func TestFieldsThatCannotBeSealed(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	sealed := string(seal(t, r, document(t, person, "/ssn=internal")).Document)
	for _, tt := range []struct {
		text    string
		rules   []string
		pointer string
		want    error
	}{
		{person, []string{"/ssn=internal", "/gone=internal"}, "/gone", jsondoc.ErrMissing},
		{person, []string{"/cards/*/cvc=internal"}, "/cards/*/cvc", jsondoc.ErrMissing},
		{person, []string{"/name/*=internal"}, "/name/*", jsondoc.ErrMissing},
		{person, []string{"/cards=internal", "/cards/0/number=restricted"}, "/cards/0/number", service.ErrOverlap},
		{person, []string{"/cards/*=internal", "/cards/1=restricted"}, "/cards/1", service.ErrOverlap},
		{person, []string{"=internal", "/name=public"}, "/name", service.ErrOverlap},
		{sealed, []string{"/salary=internal", "/ssn=restricted"}, "/ssn", service.ErrSealed},
		{sealed, []string{"=restricted"}, "", service.ErrSealed},
		{`{"` + strings.Repeat("k", 999) + `/":1}`, []string{"/*=internal"}, "/" + strings.Repeat("k", 999) + "~1", keys.ErrTooLarge},
	} {
		got, err := r.Seal(t.Context(), encryptiontest.Asker(), document(t, tt.text, tt.rules...))
		field, ok := errors.AsType[*service.FieldError](err)
		if !ok || field.Pointer != tt.pointer || !errors.Is(err, tt.want) || got != nil || strings.Contains(err.Error(), "123-45") {
			t.Errorf("%v: %v", tt.rules, err)
		}
	}
}

func TestFieldsThatDoNotOpen(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	sealed := string(seal(t, r, document(t, `{"a":"x","b":{"c":2}}`, "/a=internal", "/b/c=restricted")).Document)
	var parts struct {
		A string
		B struct{ C string }
	}
	if err := json.Unmarshal([]byte(sealed), &parts); err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(strings.Replace(sealed, parts.A, parts.B.C, 1), parts.B.C+`"}`, parts.A+`"}`, 1)
	alone := encrypt(t, r, keys.Internal, at("/t"), []byte("no json"))
	for _, tt := range []struct {
		text    string
		rules   []string
		pointer string
		want    error
	}{
		{moved, nil, "/a", keys.ErrInvalid},
		{strings.Replace(sealed, `"a"`, `"z"`, 1), nil, "/z", keys.ErrInvalid},
		{sealed, []string{"/a=restricted"}, "/a", service.ErrClass},
		{`{"a":"plain"}`, []string{"/a=internal"}, "/a", keys.ErrMalformed},
		{`{"a":1}`, []string{"/a="}, "/a", keys.ErrMalformed},
		{`{"a":"vd1."}`, nil, "/a", keys.ErrMalformed},
		{`{}`, []string{"/a=internal"}, "/a", jsondoc.ErrMissing},
		{`{"t":"` + alone + `"}`, nil, "/t", service.ErrNotJSON},
	} {
		got, err := r.Open(t.Context(), encryptiontest.Asker(), document(t, tt.text, tt.rules...))
		field, ok := errors.AsType[*service.FieldError](err)
		if !ok || field.Pointer != tt.pointer || !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%.20s %v: %v", tt.text, tt.rules, err)
		}
	}
	for text, rules := range map[string][]string{
		`{"a":"plain"}`: {"/a=internal?", "/b=internal?"}, `{"a": 1}`: {"/a=public"}, `{"b":"x"}`: nil,
	} {
		if got, err := r.Open(t.Context(), encryptiontest.Asker(), document(t, text, rules...)); err != nil || string(got.Document) != text {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzDocument(f *testing.F) {
	r := encryptiontest.New(f, service.Options{})
	for _, pattern := range []string{"", "/ssn", "/cards/*/number", "/notes/*", "/*", "/tags/1"} {
		f.Add([]byte(person), pattern)
	}
	f.Fuzz(func(t *testing.T, text []byte, pattern string) {
		root, err := jsondoc.Parse(text, jsondoc.Limits{Nodes: 200})
		if err != nil {
			return
		}
		d := &service.Document{Root: root, Context: keys.Context{Tenant: "t1"}, Rules: []service.Rule{{Class: keys.Confidential, Optional: true}}}
		if d.Rules[0].Pattern, err = jsondoc.ParsePattern(pattern); err != nil {
			return
		}
		sealed, err := r.Seal(t.Context(), encryptiontest.Asker(), d)
		if err != nil {
			if !errors.As(err, new(*service.FieldError)) {
				t.Fatal(err)
			}
			return
		}
		if d.Root, err = jsondoc.Parse(sealed.Document, jsondoc.Limits{Nodes: 200}); err != nil {
			t.Fatal(err)
		}
		opened, err := r.Open(t.Context(), encryptiontest.Asker(), d)
		if err != nil {
			if field, ok := errors.AsType[*service.FieldError](err); ok && errors.Is(field.Err, keys.ErrMalformed) {
				return
			}
			t.Fatalf("%v: %s", err, sealed.Document)
		}
		if string(opened.Document) != string(root.Raw()) {
			t.Errorf("%s came back as %s", root.Raw(), opened.Document)
		}
	})
}
