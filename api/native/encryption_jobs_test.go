package native_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/native"
	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
)

type noJobLog struct{}

func (noJobLog) RecordJob(context.Context, service.Job, keys.By) error { return nil }

func TestJobs(t *testing.T) {
	rig := encryptiontest.New(t, service.Options{})
	h := cryptoSiteOf(t, native.Options{
		Encryption: rig.Service, Jobs: service.NewJobs(rig.Service, rig.Store, noJobLog{}),
	}, "keys:encrypt", "keys:decrypt")
	_, a := postCrypto(t, h, "encrypt", `{"classification":"internal","plaintext":"x","context":{"tenant":"t1"}}`)
	old := a["ciphertext"].(string)
	key := a["key_id"].(string)
	if _, err := rig.Ring.Rotate(t.Context(), keys.By{}, key); err != nil {
		t.Fatal(err)
	}
	w, job := postCrypto(t, h, "keys/"+key+"/jobs", `{"total":2}`)
	id, _ := job["id"].(string)
	if w.Code != http.StatusCreated || job["version"] != 2.0 || job["remaining"] != 2.0 || w.Header().Get("Location") != "/api/v1/keys/"+key+"/jobs/"+id {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	batch := `{"job":"` + id + `","batch":1,"context":{"tenant":"t1"},"items":[{"ciphertext":"` + old + `"},{"ciphertext":"vd1."}]}`
	for range 2 { // the second is not counted
		w, a = postCrypto(t, h, "reencrypt", batch)
		counted, _ := a["job"].(map[string]any)
		if w.Code != http.StatusOK || counted["done"] != 1.0 || counted["failed"] != 1.0 || counted["remaining"] != 1.0 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	finish := "keys/" + key + "/jobs/" + id + "/finish"
	for _, tt := range []struct {
		path, body string
		status     int
		code       string
	}{
		{finish, `{}`, 409, "job_incomplete"},
		{"keys/other/jobs/" + id + "/finish", `{}`, 404, "job_unknown"},
		{"keys/verdict-none/jobs", ``, 404, "key_unknown"},
		{"keys/" + key + "/jobs", `{"total":-1}`, 400, "invalid_parameter"},
		{"keys/" + key + "/jobs", `{"size":1}`, 400, "invalid_parameter"},
		{"reencrypt", strings.Replace(batch, `"batch":1`, `"batch":3`, 1), 409, "batch_out_of_order"},
		{"reencrypt", strings.Replace(batch, `"batch":1`, `"batch":0`, 1), 400, "invalid_parameter"},
		{"reencrypt", strings.Replace(batch, `"batch":1`, `"classification":"restricted"`, 1), 400, "invalid_parameter"},
		{"reencrypt", strings.Replace(batch, id, "none", 1), 404, "job_unknown"},
		{"reencrypt", `{"batch":1,"ciphertext":"x"}`, 400, "invalid_parameter"},
		{"reencrypt", `{"job":1,"ciphertext":"x"}`, 400, "invalid_parameter"},
		{"decrypt", `{"job":"` + id + `","ciphertext":"x"}`, 400, "invalid_parameter"},
	} {
		if w, a := postCrypto(t, h, tt.path, tt.body); w.Code != tt.status || a["code"] != tt.code {
			t.Errorf("%s %.60s: %d %s", tt.path, tt.body, w.Code, w.Body)
		}
	}
	if w, a = postCrypto(t, h, "reencrypt", `{"job":"`+id+`","context":{"tenant":"t1"},"ciphertext":"`+old+`"}`); w.Code != http.StatusOK || a["key_version"] != 2.0 || a["job"].(map[string]any)["done"] != 2.0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w, a = postCrypto(t, h, finish, ``); w.Code != http.StatusOK || a["state"] != "finished" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w, a = postCrypto(t, h, "reencrypt", batch); w.Code != http.StatusConflict || a["code"] != "job_closed" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for path, want := range map[string]string{"/jobs/" + id: `"state":"finished"`, "/jobs": `{"jobs":[{"id":"` + id, "/jobs/none": `"code":"job_unknown"`} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/keys/"+key+path, nil))
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}
