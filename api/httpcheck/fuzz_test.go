package httpcheck_test

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// FuzzCheckRequest takes any message: what is an input can be written down and
// read again as the same document.
func FuzzCheckRequest(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"attributes": {}}`,
		`{"attributes": {"request": {"http": {"method": "GET", "path": "/a%20b?x=1", "headers": {"content-type": "application/json"}, "body": "{\"a\": [1, 2.0]}"}}}}`,
		`{"attributes": {"request": {"http": {"path": "/", "headers": {"content-type": "multipart/form-data; boundary=b"}, "body": "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--"}}}}`,
		`{"attributes": {"source": {"principal": "spiffe://a/ns/b/sa/c"}, "metadataContext": {"filterMetadata": {"a": {"b": [1, null, {"c": "d"}]}}}}}`,
	} {
		seed, err := proto.Marshal(request(f, text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	in := httpcheck.NewInputs(eval.Limits{Members: 2000})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req authv3.CheckRequest
		if proto.Unmarshal(raw, &req) != nil {
			t.Skip()
		}
		input, err := in.Input(&httpcheck.Check{Request: &req})
		if input == nil {
			if err == nil {
				t.Fatal("neither an input nor an error")
			}
			return
		}
		encoded, err := eval.AppendJSON(nil, input)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := eval.ParseInput(encoded, eval.Limits{Depth: 200, Members: 1 << 20})
		if err != nil {
			t.Fatalf("%v in %s", err, encoded)
		}
		if again.Compare(input) != 0 {
			t.Fatalf("%s is read as %v", encoded, again)
		}
	})
}
