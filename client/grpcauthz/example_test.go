package grpcauthz_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/verdict-pdp/verdict/client"
	"github.com/verdict-pdp/verdict/client/grpcauthz"
)

// Caller is whoever the service has authenticated: here the address, where a real
// one would take the verified certificate or token.
func caller(ctx context.Context, _ *grpcauthz.Call) (client.Entity, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return client.Entity{}, client.ErrUnauthenticated
	}
	return client.Entity{Type: "service", ID: p.Addr.String()}, nil
}

func ExampleNew() {
	c, err := client.New("https://pdp.internal:8181", client.Options{Token: client.TokenFile("/run/secrets/verdict")})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := grpcauthz.New(c, caller, grpcauthz.Options{Rules: map[string]grpcauthz.Rule{
		"/shop.Bills/Get":              {Permission: "billing.read"},
		"/shop.Admin/*":                {Role: "org_admin"},
		"/grpc.health.v1.Health/Check": {Open: true},
	}})
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary()), grpc.StreamInterceptor(guard.Stream()))
	fmt.Println(len(server.GetServiceInfo()), "services")
	// Output: 0 services
}
