package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// tarball packs files by name.
func tarball(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	tw := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// shop is a bundle whose rule tells its revision.
func shop(t *testing.T, name, revision string) []byte {
	return tarball(t, map[string]string{
		".manifest": fmt.Sprintf(`{"revision": %q, "roots": [%q]}`, revision, name),
		"p.rego":    fmt.Sprintf("package %s\n\nrevision := %q\n", name, revision),
	})
}

func wantStatus(t *testing.T, a *servertest.Answer, status int, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(string(a.Body), part) {
			t.Errorf("no %s in %s", part, a.Body)
		}
	}
	if a.Status != status {
		t.Errorf("status %d, want %d: %s", a.Status, status, a.Body)
	}
}

func TestBundlesOverHTTP(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	token := s.AdminToken()
	push := func(path string, body any, header map[string]string) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/" + path, Body: body, Token: token, Header: header})
	}
	get := func(path string) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Path: "/api/v1/" + path, Token: token})
	}
	says := func(want string) {
		t.Helper()
		wantStatus(t, s.Decide("shop/revision", nil), http.StatusOK, want)
	}
	one := shop(t, "shop", "v/1 \"ä\"")
	sum := sha256.Sum256(one)
	first := push("shop", one, map[string]string{"Content-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"})
	wantStatus(t, first, http.StatusOK, `"status":"active"`)
	tag := first.Header.Get("ETag")
	if a := get("bundles/shop"); a.Header.Get("ETag") != tag || tag == "" {
		t.Errorf("tags %q and %q", tag, a.Header.Get("ETag"))
	}
	wantStatus(t, push("shop", shop(t, "shop", "v2"), map[string]string{"If-Match": `"v0"`}), http.StatusPreconditionFailed, `"precondition_failed"`, `"field":"If-Match"`)
	wantStatus(t, push("shop", shop(t, "shop", "v2"), map[string]string{"If-None-Match": "*"}), http.StatusPreconditionFailed, `"field":"If-None-Match"`)
	wantStatus(t, push("shop", shop(t, "shop", "v2"), map[string]string{"If-None-Match": `"v0"`}), http.StatusBadRequest, `"field":"If-None-Match"`)
	wantStatus(t, push("shop?dry_run=true", shop(t, "shop", "v2"), map[string]string{"If-Match": tag}), http.StatusOK, `"status":"dry_run"`)
	wantStatus(t, push("shop?activate=false", shop(t, "shop", "v2"), map[string]string{"If-Match": tag}), http.StatusOK, `"status":"kept"`)
	says(`v/1`)
	wantStatus(t, push("shop?activate=perhaps", one, nil), http.StatusBadRequest, `"field":"activate"`)
	wantStatus(t, push("shop?dryrun=true", shop(t, "shop", "v2"), nil), http.StatusBadRequest, `"field":"dryrun"`, "dry_run")
	wantStatus(t, push("shop?dry_run=false&dry_run=true", shop(t, "shop", "v2"), nil), http.StatusBadRequest, `"field":"dry_run"`)
	says(`v/1`)
	wantStatus(t, push("shop", one, map[string]string{"Content-Encoding": "gzip"}), http.StatusUnsupportedMediaType)
	wantStatus(t, push("shop", one, map[string]string{"Content-Digest": "sha-256=:AAAA:"}), http.StatusBadRequest, `"digest_mismatch"`, `"field":"Content-Digest"`)
	wantStatus(t, push("a%2Fb", one, nil), http.StatusBadRequest, `"name_invalid"`, `"field":"name"`)
	wantStatus(t, push("shop", "no tarball", nil), http.StatusBadRequest, `"gate":"archive"`)
	wantStatus(t, push("shop", tarball(t, map[string]string{"../x": ""}), nil), http.StatusBadRequest, `"gate":"archive"`, "leads out")
	wantStatus(t, push("shop", shop(t, "verdict/rbac/permitted", "v3"), nil), http.StatusUnprocessableEntity)
	wantStatus(t, push("other", shop(t, "shop", "v3"), nil), http.StatusUnprocessableEntity, `"gate":"roots"`)
	wantStatus(t, push("shop", tarball(t, map[string]string{".manifest": `{"roots": ["shop"]}`, "p.rego": "package shop\n\nx := y"}), nil), http.StatusUnprocessableEntity, `"gate":"compile"`, "rego_unsafe_var_error")
	says(`v/1`)

	post := func(path string, body any) *servertest.Answer {
		t.Helper()
		return s.Do(servertest.Request{Path: "/api/v1/" + path, Body: body, Token: token})
	}
	wantStatus(t, post("activations", map[string]any{"bundles": map[string]any{"shop": "v2"}}), http.StatusOK, `"kind":"activate"`)
	says(`"result":"v2"`)
	wantStatus(t, push("shop", one, nil), http.StatusConflict, `"revision_past"`, "/api/v1/bundles/shop/rollback")
	wantStatus(t, post("bundles/shop/rollback", map[string]any{"revision": "v9"}), http.StatusNotFound)
	wantStatus(t, post("bundles/shop/rollback", map[string]any{"to": "v9"}), http.StatusBadRequest, `"field":"to"`)
	wantStatus(t, post("bundles/shop/rollback", map[string]any{"revision": 9}), http.StatusBadRequest, `"field":"revision"`, "want a string")
	wantStatus(t, post("activations", map[string]any{"bundles": map[string]any{}}), http.StatusBadRequest, `"field":"bundles"`)
	wantStatus(t, post("activations", map[string]any{"bundles": map[string]any{"shp": nil}}), http.StatusNotFound, `there is no bundle`)
	wantStatus(t, post("bundles/shop/rollback", map[string]any{"revision": "v/1 \"ä\""}), http.StatusOK, `"kind":"rollback"`)
	says(`v/1`)
	if a := get("bundles/shop/revisions/" + "v%2F1%20%22%C3%A4%22" + "/archive"); !bytes.Equal(a.Body, one) || a.Header.Get("Repr-Digest") == "" {
		t.Errorf("archive: %d, %d bytes, %v", a.Status, len(a.Body), a.Header)
	}
	wantStatus(t, get("bundles/shop/revisions/v2"), http.StatusOK, `"status":"kept"`, `"pushed_from":"127.0.0.1"`)
	wantStatus(t, get("bundles/shop/revisions/v9"), http.StatusNotFound)
	wantStatus(t, get("bundles/shop/revisions?limit=1"), http.StatusOK, `"cursor":"2"`)
	wantStatus(t, get("bundles/shop/revisions?limit=x"), http.StatusBadRequest)
	wantStatus(t, get("bundles/shop/revisions?size=1"), http.StatusBadRequest, `"field":"size"`)
	wantStatus(t, get("bundles?cursor=x"), http.StatusBadRequest, `"field":"cursor"`)
	wantStatus(t, get("bundles/none"), http.StatusNotFound)
	wantStatus(t, get("bundles"), http.StatusOK, `"name":"shop"`)
	wantStatus(t, get("bundles/shop/diff?from=v2&to=v9"), http.StatusNotFound)
	wantStatus(t, get("bundles/shop/diff?from=v%2F1%20%22%C3%A4%22&to=v2"), http.StatusOK, `"changed":["data.shop.revision"]`)
	wantStatus(t, get("activations"), http.StatusOK, `"number":3`)

	decision := s.Decide("shop/revision", nil)
	if rec := s.Record(decision.DecisionID()); !strings.Contains(string(rec), `"shop":"v/1`) {
		t.Errorf("the decision's record does not name the revision: %s", rec)
	}
	wantStatus(t, get("audit/records?from=0"), http.StatusOK,
		`"event":"bundle_pushed"`, `"event":"bundle_refused"`, `"event":"bundle_activated"`, `"event":"bundle_rolled_back"`,
		`has no revision \"v9\" that is kept`, `there is no such member here`, `there is no such parameter`)

	s.Kill()
	s = servertest.Start(t, servertest.Options{Dir: s.Dir})
	says(`v/1`)
	wantStatus(t, push("shop", shop(t, "shop", "v2"), nil), http.StatusConflict, `"revision_past"`)
	s.Stop()
}

