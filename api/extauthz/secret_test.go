package extauthz_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/verdict-pdp/verdict/api/extauthz"
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
)

// TestSecretsOfRawHeaders wants no credential in a record where Envoy sends
// headers as they came.
func TestSecretsOfRawHeaders(t *testing.T) {
	p := pointtest.New(t, policy)
	point := pdp.New(p.Engine(), p.Log, pdp.Options{MaskKeys: mask.NewKeys([]string{"authorization", "cookie"})})
	c := serve(t, p, point, nil, extauthz.Options{})
	req := get("/yes")
	req.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
		{Key: "Authorization", RawValue: []byte("Bearer hunter2")}, {Key: "cookie", Value: "sid=hunter3"}, {Key: "accept", Value: "text/html"},
	}}
	record := c.checked(t, req)
	for _, secret := range []string{"hunter", "QmVhcmVyIGh1bnRlcjI"} {
		if strings.Contains(record, secret) {
			t.Errorf("%s is in the record: %s", secret, record)
		}
	}
	if !strings.Contains(record, "text/html") {
		t.Errorf("more than credentials is hidden: %s", record)
	}
}

// TestSecretsInText wants what is masked in the parsed query and body to stand
// nowhere else in the record, and nothing else to be hidden.
func TestSecretsInText(t *testing.T) {
	p := pointtest.New(t, policy)
	point := pdp.New(p.Engine(), p.Log, pdp.Options{MaskKeys: mask.NewKeys([]string{"access_token", "password"})})
	c := serve(t, p, point, nil, extauthz.Options{})
	for _, tt := range []struct{ path, body, kind, secret, shown string }{
		{"/yes?q=1&access_token=hunter2", "", "", "hunter2", `"parsed_query":{"access_token":"***","q":["1"]}`},
		{"/yes", `{"user": "ada", "password": "hunter2"}`, "application/json", "hunter2", `"parsed_body":{"password":"***","user":"ada"}`},
		{"/yes", "user=ada&password=hunter2", "application/x-www-form-urlencoded", "hunter2", `"path":"/yes"`},
		{"/yes?q=1", `{"user": "ada"}`, "application/json", "", `"path":"/yes?q=1"`},
		{"/yes?q=1", `{"user": "ada"}`, "application/json", "", `"body":"{\"user\": \"ada\"}"`},
		{"/yes", `password=hunter2`, "text/plain", "hunter2", `"erased":["/input/attributes/request/http/body"]`},
		{"/yes", `{"password": "hunter2`, "application/json", "hunter2", `"erased":["/input/attributes/request/http/body"]`},
		{"/yes", `{"password": "hunter2`, "application/json; cut", "hunter2", `"truncated_body":true`},
	} {
		req := get(tt.path)
		req.Attributes.Request.Http.Body = tt.body
		req.Attributes.Request.Http.Headers[":path"] = tt.path
		req.Attributes.Request.Http.Headers["content-type"] = tt.kind
		if strings.HasSuffix(tt.kind, "cut") {
			req.Attributes.Request.Http.Headers["x-envoy-auth-partial-body"] = "true"
		}
		record := c.checked(t, req)
		if tt.secret != "" && strings.Contains(record, tt.secret) || !strings.Contains(record, tt.shown) {
			t.Errorf("%s %s: %s", tt.path, tt.body, record)
		}
	}
}

// checked is the record of a check, as JSON.
func (c *client) checked(t *testing.T, req *authv3.CheckRequest) string {
	t.Helper()
	var header metadata.MD
	if _, err := c.Check(t.Context(), req, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(c.Record(t, header["x-decision-id"][0]))
	if err != nil {
		t.Fatal(err)
	}
	return string(record)
}
