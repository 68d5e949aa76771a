package httpcheck_test

import (
	"reflect"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/api/httpcheck"
)

func TestParseResult(t *testing.T) {
	for _, tt := range []struct {
		value string // Rego
		want  httpcheck.Result
		fails bool
	}{
		{value: `true`, want: httpcheck.Result{Allowed: true, Plain: true}},
		{value: `false`, want: httpcheck.Result{Plain: true}},
		{value: `{"allowed": true}`, want: httpcheck.Result{Allowed: true}},
		{
			value: `{"allowed": true, "headers": {"a": "1", "b": ["2", "3"]}, "response_headers_to_add": [{"c": "4"}, {"c": "5"}],
				"request_headers_to_remove": {"r"}, "query_parameters_to_set": {"q": ["6"]}, "query_parameters_to_remove": ["s"],
				"body": 1, "http_status": "x"}`,
			want: httpcheck.Result{
				Allowed: true, Headers: []httpcheck.Pair{{"a", "1"}, {"b", "2"}, {"b", "3"}},
				ResponseHeaders: []httpcheck.Pair{{"c", "4"}, {"c", "5"}}, RemoveHeaders: []string{"r"},
				SetQuery: []httpcheck.Pair{{"q", "6"}}, RemoveQuery: []string{"s"},
			},
		},
		{
			value: `{"allowed": false, "body": "no", "http_status": 404, "headers": {}, "request_headers_to_remove": 1}`,
			want:  httpcheck.Result{Body: "no", Status: 404},
		},
		{value: `{}`, fails: true},
		{value: `null`, fails: true},
		{value: `"true"`, fails: true},
		{value: `[true]`, fails: true},
		{value: `{"allowed": "true"}`, fails: true},
		{value: `{"allow": true}`, fails: true},
		{value: `{"allowed": true, "headers": "x"}`, fails: true},
		{value: `{"allowed": true, "headers": [1]}`, fails: true},
		{value: `{"allowed": true, "headers": {"a": 1}}`, fails: true},
		{value: `{"allowed": true, "headers": {"a": [1]}}`, fails: true},
		{value: `{"allowed": true, "request_headers_to_remove": "a"}`, fails: true},
		{value: `{"allowed": true, "query_parameters_to_set": ["a"]}`, fails: true},
		{value: `{"allowed": true, "dynamic_metadata": []}`, fails: true},
		{value: `{"allowed": false, "body": 1}`, fails: true},
		{value: `{"allowed": false, "http_status": "403"}`, fails: true},
		{value: `{"allowed": false, "http_status": 403.5}`, fails: true},
		{value: `{"allowed": false, "http_status": 999}`, fails: true},
	} {
		got, err := httpcheck.ParseResult(ast.MustParseTerm(tt.value).Value)
		if tt.fails {
			if err == nil || got != nil {
				t.Errorf("%s: got %+v, %v", tt.value, got, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: got %+v, %v", tt.value, got, err)
		}
	}
}

func TestMetadata(t *testing.T) {
	r, err := httpcheck.ParseResult(ast.MustParseTerm(`{"allowed": true, "dynamic_metadata": {"a": [1.5, {"b"}, null, true], "decision_id": "forged"}}`).Value)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Struct("id-1")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": []any{1.5, []any{"b"}, nil, true}, "decision_id": "id-1"}
	if got := s.AsMap(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if r.Metadata = ast.MustParseTerm(`{"n": 1e999}`).Value.(ast.Object); r.Metadata != nil {
		if _, err := r.Struct(""); err == nil {
			t.Error("a number that is none in Envoy was taken")
		}
	}
}
