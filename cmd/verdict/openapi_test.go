package main_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/authzen"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/api/openapi"
	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
)

// operation is what the description says of an operation.
type operation struct {
	ID        string   `json:"operationId"`
	Class     string   `json:"x-verdict-class"`
	Scopes    []string `json:"x-verdict-scopes"`
	AnyMethod bool     `json:"x-verdict-any-method"`
}

// described reads the operations of the description by method and path.
func described(t *testing.T) map[string]operation {
	t.Helper()
	raw, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	ops := map[string]operation{}
	for path, item := range doc.Paths {
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var op operation
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			ops[strings.ToUpper(method)+" "+path] = op
		}
	}
	return ops
}

// mounted lists the routes of the server as it is wired, by method and path. A
// route for every method, among which is CONNECT, has the method *.
func mounted(t *testing.T, r chi.Router, opaRoutes []string) map[string]bool {
	t.Helper()
	rest := regexp.MustCompile(`\{([a-z]+)\.\.\.\}`)
	routes, every := map[string]bool{}, map[string]bool{}
	add := func(method, path string) {
		if method == http.MethodConnect {
			every[path] = true
		}
		routes[method+" "+path] = true
	}
	err := chi.Walk(r, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if route != native.Unrouted && route != authzen.Unrouted { // which answers where there is no route
			add(method, strings.ReplaceAll(route, "*", "{path}"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range opaRoutes {
		method, path, ok := strings.Cut(pattern, " ")
		if !ok {
			t.Errorf("%s has no method", pattern)
		}
		add(method, strings.ReplaceAll(rest.ReplaceAllString(path, "{$1}"), "{$}", ""))
	}
	for route := range maps.Clone(routes) {
		if _, path, _ := strings.Cut(route, " "); every[path] {
			delete(routes, route)
			routes["* "+path] = true
		}
	}
	return routes
}

// TestOpenAPI compares the description with the routes of the server as it is
// wired: none without a description, no description without a route, and who may
// call as the gate has it.
func TestOpenAPI(t *testing.T) {
	var reached api.Class
	router, opaRoutes := verdict.Routes(t, func(rt api.Route) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				reached = rt.Class
				w.WriteHeader(http.StatusTeapot)
			})
		}
	})
	ops, routes := described(t), mounted(t, router, opaRoutes)
	if len(routes) < 50 {
		t.Fatalf("%d routes only: they are not found", len(routes))
	}
	for _, route := range slices.Sorted(maps.Keys(routes)) {
		method, path, _ := strings.Cut(route, " ")
		found := false
		for _, m := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} {
			_, ok := ops[m+" "+path]
			found = found || ok && (m == method || method == "*")
		}
		if !found {
			t.Errorf("%s has no description: add it to api/openapi (CONTRIBUTING.md tells how)", route)
		}
	}
	ids := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(ops)) {
		op := ops[name]
		method, path, _ := strings.Cut(name, " ")
		if !routes[name] && !routes["* "+path] {
			t.Errorf("%s is described, and there is no such route", name)
			continue
		}
		if other := ids[op.ID]; other != "" {
			t.Errorf("%s and %s have the same operationId", name, other)
		}
		ids[op.ID] = name
		target := regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(path, "7")
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code != http.StatusTeapot || reached.String() != op.Class {
			t.Errorf("%s is described with class %s, and has %s (%d)", name, op.Class, reached, w.Code)
		}
		if class, ok := api.ClassNamed(op.Class); !ok || !slices.Equal(op.Scopes, class.Access().Scopes) {
			t.Errorf("%s is described with scopes %q", name, op.Scopes)
		}
	}
}

// TestOpenAPIFile keeps docs/openapi.json what the server serves; with -update
// it is written.
func TestOpenAPIFile(t *testing.T) {
	want, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is not what the server serves; run make docs (%v)", err)
	}
}
