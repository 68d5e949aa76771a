package eval_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// workloadInput is a request of the benchmark workload, envoyInput one as
// Envoy's ext_authz filter sends it.
const (
	workloadInput = `{"input": {"subject": {"id": "user0886"}, "action": "delete", "resource": {"type": "type27", "id": "res-99449412"}, "environment": {"hour": 13, "weekday": 3, "country": "SE"}}}`
	envoyInput    = `{"input":{"attributes":{"source":{"address":{"socketAddress":{"address":"10.1.2.3","portValue":41922}},"principal":"spiffe://cluster.local/ns/shop/sa/frontend"},"destination":{"address":{"socketAddress":{"address":"10.1.9.7","portValue":8080}},"principal":"spiffe://cluster.local/ns/shop/sa/orders"},"request":{"time":"2026-11-23T09:00:00.123456Z","http":{"id":"13359530607844510314","method":"POST","headers":{":authority":"orders.shop.example.com",":method":"POST",":path":"/v1/orders/7731?expand=items&limit=20",":scheme":"https","accept":"application/json","accept-encoding":"gzip, deflate","authorization":"Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyMDg4NiIsImlzcyI6Imh0dHBzOi8vaWRwLmV4YW1wbGUuY29tIn0.c2lnbmF0dXJl","content-type":"application/json","user-agent":"Mozilla/5.0 (X11; Linux x86_64) shop/4.2","x-forwarded-proto":"https","x-request-id":"f1a5d3f2-8e0a-4f9f-b0c9-6d0f5b8f2f5c"},"path":"/v1/orders/7731?expand=items&limit=20","host":"orders.shop.example.com","scheme":"https","protocol":"HTTP/1.1","size":42}},"metadataContext":{}},"parsed_path":["v1","orders","7731"],"parsed_query":{"expand":["items"],"limit":["20"]},"truncated_body":false,"version":{"encoding":"protojson","ext_authz":"v3"}}}`
)

// asOPA decodes b as OPA's server does, and reports how much of it was read.
func asOPA(b []byte) (ast.Value, int, error) {
	dec := util.NewJSONDecoder(bytes.NewReader(b))
	var x any
	if err := dec.Decode(&x); err != nil {
		return nil, 0, err
	}
	v, err := ast.InterfaceToValue(x)
	return v, int(dec.InputOffset()), err
}

// checkDecode compares ParseInput with OPA's decoding of b.
func checkDecode(t *testing.T, b []byte) {
	t.Helper()
	in := bytes.Clone(b)
	got, n, err := eval.ParseInput(in, eval.Limits{})
	if !bytes.Equal(in, b) {
		t.Fatal("the input was written to")
	}
	for i := range in {
		in[i] = 'x' // the value must not alias the request's buffer
	}
	want, wantN, wantErr := asOPA(b)
	if err != nil {
		var ie *eval.InputError
		if !errors.As(err, &ie) || got != nil {
			t.Fatalf("got %v, %T %v", got, err, err)
		}
		checkRefusal(t, ie, wantErr)
		return
	}
	if wantErr != nil {
		t.Fatalf("accepted as %v; OPA: %v", got, wantErr)
	}
	if n != wantN {
		t.Errorf("took %d bytes, OPA %d", n, wantN)
	}
	if got.Compare(want) != 0 || want.Compare(got) != 0 || got.Hash() != want.Hash() || !got.IsGround() {
		t.Errorf("got %v\nwant %v", got, want)
	}
	gotJSON, err1 := json.Marshal(ast.MustJSON(got))
	wantJSON, err2 := json.Marshal(ast.MustJSON(want))
	if err1 != nil || err2 != nil || !bytes.Equal(gotJSON, wantJSON) {
		t.Errorf("as JSON: got %s (%v)\nwant %s (%v)", gotJSON, err1, wantJSON, err2)
	}
}

