package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/client"
)

type base struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant,omitempty" verdict:"internal"`
}

type address struct {
	Street string   `json:"street" verdict:"confidential"`
	Zip    int      `json:"zip"`
	Notes  *address `json:"notes,omitempty"`
}

type record struct {
	base
	*Extra
	Name     string                     `json:"name" verdict:"public"`
	Count    int64                      `json:"count" verdict:"restricted"`
	Rate     float64                    `json:"rate" verdict:"confidential"`
	Active   bool                       `json:"active" verdict:"confidential"`
	Null     *string                    `json:"null" verdict:"confidential"`
	Tags     []string                   `json:"tags" verdict:"confidential"`
	Data     []byte                     `json:"data" verdict:"internal"`
	When     time.Time                  `json:"when" verdict:"internal"`
	Raw      json.RawMessage            `json:"raw" verdict:"internal"`
	Home     *address                   `json:"home"`
	Others   []address                  `json:"others"`
	ByName   map[string]*address        `json:"by/name"`
	Whole    map[int]address2           `json:"whole" verdict:"restricted"`
	Secret   client.Secret[map[int]int] `json:"secret" verdict:"internal"`
	Any      any                        `json:"any"`
	Empty    []address                  `json:"empty,omitempty" verdict:"restricted"`
	Nothing  *address                   `json:"nothing"`
	Loose    string                     `json:"loose" verdict:"internal,optional"`
	Default  string                     `verdict:"internal"`
	skipped  string
	Ignored  string `json:"-"`
	Array    [2]address
	Pointers []**string `json:"pointers" verdict:"internal"`
}

type Extra struct {
	More string `json:"more" verdict:"internal"`
}

type address2 struct {
	Street string
	Pin    client.Secret[string]
}

func filled() record {
	p := new("deep")
	return record{
		base: base{ID: "r-1", Tenant: "t"}, Extra: &Extra{"much"}, Name: "Ana", Count: 1 << 60, Rate: 1.5, Active: true, Tags: []string{"a<b>", "c"},
		Data: []byte{0, 255}, When: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Raw: json.RawMessage(`{"k":1e3}`),
		Home:   &address{Street: "Main", Zip: 1, Notes: &address{Street: "inner"}},
		Others: []address{{Street: "o0"}, {Street: "o1", Zip: 2}}, ByName: map[string]*address{"x~/y": {Street: "m"}, "nil": nil},
		Whole: map[int]address2{7: {"w", client.NewSecret("pin")}}, Secret: client.NewSecret(map[int]int{1: 2}),
		Any: map[string]any{"k": "v"}, Loose: "loose", Default: "d", skipped: "s", Ignored: "i",
		Array: [2]address{{Street: "a0"}, {Street: "a1"}}, Pointers: []**string{&p, nil},
	}
}

func TestSealAndOpen(t *testing.T) {
	c := newSealer()
	defer c.Close()
	where := client.SealContext{Tenant: "t1", Type: "record", ID: "r-1"}
	in := filled()
	document, err := c.Seal(t.Context(), &in, where)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"Main", "inner", `"o0"`, `"m"`, "deep", "pin", "much", client.Redacted, "1152921504606846976", "loose\":\"loose"} {
		if bytes.Contains(document, []byte(canary)) {
			t.Errorf("%s stands in %.300s", canary, document)
		}
	}
	if got := bytes.Count(document, []byte(`"vd1.`)); got != 22 {
		t.Errorf("%d values are encrypted in %.300s", got, document)
	}
	var out record
	if err := c.Open(t.Context(), document, &out, where); err != nil {
		t.Fatal(err)
	}
	want := in
	want.skipped, want.Ignored = "", ""
	if !reflect.DeepEqual(out, want) {
		t.Errorf("got  %+v\nwant %+v", out, want)
	}
	where.ID = "r-2"
	untouched := record{Name: "kept"}
	var failed *client.Error
	if err := c.Open(t.Context(), document, &untouched, where); !errors.As(err, &failed) || failed.Code != "ciphertext_invalid" || !errors.Is(err, client.ErrInvalid) || untouched.Name != "kept" {
		t.Errorf("%v, %+v", err, untouched)
	}
	if _, err := c.Seal(t.Context(), json.RawMessage(document), where); err != nil {
		t.Errorf("a value without fields: %v", err)
	}
}

