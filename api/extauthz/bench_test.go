package extauthz_test

import (
	"fmt"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/extauthz"
	"github.com/verdict-pdp/verdict/api/httpcheck"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

// typical is a check as Envoy sends it for a browser's request.
func typical(i int) *authv3.CheckRequest {
	r := get(fmt.Sprintf("/yes/%d?page=2", i))
	r.Attributes.Request.Http.Host = "shop.example"
	for k, v := range map[string]string{
		":authority": "shop.example", ":path": "/yes", ":method": "GET", ":scheme": "https", "accept": "*/*", "accept-encoding": "gzip",
		"authorization": "Bearer xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "x-forwarded-proto": "https", "x-envoy-internal": "true",
	} {
		r.Attributes.Request.Http.Headers[k] = v
	}
	return r
}

func BenchmarkInput(b *testing.B) {
	in, r := httpcheck.NewInputs(eval.Limits{}), typical(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Input(&httpcheck.Check{Request: r}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheck is a check without network; BenchmarkCall has it, and a log that
// writes to the disk, with 64 callers.
func BenchmarkCheck(b *testing.B) {
	p := pointtest.New(b, policy)
	s, err := extauthz.New(pdp.New(p.Engine(), pointtest.Nowhere{}, pdp.Options{}), pointtest.Gate(b, api.GateOptions{}), extauthz.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := s.Check(b.Context(), typical(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	c := start(b, nil, extauthz.Options{})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := c.Check(b.Context(), typical(i)); err != nil {
				b.Error(err)
			}
		}
	})
}