func checkRefusal(t *testing.T, ie *eval.InputError, wantErr error) {
	t.Helper()
	switch ie.Kind {
	case eval.InputEmpty:
		if wantErr != io.EOF {
			t.Errorf("empty; OPA: %v", wantErr)
		}
	case eval.InputSyntax:
		if wantErr == nil || wantErr.Error() != ie.Message {
			t.Errorf("message %q; OPA: %v", ie.Message, wantErr)
		}
	case eval.InputNumber:
		if wantErr == nil && !strings.Contains(ie.Message, "longer") {
			t.Errorf("refused a number that OPA takes: %s", ie.Message)
		}
	case eval.InputDepth, eval.InputMembers:
	default:
		t.Errorf("kind %q", ie.Kind)
	}
}

// documents are the seeds of both fuzz targets; each shows one rule.
func documents() []string {
	return []string{
		workloadInput, envoyInput,
		``, ` `, `null`, `true`, `false`, `nul`, `nulL`, `truefalse`, `tru`, `"`, `""`, `"a`, `{`, `[`, `[1`, `{"a"`, `{"a":`, `{"a":1`,
		`{}`, `[]`, `[[],{}]`, `{"":""}`, " \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n",
		`[1,]`, `[,1]`, `{"a":1,}`, `{,}`, `{1:2}`, `{"a" 1}`, `{"a":1 "b":2}`, `[1 2]`, `]`, `}`, `:`, `'a'`,
		`0`, `-0`, `-1`, `-`, `01`, `1.`, `.5`, `1.5`, `1.e3`, `1e`, `1e+`, `1E-2`, `1e5`, `0e0`, `-0.0`, `+1`, `512`, `513`, `1000`, `0x10`, `1_0`, `NaN`, `Infinity`,
		`1e999999999`, `1e-999999999`, `1e99999999999999999999`, `1e25000`, `1e30103`, `1e30104`, `-1e30104`, `0e999999999`, `[1e400]`,
		strings.Repeat("9", 1000), strings.Repeat("9", 4096), strings.Repeat("9", 4097), "0." + strings.Repeat("1", 1000) + "e10",
		`"plain ascii longer than eight bytes"`, `"ünï"`, `"` + "\xff" + `"`, `"a` + "\xc3" + `"`, `"` + "\xed\xa0\x80" + `"`, `"` + "\xf0\x9f\x98\x80" + `"`,
		`"\ud83d\ude00"`, `"\ud800"`, `"\ud800A"`, `"\ud800\u0041"`, `"\ud800\ud800"`, `"\udc00"`, `"\ud800\n"`, `"\u00e9"`, `"\u0000"`, `"\uD83D\uDE00x"`, `"\ud83d\`,
		`"\b\f\n\r\t\"\\\/"`, `"\x"`, `"\u12"`, `"\u12g4"`, `"\`, "\"\n\"", "\"\x00\"", "\"\x1f\"", "\"\x7f\"", "\"12345678\x1f\"", "\"1234567\xff890\"",
		`{"a":1,"a":2}`, `{"a":1,"b":2,"a":3,"b":4,"a":5}`, `{"\u0061":1,"a":2}`, "{\"\xff\":1,\"\xfe\":2,\"\ufffd\":3}",
		`{"a":{"b":1},"a":{"c":2}}`, `{"a":1,"a":null}`,
		`{"k0":0,"k1":1,"k2":2,"k3":3,"k4":4,"k5":5,"k6":6,"k7":7,"k8":8,"k9":9,"ka":10,"kb":11,"kc":12,"kd":13,"k3":14,"kd":15}`,
		"\ufeff{}", `{"a":1}x`, `1 2`, `"a"b`, `[]]`, `nullx`, "// c\n1", `[1]/*`, "\x00", "[\x00]", `{"a":'b'}`, `["\u2028` + "\u2028" + `"]`,
	}
}

