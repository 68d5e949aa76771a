package extauthz_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/extauthz"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/pdp"
	"github.com/verdict-pdp/verdict/pdp/eval"
)

const policy = `package envoy.authz

allow := results[input.parsed_path[0]]

results["yes"] := true

results["no"] := false

results["headers"] := {
	"allowed": true, "headers": [{"x-user": "ada", "x-role": ["clerk", "auditor"]}, {"X-Role": "guest"}], "response_headers_to_add": {"x-seen": ["1", "2"]},
	"request_headers_to_remove": ["x-secret"], "query_parameters_to_set": {"q": "1"}, "query_parameters_to_remove": ["z"],
	"dynamic_metadata": {"plan": "gold"},
}

results["missing"] := {"allowed": false, "http_status": 404, "body": "no", "headers": {"x-why": "gone"}}

results["teapot"] := {"allowed": false, "http_status": 418}

results["text"] := "yes"

results["body"] := input.parsed_body.ok

results["cut"] := input.truncated_body

results["ip"] := input.context.network.ip == "192.0.2.7"

results["id"] := input.subject.id == "spiffe://example.org/ns/a/sa/b"

allow := true if input.parsed_path == ["broken"]
allow := false if input.parsed_path == ["broken"]

allow if {
	input.parsed_path == ["slow"]
	count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a * b == -1]) == 0
}
`

const other = "package other\n\ndecision := input.parsed_path[0] == \"here\""

// client is a connection to a server of its own.
type client struct {
	*grpc.ClientConn
	authv3.AuthorizationClient
	*pointtest.Point
	stop func()
}

func start(t testing.TB, gate extauthz.Gate, o extauthz.Options) *client {
	t.Helper()
	p := pointtest.New(t, policy, other)
	return serve(t, p, p.PDP, gate, o)
}

func serve(t testing.TB, p *pointtest.Point, point *pdp.PDP, gate extauthz.Gate, o extauthz.Options) *client {
	t.Helper()
	if gate == nil {
		gate = pointtest.Gate(t, api.GateOptions{})
	}
	s, err := extauthz.New(point, gate, o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln, nil) }() // ended by the clean-up
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		end()
	})
	return &client{ClientConn: conn, AuthorizationClient: authv3.NewAuthorizationClient(conn), Point: p, stop: end}
}

func get(path string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.7"}}},
		},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: path, Headers: map[string]string{"user-agent": "test", "x-request-id": "r-1"},
		}},
	}}
}

