package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/verdict-pdp/verdict/client"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestMain runs the tests beside a server in development mode, whose address is
// in VERDICT_URL, and its token in VERDICT_TOKEN, with the example organisation.
func TestMain(m *testing.M) {
	o := servertest.Options{Args: []string{"--set", "limits.evaluation=20s", "--set", "authzen.search_timeout=30s"}}
	os.Exit(servertest.Main(m, o, func(s *servertest.Server) {
		os.Setenv("VERDICT_URL", s.URL)
		os.Setenv("VERDICT_TOKEN", s.AdminToken())
	}))
}

func newClient() *client.Client {
	c, err := client.New(os.Getenv("VERDICT_URL"), client.Options{Timeout: patience})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func clerk(action, bill, tenant string) client.Request {
	return client.Request{
		Subject: client.Entity{Type: "user", ID: "ana", Properties: map[string]any{
			"roles": []string{"billing_clerk"}, "tenant": "north",
		}},
		Action:   client.Action{Name: action},
		Resource: client.Entity{Type: "billing", ID: bill, Properties: map[string]any{"tenant": tenant}},
	}
}

func ExampleClient_Authorize() {
	c, err := client.New(os.Getenv("VERDICT_URL"), client.Options{Timeout: patience})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, tenant := range []string{"north", "south"} {
		d, err := c.Authorize(context.Background(), client.Request{
			Subject: client.Entity{Type: "user", ID: "ana", Properties: map[string]any{
				"roles": []string{"billing_clerk"}, "tenant": "north",
			}},
			Action:   client.Action{Name: "read"},
			Resource: client.Entity{Type: "billing", ID: "b-1", Properties: map[string]any{"tenant": tenant}},
		})
		if err != nil {
			log.Fatal(err) // no decision: this is a denial too
		}
		fmt.Println(d.Allowed, d.Reasons[0].Code)
	}
	// Output:
	// true permission_granted
	// false tenant_mismatch
}

func ExampleClient_Enforce() {
	c := newClient()
	_, err := c.Enforce(context.Background(), clerk("delete", "b-1", "north"))
	if denied, ok := errors.AsType[*client.DeniedError](err); ok {
		fmt.Println(denied.Decision.Outcome, denied.Decision.Reasons[0].Code)
	}
	// Output: not_applicable permission_unknown
}

func ExampleClient_AuthorizeAll() {
	c := newClient()
	decisions, err := c.AuthorizeAll(context.Background(), client.ExecuteAll,
		clerk("read", "b-1", "north"), clerk("update", "b-1", "north"), clerk("read", "b-2", "south"))
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range decisions {
		fmt.Println(d.Allowed)
	}
	// Output:
	// true
	// true
	// false
}

func ExampleClient_Query() {
	c := newClient()
	var problems []struct{ Code, Policy string }
	if _, err := c.Query(context.Background(), "verdict/authz/problems", nil, &problems); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(problems), "problems")
	_, err := c.Query(context.Background(), "no/such/path", nil, &problems)
	fmt.Println(errors.Is(err, client.ErrUndefined))
	// Output:
	// 0 problems
	// true
}

func ExampleClient_SearchResources() {
	c := newClient()
	q := client.Request{
		Subject: client.Entity{Type: "user", ID: "ana", Properties: map[string]any{
			"roles": []string{"support_agent"}, "tenant": "north",
		}},
		Action:   client.Action{Name: "read"},
		Resource: client.Entity{Type: "customer"},
	}
	for found, err := range c.SearchResources(context.Background(), q, client.Search{Page: 1}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(found.Type, found.ID)
	}
	// Output: customer c-1001
}

func ExampleGuard_RequirePermission() {
	c := newClient()
	// session is the service's own: whoever it has authenticated.
	session := func(r *http.Request) (client.Entity, error) {
		user, _, ok := r.BasicAuth()
		if !ok {
			return client.Entity{}, client.ErrUnauthenticated
		}
		return client.Entity{Type: "user", ID: user, Properties: map[string]any{
			"roles": []string{"customer_service"}, "tenant": "north",
		}}, nil
	}
	bill := func(r *http.Request) (client.Entity, error) {
		return client.Entity{ID: r.PathValue("id"), Properties: map[string]any{"tenant": "north"}}, nil
	}
	guard := client.NewGuard(c, session, client.GuardOptions{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := client.FromContext(r.Context())
		fmt.Fprintln(w, d.Reasons[0].Detail)
	})
	mux := http.NewServeMux()
	mux.Handle("GET /bills/{id}", guard.RequirePermission("billing.read", bill)(handler))
	mux.Handle("PUT /bills/{id}", guard.RequirePermission("billing.update", bill)(handler))
	mux.Handle("GET /admin", guard.RequireRole("org_admin")(handler))

	for _, ask := range []struct{ method, path, user string }{
		{"GET", "/bills/b-1", "ana"}, {"PUT", "/bills/b-1", "ana"}, {"GET", "/bills/b-1", ""}, {"GET", "/admin", "ana"},
	} {
		r, w := httptest.NewRequest(ask.method, ask.path, nil), httptest.NewRecorder()
		if ask.user != "" {
			r.SetBasicAuth(ask.user, "")
		}
		mux.ServeHTTP(w, r)
		fmt.Println(ask.method, ask.path, w.Code)
	}
	// Output:
	// GET /bills/b-1 200
	// PUT /bills/b-1 403
	// GET /bills/b-1 401
	// GET /admin 403
}