func TestBundleScopes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	tokens := map[string]string{}
	for _, scope := range []string{"bundles:shop", "bundles:shop:read", "bundles:*", "decide"} {
		tokens[scope] = newToken(t, s.Dir, "t-"+strings.NewReplacer(":", "-", "*", "all").Replace(scope), scope)
	}
	if !s.Eventually(func() error { // the server reads the file again now and then
		if a := s.Do(servertest.Request{Path: "/api/v1/bundles", Token: tokens["bundles:*"]}); a.Status != http.StatusOK {
			return fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return nil
	}) {
		t.Fatal("a new token is not taken")
	}
	for _, tt := range []struct {
		method, path string
		may          []string
	}{
		{http.MethodPut, "bundles/shop", []string{"bundles:shop", "bundles:*"}},
		{http.MethodPut, "bundles/other", []string{"bundles:*"}},
		{http.MethodGet, "bundles/shop", []string{"bundles:shop", "bundles:shop:read", "bundles:*"}},
		{http.MethodGet, "bundles/shop/revisions", []string{"bundles:shop", "bundles:shop:read", "bundles:*"}},
		{http.MethodGet, "bundles/shop/revisions/v1/archive", []string{"bundles:shop", "bundles:shop:read", "bundles:*"}},
		{http.MethodGet, "bundles/shop/diff?from=v1&to=v1", []string{"bundles:shop", "bundles:shop:read", "bundles:*"}},
		{http.MethodPost, "bundles/shop/rollback", []string{"bundles:shop", "bundles:*"}},
		{http.MethodPost, "bundles/shop/revisions/v1/stage", []string{"bundles:shop", "bundles:*"}},
		{http.MethodGet, "bundles/shop/stage", []string{"bundles:shop", "bundles:shop:read", "bundles:*"}},
		{http.MethodPost, "bundles/shop/stage/promote", []string{"bundles:shop", "bundles:*"}},
		{http.MethodDelete, "bundles/shop/stage", []string{"bundles:shop", "bundles:*"}},
		{http.MethodPost, "activations", []string{"bundles:*"}},
		{http.MethodGet, "bundles", []string{"bundles:*"}},
	} {
		for scope, token := range tokens {
			q := servertest.Request{Method: tt.method, Path: "/api/v1/" + tt.path, Token: token}
			if tt.method != http.MethodGet {
				q.Body = "{}"
			}
			a := s.Do(q)
			if may := slices.Contains(tt.may, scope); may == (a.Status == http.StatusForbidden) {
				t.Errorf("%s %s with %s: %d %s", tt.method, tt.path, scope, a.Status, a.Body)
			}
		}
		if a := s.Do(servertest.Request{Method: tt.method, Path: "/api/v1/" + tt.path}); a.Status != http.StatusUnauthorized {
			t.Errorf("%s %s without a token: %d", tt.method, tt.path, a.Status)
		}
	}
}

func TestUnsignedBundlesAreRefused(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Args: []string{"--set", "bundles.allow_unsigned=false"}})
	a := s.Do(servertest.Request{Method: http.MethodPut, Path: "/api/v1/bundles/shop", Body: shop(t, "shop", "v1"), Token: s.AdminToken()})
	wantStatus(t, a, http.StatusUnprocessableEntity, `"gate":"signature"`)
}
