package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// pageConfig is the configuration of docs/pulling.md with other texts in it.
func pageConfig(t *testing.T, replace ...string) string {
	t.Helper()
	page := components.Configure(t, "../../docs/pulling.md", replace...)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("docs/pulling.md has no configuration")
	}
	return block[1]
}

// sourceState is what the status says of the source of a bundle.
func sourceState(t *testing.T, s *servertest.Server, name string) map[string]any {
	list, _ := s.Do(servertest.Request{Path: "/api/v1/status", Token: s.AdminToken()}).JSON(t)["bundle_sources"].([]any)
	for _, entry := range list {
		if source, _ := entry.(map[string]any); source["name"] == name {
			return source
		}
	}
	return nil
}

// TestPullsFromVerdict: a verdict pulls from another one by the configuration of
// the page, follows it, takes other sources by SIGHUP, and goes on without it.
func TestPullsFromVerdict(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPair(t, dir, key, key.Public())
	up := servertest.Start(t, servertest.Options{})
	put := func(name string, body []byte) {
		t.Helper()
		wantStatus(t, up.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + name, Body: body, Token: up.AdminToken()}), http.StatusOK)
	}
	push := func(revision string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "shop"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			".manifest": fmt.Sprintf(`{"revision": %q, "roots": ["shop"]}`, revision),
			"p.rego":    fmt.Sprintf("package shop\n\nrevision := %q\n", revision),
		} {
			if err := os.WriteFile(filepath.Join(dir, "shop", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		command(t, dir, true, "verdict", "bundle", "build", "shop", "--out", "shop.tar.gz", "--signing-key", "private.pem", "--key-id", "ci-2026")
		packed, err := os.ReadFile(filepath.Join(dir, "shop.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		put("shop", packed)
	}
	push("r1")
	token := filepath.Join(dir, "bundles-token")
	if err := os.WriteFile(token, []byte(newToken(t, up.Dir, "edge", "bundles:*:read")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "verdict.yaml")
	write := func(more string) {
		t.Helper()
		text := pageConfig(t, "/etc/verdict/ci.pem", filepath.Join(dir, "public.pem"), "/etc/verdict/bundles-token", token,
			"https://bundles.internal:8443", up.URL, "      tls: {ca_file: /etc/verdict/bundles-ca.pem}\n", "", "min_delay: 10s", "min_delay: 1s", "max_delay: 30s", "max_delay: 1s")
		if err := os.WriteFile(config, []byte(text+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	s := servertest.Start(t, servertest.Options{Args: []string{"--config", config}})
	says := func(want string) {
		t.Helper()
		eventually(t, s, func() error {
			if a := s.Decide("shop/revision", nil); !strings.Contains(string(a.Body), want) {
				return fmt.Errorf("%s, want %s: %v", a.Body, want, sourceState(t, s, "shop"))
			}
			return nil
		})
	}
	says(`"r1"`)
	push("r2")
	says(`"r2"`)
	eventually(t, s, func() error {
		if state := sourceState(t, s, "shop"); state["state"] != "ok" || state["current"] != true || state["revision"] != "r2" || state["long_polling"] != true {
			return fmt.Errorf("status %v", state)
		}
		return nil
	})
	if got := s.Metric(`verdict_bundle_source_requests_total{bundle="shop",result="activated"}`); got != 2 {
		t.Errorf("%v bundles activated by the metric", got)
	}
	records := s.Do(servertest.Request{Path: "/api/v1/audit/records?from=0&limit=1000", Token: s.AdminToken()})
	wantStatus(t, records, http.StatusOK, `"requested_by":"source:shop"`, `"edge":"pull"`, `"source":"`+up.URL+`/bundles/shop"`)

	// What nobody signed does not pass; a bad entry refuses the whole list.
	put("bare", shop(t, "bare", "b1"))
	bare := fmt.Sprintf("    - {name: bare, url: %q, token_file: %q}\n", up.URL, token)
	write(bare + "    - {name: bad, url: \"http://127.0.0.1:1\", token_file: /nowhere}\n")
	hangUp(t, s, "the old one stays")
	if said := s.Stderr(); !strings.Contains(said, "bundles.sources[2].token_file") || sourceState(t, s, "bare") != nil {
		t.Errorf("a bad source: %s", said)
	}
	write(bare)
	hangUp(t, s, "read again\"")
	eventually(t, s, func() error {
		if state := sourceState(t, s, "bare"); state["state"] != "refused" || !strings.Contains(fmt.Sprint(state["last_error"]), "gate signature") {
			return fmt.Errorf("status %v", state)
		}
		return nil
	})
	write("")
	hangUp(t, s, "read again\"")
	if state := sourceState(t, s, "bare"); state != nil {
		t.Errorf("a source that is gone: %v", state)
	}

	// A rollback here is not undone by the source, nor by a start.
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/bundles/shop/rollback", Body: map[string]any{}, Token: s.AdminToken()}), http.StatusOK)
	up.Kill()
	s.Stop()
	s = servertest.Start(t, servertest.Options{Dir: s.Dir, Args: []string{"--config", config}})
	says(`"r1"`)
	eventually(t, s, func() error {
		if state := sourceState(t, s, "shop"); state["state"] != "failing" || state["last_success"] != nil {
			return fmt.Errorf("status %v", state)
		}
		return nil
	})
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
	s.Stop()
}

// TestPullsFromNginx: a plain web server is a bundle server too.
func TestPullsFromNginx(t *testing.T) {
	t.Parallel()
	program, dir, addr := components.Path(t, "nginx"), t.TempDir(), components.Address(t)
	if err := os.Mkdir(filepath.Join(dir, "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	publish := func(revision string) {
		t.Helper()
		file := filepath.Join(dir, "www", "shop.tar.gz")
		if err := os.WriteFile(file+".new", shop(t, "shop", revision), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {}
http {
    access_log access.log;
    client_body_temp_path tmp_body;
    proxy_temp_path tmp_proxy;
    fastcgi_temp_path tmp_fastcgi;
    uwsgi_temp_path tmp_uwsgi;
    scgi_temp_path tmp_scgi;
    server { listen %s; root www; }
}
`, addr))
	components.Start(t, dir, addr, program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	s := servertest.Start(t, servertest.Options{Args: []string{
		"--set", fmt.Sprintf("bundles.sources=[{name: shop, url: 'http://%s/shop.tar.gz', polling: {min_delay: 1s, max_delay: 1s, long_polling_timeout: 1m}}]", addr),
	}})
	health := func(query string) int { return s.Do(servertest.Request{Path: "/health" + query}).Status }
	if plain, all := health(""), health("?bundles"); plain != http.StatusOK || all != http.StatusInternalServerError {
		t.Errorf("without the bundle: health %d and %d", plain, all)
	}
	for _, revision := range []string{"r1", "revision2"} {
		publish(revision)
		eventually(t, s, func() error {
			if a := s.Decide("shop/revision", nil); !strings.Contains(string(a.Body), revision) {
				return fmt.Errorf("%s: %v", a.Body, sourceState(t, s, "shop"))
			}
			return nil
		})
	}
	eventually(t, s, func() error {
		if s.Metric(`verdict_bundle_source_requests_total{bundle="shop",result="unchanged"}`) < 1 {
			return fmt.Errorf("no 304 yet: %v", sourceState(t, s, "shop"))
		}
		return nil
	})
	if all := health("?bundles"); all != http.StatusOK {
		t.Errorf("with the bundle: health %d", all)
	}
	s.Stop()
}
