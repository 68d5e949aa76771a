package main_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestGrpcurl has the real grpcurl find out by reflection what the server speaks,
// and call it.
func TestGrpcurl(t *testing.T) {
	t.Parallel()
	program := components.Path(t, "grpcurl")
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--standard-policies=false", "--bundle", testBundle(t, gatewayPolicy), "--set", "limits.evaluation=20s",
	}})
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, append([]string{"-plaintext"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("grpcurl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{s.GRPC, "list"}, "envoy.service.auth.v3.Authorization\ngrpc.health.v1.Health\ngrpc.reflection.v1.ServerReflection\n"},
		{[]string{s.GRPC, "list", "envoy.service.auth.v3.Authorization"}, "envoy.service.auth.v3.Authorization.Check\n"},
		{[]string{s.GRPC, "describe", "envoy.service.auth.v3.Authorization.Check"}, "rpc Check ( .envoy.service.auth.v3.CheckRequest ) returns ( .envoy.service.auth.v3.CheckResponse );"},
		{[]string{s.GRPC, "grpc.health.v1.Health/Check"}, `"status": "SERVING"`},
		{[]string{"-d", `{"service": "envoy.service.auth.v3.Authorization"}`, s.GRPC, "grpc.health.v1.Health/Check"}, `"status": "SERVING"`},
	} {
		if got := run(tt.args...); !strings.Contains(got, tt.want) {
			t.Errorf("grpcurl %q: got\n%s\nwant %s", tt.args, got, tt.want)
		}
	}
	for path, allowed := range map[string]bool{"/public": true, "/private": false} {
		out := run("-d", `{"attributes": {"request": {"http": {"method": "GET", "path": "`+path+`"}}}}`, s.GRPC, "envoy.service.auth.v3.Authorization/Check")
		var res struct {
			OK       *struct{} `json:"okResponse"`
			Denied   *struct{} `json:"deniedResponse"`
			Metadata struct {
				ID string `json:"decision_id"`
			} `json:"dynamicMetadata"`
		}
		if err := json.Unmarshal([]byte(out), &res); err != nil || (res.OK != nil) != allowed || (res.Denied != nil) == allowed || res.Metadata.ID == "" {
			t.Errorf("%s: got %s %v", path, out, err)
		}
		if raw := string(s.Record(res.Metadata.ID)); !strings.Contains(raw, `"edge":"extauthz"`) {
			t.Errorf("%s: the record is %s", path, raw)
		}
	}
}