func TestCheck(t *testing.T) {
	c := start(t, nil, extauthz.Options{})
	post := func(body string, headers ...string) *authv3.CheckRequest {
		r := get("/body")
		r.Attributes.Request.Http.Body = body
		r.Attributes.Request.Http.Headers = map[string]string{"content-type": "application/json"}
		for i := 0; i < len(headers); i += 2 {
			r.Attributes.Request.Http.Headers[headers[i]] = headers[i+1]
		}
		return r
	}
	cut := post(`{"ok": `, "x-envoy-auth-partial-body", "true")
	cut.Attributes.Request.Http.Path = "/cut"
	known := get("/id")
	known.Attributes.Source.Principal = "spiffe://example.org/ns/a/sa/b"
	for _, tt := range []struct {
		name    string
		request *authv3.CheckRequest
		code    codes.Code // of the call
		allowed bool
		status  int32 // of a denial
		text    string
		outcome string
	}{
		{name: "allowed", request: get("/yes"), allowed: true, outcome: "success"},
		{name: "denied", request: get("/no"), status: 403, outcome: "failure"},
		{name: "denied by an object", request: get("/missing"), status: 404, text: "no", outcome: "failure"},
		{name: "status that Envoy does not know", request: get("/teapot"), code: codes.Unknown, outcome: "failure"},
		{name: "undefined", request: get("/none"), code: codes.Unknown, outcome: "failure"},
		{name: "no verdict", request: get("/text"), code: codes.Unknown, outcome: "success"},
		{name: "evaluation error", request: get("/broken"), code: codes.Unknown, outcome: "error"},
		{name: "body", request: post(`{"ok": true}`), allowed: true, outcome: "success"},
		{name: "body that denies", request: post(`{"ok": false}`), status: 403, outcome: "failure"},
		{name: "malformed body", request: post(`{"ok": `), status: 400, text: "request_parse_error: body: ", outcome: "error"},
		{name: "truncated body", request: cut, allowed: true, outcome: "success"},
		{name: "malformed path", request: get("/%zz"), status: 400, text: "request_parse_error: path: ", outcome: "error"},
		{name: "address", request: get("/ip"), allowed: true, outcome: "success"},
		{name: "certificate", request: known, allowed: true, outcome: "success"},
		{name: "nobody", request: get("/id"), code: codes.Unknown, outcome: "failure"},
		{name: "nothing", request: &authv3.CheckRequest{}, code: codes.Unknown, outcome: "failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header metadata.MD
			res, err := c.Check(t.Context(), tt.request, grpc.Header(&header))
			if status.Code(err) != tt.code {
				t.Fatalf("got %v", err)
			}
			id := strings.Join(header["x-decision-id"], ",")
			if err == nil {
				if got := res.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue(); got != id {
					t.Errorf("the metadata names the decision %q, the header %q", got, id)
				}
				if codes.Code(res.GetStatus().GetCode()) == codes.OK != tt.allowed {
					t.Errorf("got %v", res)
				}
				denied := res.GetDeniedResponse()
				if int32(denied.GetStatus().GetCode()) != tt.status || !strings.HasPrefix(denied.GetBody(), tt.text) {
					t.Errorf("got denial %v", denied)
				}
				added := append(res.GetOkResponse().GetResponseHeadersToAdd(), denied.GetHeaders()...)
				if !slices.ContainsFunc(added, func(h *corev3.HeaderValueOption) bool {
					return h.GetHeader().GetKey() == "x-decision-id" && h.GetHeader().GetValue() == id
				}) {
					t.Errorf("no header names the decision: %v", res)
				}
			}
			rec := c.Record(t, id)
			if rec["edge"] != "extauthz" || rec["outcome"] != tt.outcome || rec["path"] != "envoy/authz/allow" {
				t.Errorf("got record %v", rec)
			}
		})
	}
}

func TestObject(t *testing.T) {
	c := start(t, nil, extauthz.Options{})
	res, err := c.Check(t.Context(), get("/headers"))
	if err != nil {
		t.Fatal(err)
	}
	ok := res.GetOkResponse()
	pairs := func(list []*corev3.HeaderValueOption) (out []string) {
		for _, h := range list {
			if k := h.GetHeader().GetKey(); k != "x-decision-id" {
				sign := "="
				//lint:ignore SA1019 it is the field that ext_authz looks at
				if h.GetAppend().GetValue() {
					sign = "+="
				}
				out = append(out, k+sign+h.GetHeader().GetValue())
			}
		}
		return out
	}
	if got := pairs(ok.GetHeaders()); !slices.Equal(got, []string{"x-role=clerk", "x-role+=auditor", "x-user=ada", "X-Role+=guest"}) {
		t.Errorf("got headers %v", got)
	}
	if got := pairs(ok.GetResponseHeadersToAdd()); !slices.Equal(got, []string{"x-seen=1", "x-seen=2"}) {
		t.Errorf("got response headers %v", got)
	}
	if !slices.Equal(ok.GetHeadersToRemove(), []string{"x-secret"}) || !slices.Equal(ok.GetQueryParametersToRemove(), []string{"z"}) {
		t.Errorf("got %v", ok)
	}
	if q := ok.GetQueryParametersToSet(); len(q) != 1 || q[0].GetKey() != "q" || q[0].GetValue() != "1" {
		t.Errorf("got %v", q)
	}
	if got := res.GetDynamicMetadata().GetFields()["plan"].GetStringValue(); got != "gold" {
		t.Errorf("got metadata %v", res.GetDynamicMetadata())
	}
	rec := c.Record(t, res.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue())
	if rec["client_ip"] != "192.0.2.7" || rec["user_agent"] != "test" || rec["correlation_id"] != "r-1" || rec["action"] != "GET" || rec["resource"] != "http:/headers" {
		t.Errorf("got record %v", rec)
	}
}

