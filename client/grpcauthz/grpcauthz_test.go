package grpcauthz_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/verdict-pdp/verdict/client"
	"github.com/verdict-pdp/verdict/client/grpcauthz"
)

const (
	check = "/grpc.health.v1.Health/Check"
	watch = "/grpc.health.v1.Health/Watch"
)

// health answers with the reasons of the decision that has let a call in.
type health struct {
	healthpb.UnimplementedHealthServer
	seen client.Decision
}

// Check implements the service.
func (h *health) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.seen, _ = client.FromContext(ctx)
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// Watch implements the service.
func (h *health) Watch(_ *healthpb.HealthCheckRequest, s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	h.seen, _ = client.FromContext(s.Context())
	return s.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING})
}

func ana(context.Context, *grpcauthz.Call) (client.Entity, error) {
	return client.Entity{Type: "user", ID: "ana"}, nil
}

// named finds the resource in the message of a unary call.
func named(_ context.Context, c *grpcauthz.Call) (client.Entity, error) {
	r, ok := c.Message.(*healthpb.HealthCheckRequest)
	if !ok {
		return client.Entity{}, errors.New("no message")
	}
	return client.Entity{ID: r.Service}, nil
}

// dial starts a server whose guard asks a PDP that gives one answer, and notes the
// last question.
func dial(t *testing.T, subject grpcauthz.Derive, o grpcauthz.Options, code int, answer string) (healthpb.HealthClient, *health, *string) {
	t.Helper()
	var asked string
	pdp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.URL.Path + " " + r.Header.Get("Traceparent") + " " + string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(pdp.Close)
	c, err := client.New(pdp.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := grpcauthz.New(c, subject, o)
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(grpc.UnaryInterceptor(g.Unary()), grpc.StreamInterceptor(g.Stream())), &health{}
	healthpb.RegisterHealthServer(s, h)
	ln := bufconn.Listen(1 << 16)
	go func() { _ = s.Serve(ln) }() // ends with Stop
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("passthrough:///pdp", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return healthpb.NewHealthClient(conn), h, &asked
}

// call makes the unary or the streaming call.
func call(t *testing.T, c healthpb.HealthClient, method string) error {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-trace")
	if method == check {
		_, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: "orders"})
		return err
	}
	s, err := c.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	return err
}

