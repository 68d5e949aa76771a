package main_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestOPAModes runs a server with OPA's own authentication and authorization:
// they hold on OPA's paths, and nowhere else, and the token is kept nowhere.
func TestOPAModes(t *testing.T) {
	t.Parallel()
	const token = "secret-admin"
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--standard-policies=false", "--bundle", filepath.Join("..", "..", "testdata", "opa-cases", "authz"),
		"--set", "opa.authentication=token", "--set", "opa.authorization=basic", "--set", "log.level=debug",
	}})
	for _, tt := range []struct {
		method, path, token, body string
		status                    int
		want                      string
	}{
		{"GET", "/v1/data", "", "", 401, "request rejected by administrative policy"},
		{"GET", "/v1/data", token, "", 200, `"result"`},
		{"GET", "/v1/data", s.AdminToken(), "", 401, "request rejected"},
		{"PUT", "/v1/data/x", "reader", "1", 401, "readers may not write"},
		{"GET", "/metrics", "", "", 401, "unauthorized"},
		{"GET", "/nosuch", "", "", 401, "unauthorized"},
		{"POST", "/v1/data/app/echo", "", `{"input":{"open":"sesame"}}`, 200, `"result":{"open":"sesame"}`},
		{"POST", "/v1/query", token, `{"query":"x = 1"}`, 200, `{"result":[{"x":1}]}`},
		{"GET", "/api/v1/status", token, "", 401, `"status":401`},
		{"GET", "/api/v1/status", s.AdminToken(), "", 200, `"healthy":true`},
	} {
		a := s.Do(servertest.Request{Method: tt.method, Path: tt.path, Token: tt.token, Body: tt.body})
		if a.Status != tt.status || !strings.Contains(string(a.Body), tt.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, a.Status, a.Body, tt.status, tt.want)
		}
	}
	s.Stop()
	if strings.Contains(s.Stderr(), token) {
		t.Error("the token is logged")
	}
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(token)) {
			t.Errorf("%s has the token", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
