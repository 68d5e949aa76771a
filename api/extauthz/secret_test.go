package extauthz_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
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
	var header metadata.MD
	if _, err := c.Check(t.Context(), req, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	record, err := json.Marshal(c.Record(t, header["x-decision-id"][0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter", "QmVhcmVyIGh1bnRlcjI"} {
		if strings.Contains(string(record), secret) {
			t.Errorf("%s is in the record: %s", secret, record)
		}
	}
	if !strings.Contains(string(record), "text/html") {
		t.Errorf("more than credentials is hidden: %s", record)
	}
}