func TestParseInputAsOPA(t *testing.T) {
	for _, doc := range documents() {
		name := doc
		if len(name) > 40 {
			name = name[:40]
		}
		t.Run(name, func(t *testing.T) { checkDecode(t, []byte(doc)) })
	}
}

func TestParseInputBounds(t *testing.T) {
	nested := func(n int, open, end string) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	list := func(n int) string { return "[" + strings.Repeat("1,", n-1) + "1]" }
	tests := []struct {
		name string
		doc  string
		lim  eval.Limits
		kind eval.InputErrorKind
	}{
		{"depth 64", nested(64, "[", "]"), eval.Limits{}, ""},
		{"depth 65", nested(65, "[", "]"), eval.Limits{}, eval.InputDepth},
		{"depth 64 of objects", nested(64, `{"a":`, "}"), eval.Limits{}, ""},
		{"depth 65 of objects", nested(65, `{"a":`, "}"), eval.Limits{}, eval.InputDepth},
		{"depth 10000 never closed", strings.Repeat("[", 10_000), eval.Limits{}, eval.InputDepth},
		{"own depth", "[[1]]", eval.Limits{Depth: 1}, eval.InputDepth},
		{"10000 elements", list(10_000), eval.Limits{}, ""},
		{"10001 elements", list(10_001), eval.Limits{}, eval.InputMembers},
		{"members and elements together", `{"a":[1,2],"b":3}`, eval.Limits{Members: 3}, eval.InputMembers},
		{"a name twice counts twice", `{"a":1,"a":2}`, eval.Limits{Members: 1}, eval.InputMembers},
		{"1000 digits", strings.Repeat("7", 1000), eval.Limits{}, ""},
		{"4097 digits", strings.Repeat("7", 4097), eval.Limits{}, eval.InputNumber},
		{"own number length", "12345", eval.Limits{NumberDigits: 4}, eval.InputNumber},
		{"exponent", "[1e999999999]", eval.Limits{}, eval.InputNumber},
		{"negative exponent", "[1e-30200]", eval.Limits{}, eval.InputNumber},
		{"underflow to zero, as OPA", "[1e-999999999]", eval.Limits{}, ""},
		{"empty", " \n", eval.Limits{}, eval.InputEmpty},
		{"syntax", "[1,", eval.Limits{}, eval.InputSyntax},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, _, err := eval.ParseInput([]byte(tt.doc), tt.lim)
			if tt.kind == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var ie *eval.InputError
			if !errors.As(err, &ie) || ie.Kind != tt.kind || v != nil {
				t.Fatalf("got %v, %v, want kind %q", v, err, tt.kind)
			}
		})
	}
}

func TestParseInputOffset(t *testing.T) {
	_, n, err := eval.ParseInput([]byte(`  {"a": tru}`), eval.Limits{})
	var ie *eval.InputError
	if !errors.As(err, &ie) || ie.Offset != 11 || n != 11 {
		t.Fatalf("n %d, error %+v", n, ie)
	}
}

func TestParseInputManyDuplicates(t *testing.T) {
	var sb strings.Builder
	sb.WriteString(`{"a":0`)
	for i := range 9_000 {
		sb.WriteString(`,"k`)
		sb.WriteByte(byte('a' + i%26))
		sb.WriteString(`":`)
		sb.WriteByte(byte('0' + i%10))
	}
	sb.WriteByte('}')
	checkDecode(t, []byte(sb.String()))
}

func FuzzParseInput(f *testing.F) {
	for _, doc := range documents() {
		f.Add([]byte(doc))
	}
	f.Fuzz(checkDecode)
}

func BenchmarkParseInput(b *testing.B) {
	for name, doc := range map[string]string{"workload": workloadInput, "envoy": envoyInput} {
		in := []byte(doc)
		b.Run(name+"/verdict", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if _, _, err := eval.ParseInput(in, eval.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/opa", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if _, _, err := asOPA(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