// An evaluation of the standard policies that fails is a denial, whatever
// Envoy makes of errors.
func TestStandardErrorDenies(t *testing.T) {
	p := pointtest.New(t, "package verdict.authz\n\nhttp := {\"allowed\": true} if to_number(input.parsed_path[0]) == 1")
	c := serve(t, p, p.PDP, nil, extauthz.Options{Path: pdp.HTTPPath})
	for path, want := range map[string]codes.Code{"/1": codes.OK, "/x": codes.PermissionDenied} {
		res, err := c.Check(t.Context(), get(path))
		if err != nil || codes.Code(res.GetStatus().GetCode()) != want {
			t.Errorf("%s: got %v, %v", path, res, err)
		}
	}
}

func TestDryRun(t *testing.T) {
	c := start(t, nil, extauthz.Options{DryRun: true})
	for path, outcome := range map[string]string{"/yes": "success", "/no": "failure", "/none": "failure", "/broken": "error", "/%zz": "error", "/text": "success"} {
		res, err := c.Check(t.Context(), get(path))
		if err != nil || codes.Code(res.GetStatus().GetCode()) != codes.OK || res.GetOkResponse() == nil {
			t.Errorf("%s: got %v, %v", path, res, err)
			continue
		}
		if rec := c.Record(t, res.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()); rec["outcome"] != outcome {
			t.Errorf("%s: got record %v", path, rec)
		}
	}
}

