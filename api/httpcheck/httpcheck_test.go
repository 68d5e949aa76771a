package httpcheck_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/open-policy-agent/opa/v1/ast"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

func request(t testing.TB, text string) *authv3.CheckRequest {
	t.Helper()
	var r authv3.CheckRequest
	if err := protojson.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// document is a value as encoding/json has it.
func document(t testing.TB, v ast.Value) any {
	t.Helper()
	encoded, err := eval.AppendJSON(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(encoded, &out); err != nil {
		t.Fatalf("%v in %s", err, encoded)
	}
	return out
}

func decode(t testing.TB, text string) any {
	t.Helper()
	var out any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func TestInput(t *testing.T) {
	in := httpcheck.NewInputs(eval.Limits{})
	got, err := in.Input(&httpcheck.Check{
		Client: netip.MustParseAddr("192.0.2.7"),
		Request: request(t, `{"attributes": {
			"source": {"address": {"socketAddress": {"address": "192.0.2.7", "portValue": 0}}, "principal": "spiffe://example.org/ns/a/sa/b", "labels": {"k": "v"}},
			"destination": {"address": {"pipe": {"path": "/x", "mode": 7}}},
			"request": {"time": "1970-01-01T00:00:01.000000002Z", "http": {"id": "9", "method": "POST", "path": "//a%2Fb/c?x=1&x=2&y", "host": "h",
				"headers": {"content-type": "application/json"}, "size": 13, "rawBody": "eyJhIjogMS4wfQ=="}},
			"contextExtensions": {"a": "b"},
			"metadataContext": {"filterMetadata": {"f": {"n": 1.5, "l": [null, true, {}]}}},
			"routeMetadataContext": {},
			"tlsSession": {"sni": "s"}}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := decode(t, `{
		"attributes": {
			"source": {"address": {"socketAddress": {"address": "192.0.2.7", "portValue": 0}}, "principal": "spiffe://example.org/ns/a/sa/b", "labels": {"k": "v"}},
			"destination": {"address": {"pipe": {"path": "/x", "mode": 7}}},
			"request": {"time": {"seconds": 1, "nanos": 2}, "http": {"id": "9", "method": "POST", "path": "//a%2Fb/c?x=1&x=2&y", "host": "h",
				"headers": {"content-type": "application/json"}, "size": 13, "rawBody": "eyJhIjogMS4wfQ=="}},
			"contextExtensions": {"a": "b"},
			"metadataContext": {"filterMetadata": {"f": {"n": 1.5, "l": [null, true, {}]}}},
			"routeMetadataContext": {},
			"tlsSession": {"sni": "s"}},
		"version": {"ext_authz": "v3", "encoding": "protojson"},
		"parsed_path": ["a", "b", "c"], "parsed_query": {"x": ["1", "2"], "y": [""]}, "parsed_body": {"a": 1.0}, "truncated_body": false,
		"source_principal": "spiffe://example.org/ns/a/sa/b",
		"subject": {"type": "service", "id": "spiffe://example.org/ns/a/sa/b"}, "action": {"name": "POST"},
		"resource": {"type": "http", "id": "//a%2Fb/c"},
		"context": {"network": {"ip": "192.0.2.7", "spiffe_id": "spiffe://example.org/ns/a/sa/b"}, "certificate": {"principal": "spiffe://example.org/ns/a/sa/b"}}}`)
	if doc := document(t, got); !reflect.DeepEqual(doc, want) {
		t.Errorf("got %v\nwant %v", doc, want)
	}
}

func TestBodies(t *testing.T) {
	const form = "--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\ntext\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n{\"a\": [1]}\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\nmore\r\n--b--\r\n"
	for _, tt := range []struct {
		name, kind, body string
		headers          map[string]string
		raw              bool
		want             string // of parsed_body; "" for an error
		truncated        bool
	}{
		{name: "json", kind: "application/json; charset=utf-8", body: `{"a": [1, 2.50]}`, want: `{"a": [1, 2.5]}`},
		{name: "json, raw", kind: "application/json", body: `{"a": 1}`, raw: true, want: `{"a": 1}`},
		{name: "no body", kind: "application/json", want: `null`},
		{name: "malformed json", kind: "application/json", body: `{"a": `},
		{name: "something behind", kind: "application/json", body: `{} {}`},
		{name: "cut off, by length", kind: "application/json", body: `{"a": `, headers: map[string]string{"content-length": "20"}, want: `null`, truncated: true},
		{name: "cut off, by envoy", kind: "application/json", body: `{"a": `, headers: map[string]string{"x-envoy-auth-partial-body": "true"}, want: `null`, truncated: true},
		{name: "whole, by envoy", kind: "application/json", body: `{}`, headers: map[string]string{"x-envoy-auth-partial-body": "false", "content-length": "2"}, want: `{}`},
		{name: "bad length", kind: "application/json", body: `{}`, headers: map[string]string{"content-length": "x"}},
		{name: "form", kind: "application/x-www-form-urlencoded", body: "a=1&b=2&a=3", want: `{"a": ["1", "3"], "b": ["2"]}`},
		{name: "malformed form", kind: "application/x-www-form-urlencoded", body: "a=%zz"},
		{name: "multipart", kind: `multipart/form-data; boundary="b"`, body: form, want: `{"t": ["text", "more"], "j": [{"a": [1]}]}`},
		{name: "multipart, raw", kind: `multipart/form-data; boundary="b"`, body: form, raw: true, want: `{"t": ["text", "more"], "j": [{"a": [1]}]}`},
		{name: "multipart without boundary", kind: `multipart/form-data`, body: form, want: `null`},
		{name: "multipart that ends early", kind: `multipart/form-data; boundary="b"`, body: form[:62]},
		{name: "grpc", kind: "application/grpc", body: "\x00\x00\x00\x00\x00", want: `null`},
		{name: "text", kind: "text/plain", body: "hello", want: `null`},
		{name: "deep json", kind: "application/json", body: strings.Repeat("[", 100) + strings.Repeat("]", 100)},
		{name: "many members", kind: "application/json", body: "[" + strings.Repeat("1,", 20_000) + "1]"},
		{name: "many parameters", kind: "application/x-www-form-urlencoded", body: strings.Repeat("a=1&", 20_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			http := &authv3.AttributeContext_HttpRequest{Path: "/", Headers: map[string]string{"content-type": tt.kind}}
			for k, v := range tt.headers {
				http.Headers[k] = v
			}
			if http.Body = tt.body; tt.raw {
				http.Body, http.RawBody = "", []byte(tt.body)
			}
			got, err := httpcheck.NewInputs(eval.Limits{}).Input(&httpcheck.Check{Request: check(http)})
			if got == nil {
				t.Fatal("nothing is left for the record")
			}
			if (err != nil) != (tt.want == "") {
				t.Fatalf("got error %v", err)
			}
			if err != nil {
				return
			}
			doc := document(t, got).(map[string]any)
			if !reflect.DeepEqual(doc["parsed_body"], decode(t, tt.want)) || doc["truncated_body"] != tt.truncated {
				t.Errorf("got %v, truncated %v", doc["parsed_body"], doc["truncated_body"])
			}
		})
	}
}

func check(http *authv3.AttributeContext_HttpRequest) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: http}}}
}

func TestMalformed(t *testing.T) {
	for _, path := range []string{"/%zz", "/a?%zz=1", "/a?a;b", "/" + strings.Repeat("a/", 20_000)} {
		if _, err := httpcheck.NewInputs(eval.Limits{}).Input(&httpcheck.Check{Request: check(&authv3.AttributeContext_HttpRequest{Path: path})}); err == nil {
			t.Errorf("no error for %.20q", path)
		}
	}
	deep := structpb.NewNullValue()
	for range 100 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	headers := map[string]string{}
	for i := range 20_000 {
		headers[strings.Repeat("x", 1+i%7)+string(rune('a'+i%26))+strings.Repeat("y", i%1000)] = ""
	}
	for name, a := range map[string]*authv3.AttributeContext{
		"deep":       {MetadataContext: metadata(deep)},
		"not finite": {MetadataContext: metadata(&structpb.Value{Kind: &structpb.Value_NumberValue{NumberValue: inf()}})},
		"wide":       {ContextExtensions: headers},
	} {
		got, err := httpcheck.NewInputs(eval.Limits{Members: 1000}).Input(&httpcheck.Check{Request: &authv3.CheckRequest{Attributes: a}})
		if err == nil || got != nil {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func inf() float64 { zero := 0.0; return 1 / zero }

func metadata(v *structpb.Value) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"f": {Fields: map[string]*structpb.Value{"v": v}}}}
}

// TestAttributesAsAnyMessage holds the fields that are written out to what their
// descriptors say: a random message gives the same document both ways.
func TestAttributesAsAnyMessage(t *testing.T) {
	in := httpcheck.NewInputs(eval.Limits{})
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		var m authv3.CheckRequest
		fill(r, m.ProtoReflect(), 0)
		if m.Attributes == nil {
			continue
		}
		if http := m.Attributes.GetRequest().GetHttp(); http != nil {
			http.Path = "/a" // a random one may be malformed
		}
		got, err := in.Input(&httpcheck.Check{Request: &m})
		if err != nil {
			t.Fatal(err)
		}
		want := httpcheck.MessageDocument(m.Attributes.ProtoReflect())
		if attributes := got.Get(ast.StringTerm("attributes")); attributes.Value.Compare(want) != 0 {
			t.Fatalf("seed %d: got %v\nwant %v", seed, attributes, want)
		}
	}
}

// fill sets about half of the fields of a message.
func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if depth > 0 && r.IntN(3) == 0 || depth > 9 {
			continue
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			for _, key := range []string{"content-type", "k"} {
				v := entries.NewValue()
				if fd.MapValue().Kind() == protoreflect.MessageKind {
					fill(r, v.Message(), depth+1)
				} else {
					v = scalar(r, fd.MapValue())
				}
				entries.Set(protoreflect.ValueOfString(key).MapKey(), v)
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			v := list.NewElement()
			if fd.Kind() == protoreflect.MessageKind {
				fill(r, v.Message(), depth+1)
			} else {
				v = scalar(r, fd)
			}
			list.Append(v)
		case fd.Kind() == protoreflect.MessageKind:
			fill(r, m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, scalar(r, fd))
		}
	}
}

func scalar(r *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString([]string{"", "text", "ü"}[r.IntN(3)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 255, byte(r.IntN(256))})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(2)))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(r.Int32N(3))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(r.Int64() >> r.IntN(63))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(r.Uint32N(3))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.Float64())
	default:
		panic(fd.FullName())
	}
}