func TestTagsThatAreRefused(t *testing.T) {
	type bad struct {
		Inner []map[string]*struct {
			Card string `json:"card" verdict:"topsecret"`
		} `json:"inner"`
	}
	type option struct {
		A string `verdict:"internal,omitempty"`
	}
	type embedded struct {
		address `verdict:"internal"`
	}
	type ignored struct {
		A string `json:"-" verdict:"internal"`
	}
	type unexported struct {
		a string `verdict:"internal"`
	}
	type stamped struct {
		time.Time
		Name string `verdict:"internal"`
	}
	type inside struct {
		Home address `verdict:"internal"`
	}
	type bare struct{ S client.Secret[string] }
	c := serve(t, client.Options{}, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	for _, tt := range []struct {
		value any
		want  string
	}{
		{bad{}, `client_test.bad.Inner.Card: "topsecret" is no classification`},
		{option{}, `option.A: there is no option "omitempty"`},
		{embedded{}, "embedded.address: an embedded field"},
		{ignored{}, "ignored.A: the field does not stand in JSON"},
		{unexported{a: "x"}, "unexported.a: the field does not stand in JSON"},
		{stamped{}, "stamped.Name: client_test.stamped encodes itself"},
		{inside{}, "inside.Home.Street: it lies inside a value"},
		{bare{client.NewSecret("canary")}, "bare.S: a Secret has no JSON"},
		{map[string]any{"x": []any{bad{}}}, `"topsecret" is no classification`},
		{func() {}, "unsupported type"},
		{nil, "no value"},
	} {
		_, err := c.Seal(t.Context(), tt.value, client.SealContext{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, client.ErrInvalid) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%T: %v", tt.value, err)
		}
	}
	if err := c.Open(t.Context(), []byte(`{}`), &bad{}, client.SealContext{}); err == nil || !strings.Contains(err.Error(), "topsecret") {
		t.Errorf("open: %v", err)
	}
	if err := c.Open(t.Context(), []byte(`{}`), record{}, client.SealContext{}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("no pointer: %v", err)
	}
}

// TestOpenWantsWhatTagsSay: who can write the document puts a plain value, or one
// of another class, in place of an encrypted one, or beside it.
func TestOpenWantsWhatTagsSay(t *testing.T) {
	type customer struct {
		SSN  string `json:"ssn" verdict:"restricted"`
		Note string `json:"note,omitempty" verdict:"internal"`
		Old  string `json:"old" verdict:"internal,optional"`
	}
	for answer, ok := range map[string]bool{
		`{"document":{"ssn":"1","note":"n","old":"o"},"fields":[{"pointer":"/ssn","classification":"restricted"},{"pointer":"/note","classification":"internal"},{"pointer":"/old","classification":"internal"}]}`: true,
		`{"document":{"ssn":"1","old":"o"},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`:                                                                                                           true,
		`{"document":{"ssn":"1"},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`:                                                                                                                     true,
		`{"document":{"ssn":"1"},"fields":[]}`: false,
		`{"document":{},"fields":[]}`:          false,
		`{"document":{"ssn":"1"},"fields":[{"pointer":"/ssn","classification":"internal"}]}`:                  false,
		`{"document":{"ssn":"1","note":"n"},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`:     false,
		`{"document":{"ssn":"1","SSN":"2"},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`:      false,
		`{"document":{"ssn":"1","\u017fsn":"2"},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`: false,
		`{"document":{"ssn":1},"fields":[{"pointer":"/ssn","classification":"restricted"}]}`:                  false,
		`{}`: false,
	} {
		c := serve(t, client.Options{}, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, answer) })
		got := customer{SSN: "kept"}
		if err := c.Open(t.Context(), []byte(`{}`), &got, client.SealContext{}); (err == nil) != ok || (got.SSN == "1") != ok || !ok && !errors.Is(err, client.ErrAnswer) {
			t.Errorf("%s: %v, %+v", answer, err, got)
		}
		if _, err := c.Seal(t.Context(), customer{SSN: "1", Old: "o"}, client.SealContext{}); strings.Contains(answer, `"fields":[]`) && !errors.Is(err, client.ErrAnswer) {
			t.Errorf("sealed by %s: %v", answer, err)
		}
	}
}

func TestDenialOfAnOpening(t *testing.T) {
	c := newSealer()
	defer c.Close()
	text, err := c.Encrypt(t.Context(), client.TopSecret, []byte{0xff}, client.SealContext{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decrypt(t.Context(), text, client.SealContext{}); err != nil || !bytes.Equal(got, []byte{0xff}) {
		t.Errorf("%x, %v", got, err)
	}
	sc := client.SealContext{Subject: &client.Entity{Type: "user", ID: "ana"}, Facts: map[string]any{"session": map[string]any{"id": "s1"}}}
	var failed *client.Error
	if _, err := c.Decrypt(t.Context(), text, sc); !errors.Is(err, client.ErrDenied) || !errors.As(err, &failed) || failed.DecisionID == "" {
		t.Errorf("got %v", err)
	}
	if _, err := c.Encrypt(t.Context(), "secret", nil, sc); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Encrypt(t.Context(), client.Public, nil, client.SealContext{}); !errors.As(err, &failed) || failed.Code != "classification_not_encrypted" {
		t.Errorf("got %v", err)
	}
}

func TestSecretShowsNothing(t *testing.T) {
	type holder struct {
		Open   client.Secret[string]
		closed client.Secret[string]
		list   []client.Secret[string]
	}
	s := client.NewSecret("canary")
	h := holder{s, s, []client.Secret[string]{s}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "holder", h)
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{log.String(), string(text), string(encoded), s.String(), s.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, h), fmt.Sprintf(verb, &h))
	}
	for _, text := range shown {
		if strings.Contains(text, "canary") || strings.Contains(text, fmt.Sprintf("%x", "canary")) {
			t.Errorf("shown: %s", text)
		}
	}
	var numbers client.Secret[[]int]
	if err := json.Unmarshal([]byte(`"canary"`), &numbers); err == nil || strings.Contains(err.Error(), "canary") || !numbers.IsZero() || numbers.Reveal() != nil {
		t.Errorf("%v", err)
	}
	if err := json.Unmarshal([]byte(`[1]`), &numbers); err != nil || numbers.Reveal()[0] != 1 {
		t.Errorf("%v", err)
	}
}