func TestInterceptors(t *testing.T) {
	const permit, deny = `{"decision": true, "context": {"decision_id": "7"}}`, `{"decision": false, "context": {"decision_id": "7", "reasons": [{"detail": "inside"}]}}`
	read := grpcauthz.Rule{Permission: "health.read"}
	nobody := func(context.Context, *grpcauthz.Call) (client.Entity, error) {
		return client.Entity{}, client.ErrUnauthenticated
	}
	empty := func(context.Context, *grpcauthz.Call) (client.Entity, error) { return client.Entity{}, nil }
	fault := func(context.Context, *grpcauthz.Call) (client.Entity, error) {
		return client.Entity{}, errors.New("inside")
	}
	for _, tt := range []struct {
		name    string
		method  string // check and watch when it is empty
		subject grpcauthz.Derive
		rule    grpcauthz.Rule
		under   string // the key of the rule; empty: the method
		o       grpcauthz.Options
		status  int
		answer  string
		code    codes.Code
		reason  string
		asked   string
	}{
		{name: "allowed", rule: read, answer: permit, asked: `/access/v1/evaluation 00-trace {"subject":{"type":"user","id":"ana"},"action":{"name":"read"},"resource":{"type":"health","id":"*"}}`},
		{name: "for the whole service", rule: read, under: "/grpc.health.v1.Health/*", answer: permit},
		{name: "with a resource", method: check, rule: grpcauthz.Rule{Permission: "health.read", Resource: named}, answer: permit, asked: `"resource":{"type":"health","id":"orders"}`},
		{name: "with a context", rule: read, answer: permit, asked: `"context":{"policy":"user"}`, o: grpcauthz.Options{Context: func(context.Context, *grpcauthz.Call) (map[string]any, error) {
			return map[string]any{"policy": "user"}, nil
		}}},
		{name: "a role", rule: grpcauthz.Rule{Role: "admin"}, answer: `{"decision_id": "7", "result": {"allow": true}}`, asked: `/v1/data/verdict/authz/role 00-trace`},
		{name: "open", rule: grpcauthz.Rule{Open: true}, answer: deny},
		{name: "denied", rule: read, answer: deny, code: codes.PermissionDenied, reason: grpcauthz.ReasonDenied},
		{name: "a role denied", rule: grpcauthz.Rule{Role: "admin"}, answer: `{"decision_id": "7", "result": {"allow": false}}`, code: codes.PermissionDenied, reason: grpcauthz.ReasonDenied},
		{name: "another service's rule", rule: read, under: "/grpc.health.v1.Other/*", answer: permit, code: codes.PermissionDenied, reason: grpcauthz.ReasonNoRule},
		{name: "step-up", rule: read, answer: `{"decision": false, "context": {"decision_id": "7", "obligations": [{"id": "s", "type": "step-up", "properties": {"acr_values": ["a"], "max_age": 60}}]}}`, code: codes.Unauthenticated, reason: grpcauthz.ReasonStepUp},
		{name: "an obligation", rule: read, answer: `{"decision": true, "context": {"decision_id": "7", "obligations": [{"id": "s", "type": "x"}]}}`, code: codes.PermissionDenied, reason: grpcauthz.ReasonObligation},
		{name: "an obligation that is carried out", rule: read, o: grpcauthz.Options{Fulfils: []string{"x"}}, answer: `{"decision": true, "context": {"decision_id": "7", "obligations": [{"id": "s", "type": "x"}]}}`},
		{name: "nobody", subject: nobody, rule: read, answer: permit, code: codes.Unauthenticated, reason: grpcauthz.ReasonUnauthenticated},
		{name: "an empty subject", subject: empty, rule: read, answer: permit, code: codes.Unauthenticated, reason: grpcauthz.ReasonUnauthenticated},
		{name: "a fault", subject: fault, rule: read, answer: permit, code: codes.Internal},
		{name: "a fault of the resource", method: watch, rule: grpcauthz.Rule{Permission: "health.read", Resource: named}, answer: permit, code: codes.Internal},
		{name: "a resource without an id", rule: grpcauthz.Rule{Permission: "health.read", Resource: empty}, answer: permit, code: codes.Internal},
		{name: "unavailable", rule: read, status: 503, answer: `"no"`, code: codes.Unavailable, reason: grpcauthz.ReasonUnavailable},
		{name: "not understood", rule: read, answer: `{}`, code: codes.Unavailable, reason: grpcauthz.ReasonUnavailable},
	} {
		methods := []string{check, watch}
		if tt.method != "" {
			methods = []string{tt.method}
		}
		for _, method := range methods {
			t.Run(tt.name+method, func(t *testing.T) {
				under := tt.under
				if under == "" {
					under = method
				}
				o := tt.o
				o.Rules = map[string]grpcauthz.Rule{under: tt.rule}
				subject := tt.subject
				if subject == nil {
					subject = ana
				}
				c, h, asked := dial(t, subject, o, max(tt.status, 200), tt.answer)
				err := call(t, c, method)
				if status.Code(err) != tt.code || (h.seen.ID == "7") != (tt.code == codes.OK && !tt.rule.Open) {
					t.Fatalf("got %v, the handler saw %+v", err, h.seen)
				}
				if !strings.Contains(*asked, tt.asked) {
					t.Errorf("asked %s", *asked)
				}
				if err != nil {
					lookAt(t, err, tt.reason)
				}
			})
		}
	}
}

// lookAt checks the details of a refusal.
func lookAt(t *testing.T, err error, reason string) {
	t.Helper()
	if strings.Contains(err.Error(), "inside") {
		t.Errorf("the error tells what is inside: %v", err)
	}
	info := &errdetails.ErrorInfo{}
	for _, detail := range status.Convert(err).Details() {
		if found, ok := detail.(*errdetails.ErrorInfo); ok {
			info = found
		}
	}
	if info.Reason != reason {
		t.Errorf("reason %q, want %q", info.Reason, reason)
	}
	if reason == grpcauthz.ReasonDenied && info.Metadata["decision_id"] != "7" {
		t.Errorf("metadata %v", info.Metadata)
	}
	if reason == grpcauthz.ReasonStepUp && (info.Metadata["acr_values"] != "a" || info.Metadata["max_age"] != "60") {
		t.Errorf("metadata %v", info.Metadata)
	}
}

func TestRulesAreValidated(t *testing.T) {
	c, err := client.New("http://127.0.0.1:1", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method string
		rule   grpcauthz.Rule
	}{
		{check, grpcauthz.Rule{}},
		{check, grpcauthz.Rule{Permission: "a.b", Open: true}},
		{check, grpcauthz.Rule{Permission: "a.b", Role: "c"}},
		{check, grpcauthz.Rule{Permission: "read"}},
		{check, grpcauthz.Rule{Role: "a", Resource: named}},
		{"Check", grpcauthz.Rule{Open: true}},
		{"/Check", grpcauthz.Rule{Open: true}},
		{"//Check", grpcauthz.Rule{Open: true}},
		{"/a/b/c", grpcauthz.Rule{Open: true}},
	} {
		if _, err := grpcauthz.New(c, ana, grpcauthz.Options{Rules: map[string]grpcauthz.Rule{tt.method: tt.rule}}); err == nil {
			t.Errorf("%s %+v is taken", tt.method, tt.rule)
		}
	}
	if _, err := grpcauthz.New(nil, ana, grpcauthz.Options{}); err == nil {
		t.Error("no client is taken")
	}
	if _, err := grpcauthz.New(c, nil, grpcauthz.Options{}); err == nil {
		t.Error("no subject is taken")
	}
}