func TestPathOverride(t *testing.T) {
	c := start(t, nil, extauthz.Options{Path: "envoy/authz/allow", PathOverrides: []string{"other/decision"}})
	ask := func(name, path string) (*authv3.CheckResponse, map[string]any) {
		t.Helper()
		r := get(path)
		r.Attributes.ContextExtensions = map[string]string{extauthz.PathExtension: name}
		res, err := c.Check(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return res, c.Record(t, res.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue())
	}
	if res, rec := ask("other/decision", "/here"); res.GetOkResponse() == nil || rec["path"] != "other/decision" {
		t.Errorf("got %v, record %v", res, rec)
	}
	for _, name := range []string{"envoy/authz/allow", "other/decision/", "data", ""} {
		res, rec := ask(name, "/yes")
		if res.GetDeniedResponse().GetStatus().GetCode() != 403 || rec["outcome"] != "error" {
			t.Errorf("%q: got %v, record %v", name, res, rec)
		}
	}
}

func TestPeers(t *testing.T) {
	elsewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for name, tt := range map[string]struct {
		o    api.GateOptions
		code codes.Code
	}{
		"loopback by default": {api.GateOptions{}, codes.OK},
		"others":              {api.GateOptions{Settings: api.AccessSettings{CheckPeers: elsewhere}}, codes.PermissionDenied},
		"the list of http":    {api.GateOptions{Settings: api.AccessSettings{TrustedPeers: elsewhere}}, codes.OK},
		"anybody with --dev":  {api.GateOptions{Dev: true, Settings: api.AccessSettings{CheckPeers: elsewhere}}, codes.OK},
	} {
		c := start(t, pointtest.Gate(t, tt.o), extauthz.Options{})
		_, err := c.Check(t.Context(), get("/yes"))
		_, health := healthpb.NewHealthClient(c).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if status.Code(err) != tt.code || status.Code(health) != tt.code {
			t.Errorf("%s: got %v, health %v", name, err, health)
		}
	}
}

func TestDeadline(t *testing.T) {
	c := start(t, nil, extauthz.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Check(ctx, get("/slow")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

func TestUnrecorded(t *testing.T) {
	engine, err := eval.New(eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{false, true} {
		c := serve(t, nil, pdp.New(engine, pointtest.Lost{}, pdp.Options{}), nil, extauthz.Options{DryRun: dry})
		if res, err := c.Check(t.Context(), get("/yes")); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, %v", res, err)
		}
	}
}

func TestOverload(t *testing.T) {
	gate := pointtest.Gate(t, api.GateOptions{Settings: api.AccessSettings{MaxInFlight: 1}})
	if busy := gate.Enter(); busy != nil {
		t.Fatal(busy)
	}
	c := start(t, gate, extauthz.Options{})
	if _, err := c.Check(t.Context(), get("/yes")); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
	gate.Leave()
	if _, err := c.Check(t.Context(), get("/yes")); err != nil {
		t.Error(err)
	}
}

func TestMessageLimit(t *testing.T) {
	c := start(t, nil, extauthz.Options{MaxReceiveMessage: 2048})
	if _, err := c.Check(t.Context(), get("/"+strings.Repeat("a", 4096))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestHealthAndReflection(t *testing.T) {
	var sick error
	c := start(t, nil, extauthz.Options{Healthy: func() error { return sick }})
	h := healthpb.NewHealthClient(c)
	for service, code := range map[string]codes.Code{"": codes.OK, "envoy.service.auth.v3.Authorization": codes.OK, "other": codes.NotFound} {
		res, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if status.Code(err) != code || err == nil && res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: got %v, %v", service, res, err)
		}
	}
	sick = context.Canceled
	watch, err := h.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := watch.Recv(); err != nil || res.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("got %v, %v", res, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []*reflectionpb.ServerReflectionRequest{
		{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}},
		{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "envoy.service.auth.v3.Authorization"}},
	} {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		res, err := stream.Recv()
		if err != nil || res.GetErrorResponse() != nil {
			t.Fatalf("got %v, %v", res, err)
		}
		if list := res.GetListServicesResponse(); list != nil && len(list.GetService()) != 4 {
			t.Errorf("got services %v", list)
		}
	}
}

// A stream ends when its peer may not ask any more, and when the server stops:
// long before those that are left are cut off.
func TestStreamsEnd(t *testing.T) {
	for why, want := range map[string]codes.Code{"stopped": codes.Unavailable, "refused": codes.PermissionDenied} {
		t.Run(why, func(t *testing.T) {
			gate := pointtest.Gate(t, api.GateOptions{})
			c := start(t, gate, extauthz.Options{Healthy: func() error { return nil }, Grace: time.Minute})
			watch, err := healthpb.NewHealthClient(c).Watch(t.Context(), &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			reflect, err := reflectionpb.NewServerReflectionClient(c).ServerReflectionInfo(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := reflect.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
				t.Fatal(err)
			}
			_, first := watch.Recv()
			_, second := reflect.Recv()
			if first != nil || second != nil {
				t.Fatal(first, second)
			}
			begin := time.Now()
			if why == "stopped" {
				c.stop()
			} else {
				commit, err := gate.Prepare(api.AccessSettings{CheckPeers: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
				if err != nil {
					t.Fatal(err)
				}
				commit()
			}
			_, first = watch.Recv()
			_, second = reflect.Recv()
			if status.Code(first) != want || status.Code(second) != want || time.Since(begin) > 20*time.Second {
				t.Errorf("after %s: %v, %v", time.Since(begin), first, second)
			}
		})
	}
}

func TestStale(t *testing.T) {
	p := pointtest.New(t)
	m, err := eval.ParseModule("m.rego", []byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	old := &eval.Bundle{Name: "old", Revision: "r1", Roots: []string{"envoy"}, Modules: []*eval.Module{m}}
	if _, err := p.Engine().Write(func(d *eval.Draft) error { return d.SetBundles([]*eval.Bundle{old}) }); err != nil {
		t.Fatal(err)
	}
	p.Engine().SetExpiry([]eval.Expiring{{Name: "old", MaxAge: time.Hour}})
	c := serve(t, p, p.PDP, nil, extauthz.Options{})
	if _, err := c.Check(t.Context(), get("/yes")); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "policy_stale") {
		t.Errorf("got %v", err)
	}
}
