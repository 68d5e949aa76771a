package native_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

// TestBodyProblems shows that what is wrong with a body is said in words of the
// API, with the member that it is about.
func TestBodyProblems(t *testing.T) {
	routes := keyRoutes(failingRing{keys.ErrKeyUnknown})
	long := strings.Repeat("n", 1000)
	for _, test := range []struct {
		method, path, body string
		status             int
		field, detail      string
	}{
		{"PUT", "next_rotation", ``, 400, "", "the body is empty; want a JSON object"},
		{"PUT", "next_rotation", ` `, 400, "", "the body is empty; want a JSON object"},
		{"PUT", "next_rotation", `{`, 400, "", "the body: it ends before the JSON does"},
		{"PUT", "next_rotation", `{"shares": x}`, 400, "", "the body: at byte 12: it is not JSON"},
		{"PUT", "next_rotation", `[]`, 400, "", "the body is of the type array; want an object"},
		{"PUT", "next_rotation", `{} {}`, 400, "", "something follows the object in the body"},
		{"PUT", "next_rotation", `{"share": ""}`, 400, "share", "there is no such member here"},
		{"PUT", "next_rotation", `{"` + long + `": ""}`, 400, long[:64] + "...", "there is no such member here"},
		{"PUT", "next_rotation", `{"at": "tomorrow", "b": 1}`, 400, "at", "it is not as it should be; write a time as RFC 3339 has it, for example 2026-11-23T09:00:00Z"},
		{"PUT", "next_rotation", `{"at": "tomorrow"}`, 400, "at", "it is not as it should be; write a time as RFC 3339 has it, for example 2026-11-23T09:00:00Z"},
		{"PUT", "next_rotation", `{"at": {}}`, 400, "at", "it is not as it should be; write a time as RFC 3339 has it, for example 2026-11-23T09:00:00Z"},
		{"POST", "compromise", strings.Repeat(" ", 1<<17), 413, "", "request body is larger than 65536 bytes"},
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(test.method, "/api/v1/keys/k/"+test.path, strings.NewReader(test.body)))
		var got struct{ Detail, Field string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != test.status || got.Field != test.field || got.Detail != test.detail {
			t.Errorf("%s %.40s: %d %s", test.path, test.body, w.Code, w.Body)
		}
	}
}

// TestParameters shows that a parameter that is not there is refused by name.
func TestParameters(t *testing.T) {
	routes := keyRoutes(failingRing{nil})
	for query, field := range map[string]string{
		"": "", "expires_within=720h": "", "expire_within=720h": "expire_within", "expires_within=1h&expires_within=2h": "expires_within",
		"expires_within=30d": "", "expires_within=1w2d": "", "expires_within=30x": "expires_within", "=1": "none", "%zz": "none",
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/keys?"+query, nil))
		var got struct{ Field string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if field == "none" {
			field = ""
			if w.Code != http.StatusBadRequest {
				t.Errorf("%q: %d", query, w.Code)
			}
		} else if (w.Code == http.StatusBadRequest) != (field != "") {
			t.Errorf("%q: %d", query, w.Code)
		}
		if got.Field != field {
			t.Errorf("%q: %s", query, w.Body)
		}
	}
}

// TestOpensAgain shows that nothing is encrypted whose ciphertext a request to
// decrypt it has no room for.
func TestOpensAgain(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSiteOf(t, native.Options{Encryption: rig.Service, Limits: native.Limits{Crypto: 1 << 20}}, "keys:encrypt", "keys:decrypt")
	const context = `"context":{"tenant":"t1"}`
	refused := 0
	for n := 780_000; n < 1_040_000; n += 1000 {
		text := strings.Repeat("x", n)
		w, a := postCrypto(t, h, "encrypt", `{"classification":"internal","plaintext":"`+text+`",`+context+`}`)
		if w.Code != http.StatusOK {
			if refused++; w.Code != http.StatusUnprocessableEntity || a["code"] != "value_too_large" || a["field"] != "plaintext" {
				t.Fatalf("%d bytes: %d %.300s", n, w.Code, w.Body)
			}
		} else if w, a = postCrypto(t, h, "decrypt", `{"ciphertext":`+quoted(a["ciphertext"])+`,`+context+`}`); w.Code != http.StatusOK || a["plaintext"] != text {
			t.Fatalf("%d bytes were encrypted and do not come back: %d %.300s", n, w.Code, w.Body)
		}
		if refused > 0 {
			n += 50_000
		}
	}
	if refused == 0 || refused > 10 {
		t.Errorf("%d were refused", refused)
	}
	large, small := strings.Repeat("x", 900_000), strings.Repeat("x", 100)
	w, a := postCrypto(t, h, "encrypt", `{"classification":"internal","items":[{"plaintext":"`+large+`"},{"plaintext":"`+small+`"}]}`)
	items, _ := a["items"].([]any)
	if w.Code != http.StatusOK || len(items) != 2 || items[0].(map[string]any)["error"].(map[string]any)["code"] != "value_too_large" || items[1].(map[string]any)["error"] != nil {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	const fields = `"fields":{"/s":"internal"},` + context
	w, a = postCrypto(t, h, "encrypt", `{"document":{"s":"`+large+`"},`+fields+`}`)
	if w.Code != http.StatusUnprocessableEntity || a["code"] != "value_too_large" || a["field"] != "document" {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	if w, a = postCrypto(t, h, "encrypt", `{"document":{"s":"`+large[:780_000]+`"},`+fields+`}`); w.Code != http.StatusOK {
		t.Fatalf("%d %.300s", w.Code, w.Body)
	}
	if w, _ = postCrypto(t, h, "decrypt", `{"document":`+quoted(a["document"])+`,`+fields+`}`); w.Code != http.StatusOK {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
}
