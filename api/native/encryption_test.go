package native_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/verdict-pdp/verdict/api"
	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/api/tokens"
	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp"
)

// cryptoSite is the API over a real service, for a caller with scopes.
func cryptoSite(t testing.TB, s *service.Service, scopes ...string) http.Handler {
	t.Helper()
	return cryptoSiteOf(t, native.Options{Encryption: s}, scopes...)
}

func cryptoSiteOf(t testing.TB, o native.Options, scopes ...string) http.Handler {
	t.Helper()
	store, err := tokens.Open(t.TempDir(), tokens.Options{})
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := store.Create(t.Context(), tokens.NewToken{Name: "shop", Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := api.NewGate(store, api.GateOptions{Settings: api.AccessSettings{CryptoBody: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	native.New(o).Mount(r, gate.Require)
	stack := gate.Stack(api.Main, r)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+secret)
		stack.ServeHTTP(w, r)
	})
}

func postCrypto(t testing.TB, h http.Handler, path, body string) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/"+path, strings.NewReader(body)))
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return w, answer
}

func quoted(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestEncryptAndDecrypt(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	for _, tt := range []struct{ value, want string }{
		{`"plaintext":"grüße \ud83d\ude00 <&>"`, "grüße \U0001F600 <&>"},
		{`"plaintext":""`, ""},
		{`"plaintext_base64":"YWI="`, "ab"},
		{`"plaintext_base64":"/w=="`, ""},
	} {
		for _, class := range []string{"internal", "CONFIDENTIAL", "restricted", "top_secret"} {
			w, a := postCrypto(t, h, "encrypt", `{"classification":"`+class+`",`+tt.value+`,"context":{"tenant":"t1","type":"x","id":"1","pointer":"/p"}}`)
			text, _ := a["ciphertext"].(string)
			if w.Code != http.StatusOK || !strings.HasPrefix(text, keys.Prefix) || w.Header().Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			w, a = postCrypto(t, h, "decrypt", `{"ciphertext":"`+text+`","context":{"tenant":"t1","type":"x","id":"1","pointer":"/p"}}`)
			binary := strings.Contains(tt.value, "/w==")
			if got, ok := a["plaintext"].(string); w.Code != http.StatusOK || got != tt.want || ok == binary || binary && a["plaintext_base64"] != "/w==" || a["classification"] != strings.ToLower(class) {
				t.Errorf("%s: %d %s", tt.value, w.Code, w.Body)
			}
			if a["decision_id"] == nil || a["decision_id"] != w.Header().Get("X-Decision-Id") {
				t.Errorf("decision %v", a["decision_id"])
			}
		}
	}
}

func TestBatch(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	w, a := postCrypto(t, h, "encrypt", `{"classification":"internal","context":{"tenant":"t1","type":"x"},"items":[
		{"plaintext":"a"},{"plaintext":"b","classification":"restricted","context":{"tenant":"t2"}},{"plaintext":"c","classification":"public"}]}`)
	items := a["items"].([]any)
	if w.Code != http.StatusOK || len(items) != 3 || items[2].(map[string]any)["error"].(map[string]any)["code"] != "classification_not_encrypted" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	text := func(i int) string { return items[i].(map[string]any)["ciphertext"].(string) }
	body := `{"context":{"tenant":"t1","type":"x"},"items":[{"ciphertext":"` + text(0) + `"},{"ciphertext":"` + text(1) + `","context":{"tenant":"t2"}},{"ciphertext":"` + text(1) + `"},{"ciphertext":"no"}]}`
	w, a = postCrypto(t, h, "decrypt", body)
	want := `[{"classification":"internal","plaintext":"a"},{"classification":"restricted","plaintext":"b"},{"error":{"code":"ciphertext_invalid","detail":"the ciphertext does not open in this context"}},{"error":{"code":"ciphertext_malformed","detail":"this is no ciphertext of the form vd1."}}]`
	if w.Code != http.StatusOK || quoted(a["items"]) != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w, a = postCrypto(t, h, "reencrypt", body)
	got := a["items"].([]any)
	if w.Code != http.StatusOK || got[0].(map[string]any)["ciphertext"] == text(0) || got[0].(map[string]any)["key_version"] != 1.0 || got[2].(map[string]any)["error"] == nil {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	rig.Backend.Before = func(string, string) error {
		return &keys.UnavailableError{Reason: keys.ReasonSealed, RetryAfter: 1500 * time.Millisecond}
	}
	w, a = postCrypto(t, h, "decrypt", `{"context":{"tenant":"t2","type":"x"},"items":[{"ciphertext":"`+text(1)+`"}]}`)
	if w.Code != http.StatusServiceUnavailable || a["code"] != "keys_unavailable" || a["reason"] != "sealed" || w.Header().Get("Retry-After") != "2" || w.Header().Get("X-Decision-Id") == "" {
		t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
	}
}

func TestDocuments(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	const document, context = `{ "b":1.50, "a":{"s":"<x>"},"list":[1,2] , "n":"Ana"}`, `"context":{"tenant":"t1","type":"x","id":"1"}`
	w, a := postCrypto(t, h, "encrypt", `{"document":`+document+`,"fields":{"/b":"restricted","/a/s":{"classification":"confidential"},"/list/*":"internal","/gone":{"classification":"internal","optional":true},"/n":"public"},`+context+`}`)
	if w.Code != http.StatusOK || len(a["fields"].([]any)) != 4 || strings.Contains(w.Body.String(), "<x>") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	sealed := quoted(a["document"])
	for _, fields := range []string{``, `"fields":"*",`, `"fields":["/b","/a/s","/list/*"],`, `"fields":{"/b":"restricted","/a/s":"confidential","/list/*":"internal","/n":"public"},`} {
		w, a = postCrypto(t, h, "decrypt", `{"document":`+sealed+`,`+fields+context+`}`)
		if w.Code != http.StatusOK || quoted(a["document"]) != quoted(json.RawMessage(`{"a":{"s":"<x>"},"b":1.5,"list":[1,2],"n":"Ana"}`)) || !strings.Contains(w.Body.String(), "1.50") {
			t.Errorf("%s: %d %s", fields, w.Code, w.Body)
		}
	}
	w, a = postCrypto(t, h, "decrypt", `{"document":`+sealed+`,"context":{"tenant":"t2","type":"x","id":"1"}}`)
	if w.Code != http.StatusUnprocessableEntity || a["code"] != "ciphertext_invalid" || a["pointer"] == nil {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestCryptoProblems(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	for _, tt := range []struct {
		path, body  string
		status      int
		code, field string
	}{
		{"encrypt", ``, 400, "invalid_parameter", ""},
		{"encrypt", `[]`, 400, "invalid_parameter", ""},
		{"encrypt", `{"context":{"tenant":"a","tenant":"b"}}`, 400, "invalid_parameter", "context"},
		{"encrypt", `{"plaintext":"x"}`, 400, "invalid_parameter", "classification"},
		{"encrypt", `{"classification":"secret","plaintext":"x"}`, 400, "invalid_parameter", "classification"},
		{"encrypt", `{"classification":"internal"}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"classification":"internal","plaintext":"x","plaintext_base64":"eA=="}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"classification":"internal","plaintext":1}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"classification":"internal","plaintext":"\ud800"}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"classification":"internal","plaintext_base64":"eA"}`, 400, "invalid_parameter", "plaintext_base64"},
		{"encrypt", `{"classification":"internal","plain":"x"}`, 400, "invalid_parameter", "plain"},
		{"encrypt", `{"classification":"internal","plaintext":"x","context":[]}`, 400, "invalid_parameter", "context"},
		{"encrypt", `{"classification":"internal","plaintext":"x","context":{"user":"u"}}`, 400, "invalid_parameter", "context.user"},
		{"encrypt", `{"classification":"internal","plaintext":"x","context":{"id":"` + strings.Repeat("i", 1001) + `"}}`, 400, "invalid_parameter", "context.id"},
		{"encrypt", `{"items":[]}`, 400, "invalid_parameter", "items"},
		{"encrypt", `{"items":[1]}`, 400, "invalid_parameter", "items[0]"},
		{"encrypt", `{"items":[{"classification":"internal","plaintext":"x"},{"plaintext":"x"}]}`, 400, "invalid_parameter", "items[1].classification"},
		{"encrypt", `{"items":[{"text":"x"}]}`, 400, "invalid_parameter", "items[0].text"},
		{"encrypt", `{"items":[{}],"plaintext":"x"}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"items":[{}],"document":{}}`, 400, "invalid_parameter", "items"},
		{"encrypt", `{"fields":{"/a":"internal"}}`, 400, "invalid_parameter", "fields"},
		{"encrypt", `{"document":{}}`, 400, "invalid_parameter", "fields"},
		{"encrypt", `{"document":{},"fields":{}}`, 400, "invalid_parameter", "fields"},
		{"encrypt", `{"document":{},"fields":["/a"]}`, 400, "invalid_parameter", "fields"},
		{"encrypt", `{"document":{"a":1},"fields":{"a":"internal"}}`, 400, "invalid_parameter", `fields["a"]`},
		{"encrypt", `{"document":{"a":1},"fields":{"/a":"none"}}`, 400, "invalid_parameter", `fields["/a"]`},
		{"encrypt", `{"document":{"a":1},"fields":{"/a":{"optional":true}}}`, 400, "invalid_parameter", `fields["/a"].classification`},
		{"encrypt", `{"document":{"a":1},"fields":{"/a":{"classification":"internal","optional":1}}}`, 400, "invalid_parameter", `fields["/a"].optional`},
		{"encrypt", `{"document":{"a":1,"a":2},"fields":{"/a":"internal"}}`, 400, "invalid_parameter", "document"},
		{"encrypt", `{"document":{"a":1},"fields":{"/a":"internal"},"context":{"pointer":"/a"}}`, 400, "invalid_parameter", "context.pointer"},
		{"encrypt", `{"document":{"a":1},"fields":{"/a":"internal"},"plaintext":"x"}`, 400, "invalid_parameter", "plaintext"},
		{"encrypt", `{"document":{"a":1},"fields":{"/b":"internal"}}`, 422, "field_missing", "document"},
		{"encrypt", `{"document":{"a":{"b":1}},"fields":{"/a":"internal","/a/b":"internal"}}`, 422, "fields_overlap", "document"},
		{"encrypt", `{"document":{"a":"vd1.x"},"fields":{"/a":"internal"}}`, 422, "already_encrypted", "document"},
		{"encrypt", `{"classification":"public","plaintext":"x"}`, 422, "classification_not_encrypted", "classification"},
		{"encrypt", `{"classification":"internal","plaintext":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "body_too_large", ""},
		{"decrypt", `{}`, 400, "invalid_parameter", "ciphertext"},
		{"decrypt", `{"ciphertext":1}`, 400, "invalid_parameter", "ciphertext"},
		{"decrypt", `{"ciphertext":"vd1.","classification":"internal"}`, 400, "invalid_parameter", "classification"},
		{"decrypt", `{"ciphertext":"vd1."}`, 422, "ciphertext_malformed", "ciphertext"},
		{"decrypt", `{"ciphertext":"vd1.","subject":"ana"}`, 400, "invalid_parameter", "subject"},
		{"decrypt", `{"ciphertext":"vd1.","subject":{"type":"user"}}`, 400, "invalid_parameter", "subject.id"},
		{"decrypt", `{"ciphertext":"vd1.","facts":{"time":"2026-11-23T10:00:00Z"}}`, 400, "invalid_parameter", "facts.time"},
		{"decrypt", `{"ciphertext":"vd1.","facts":{"session":{}}}`, 403, "permission_denied", ""},
		{"decrypt", `{"document":{},"fields":1}`, 400, "invalid_parameter", "fields"},
		{"decrypt", `{"document":{},"fields":[1]}`, 400, "invalid_parameter", "fields[0]"},
		{"reencrypt", `{"document":{},"fields":"*"}`, 400, "invalid_parameter", "document"},
		{"reencrypt", `{"ciphertext":"x","classification":"none"}`, 400, "invalid_parameter", "classification"},
		{"reencrypt", `{"ciphertext":"x"}`, 422, "ciphertext_malformed", "ciphertext"},
	} {
		w, a := postCrypto(t, h, tt.path, tt.body)
		field, _ := a["field"].(string)
		if w.Code != tt.status || a["code"] != tt.code || field != tt.field || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %.90s: got %d %.300s", tt.path, tt.body, w.Code, w.Body)
		}
	}
}

// TestInvalidIsOneAnswer gives the same bytes for every failure of
// authentication.
func TestInvalidIsOneAnswer(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	for _, class := range []string{"internal", "restricted", "top_secret"} {
		_, a := postCrypto(t, h, "encrypt", `{"classification":"`+class+`","plaintext":"x","context":{"tenant":"t1","pointer":"/a"}}`)
		text := a["ciphertext"].(string)
		answers, other := map[string]bool{}, "A"
		if text[120] == 'A' {
			other = "B"
		}
		for _, body := range []string{
			`{"ciphertext":"` + text + `","context":{"tenant":"t2","pointer":"/a"}}`,
			`{"ciphertext":"` + text + `","context":{"tenant":"t1","pointer":"/b"}}`,
			`{"ciphertext":"` + text + `"}`,
			`{"ciphertext":"` + text[:len(text)-4] + `AAAA","context":{"tenant":"t1","pointer":"/a"}}`,
			`{"ciphertext":"` + text[:120] + other + text[121:] + `","context":{"tenant":"t1","pointer":"/a"}}`,
		} {
			w, _ := postCrypto(t, h, "decrypt", body)
			answers[w.Body.String()] = true
			if w.Code != http.StatusUnprocessableEntity {
				t.Errorf("%s: %d %s", class, w.Code, w.Body)
			}
		}
		if len(answers) != 1 {
			t.Errorf("%s: %v", class, answers)
		}
	}
}

func TestCryptoScopes(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	for scope, want := range map[string][3]int{
		"keys:encrypt": {400, 403, 403}, "keys:decrypt": {403, 400, 403}, "keys:encrypt keys:decrypt": {400, 400, 400}, "admin": {400, 400, 400}, "decide": {403, 403, 403},
	} {
		h := cryptoSite(t, rig.Service, strings.Fields(scope)...)
		for i, path := range []string{"encrypt", "decrypt", "reencrypt"} {
			if w, _ := postCrypto(t, h, path, `{}`); w.Code != want[i] {
				t.Errorf("%s with %s: %d", path, scope, w.Code)
			}
		}
	}
}

func TestCryptoUnavailable(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSite(t, rig.Service, "keys:encrypt", "keys:decrypt")
	_, a := postCrypto(t, h, "encrypt", `{"classification":"restricted","plaintext":"x"}`)
	body := quoted(map[string]any{"ciphertext": a["ciphertext"]})
	lost := service.New(rig.Ring, pdp.New(rig.Point.Engine(), pointtest.Lost{}, pdp.Options{}), service.Options{})
	w, a := postCrypto(t, cryptoSite(t, lost, "keys:decrypt"), "decrypt", body)
	if w.Code != http.StatusServiceUnavailable || a["code"] != "audit_unavailable" || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{&keys.UnavailableError{Reason: keys.ReasonUnreachable}, 503, "keys_unavailable"},
		{keys.ErrNoEscrow, 503, "key_escrow_missing"},
		{errors.New("canary"), 500, "internal_error"},
	} {
		rig.Backend.Before = func(string, string) error { return tt.err }
		for _, request := range []struct{ path, body string }{{"decrypt", body}, {"encrypt", `{"classification":"restricted","plaintext":"x"}`}} {
			w, a := postCrypto(t, h, request.path, request.body)
			if w.Code != tt.status || a["code"] != tt.code || (tt.status == 503) != (w.Header().Get("Retry-After") == "1") || strings.Contains(w.Body.String(), "canary") {
				t.Errorf("%v: %d %s", tt.err, w.Code, w.Body)
			}
		}
	}
}

func FuzzCrypto(f *testing.F) {
	rig := encryptiontest.New(f, service.Options{})
	h := cryptoSite(f, rig.Service, "keys:encrypt", "keys:decrypt")
	for _, seed := range []string{
		`{"classification":"internal","plaintext":"x","context":{"tenant":"t"}}`, `{"items":[{"ciphertext":"vd1.AA"}],"context":{}}`,
		`{"document":{"a":[1,{"b":"vd1.x"}]},"fields":{"/a/*":{"classification":"internal","optional":true}}}`, `{"document":{},"fields":"*","facts":{"session":{"id":"s"}}}`,
	} {
		for _, path := range []string{"encrypt", "decrypt", "reencrypt"} {
			f.Add(path, seed)
		}
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		switch path {
		case "encrypt", "decrypt", "reencrypt":
		default:
			return
		}
		if w, _ := postCrypto(t, h, path, body); w.Code >= http.StatusInternalServerError {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
