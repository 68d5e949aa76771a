package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/internal/encryptiontest"
	"github.com/verdict-pdp/verdict/internal/pointtest"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/service"
	"github.com/verdict-pdp/verdict/pdp"
)

const canary = "canary-4711-plaintext"

func at(pointer string) keys.Context {
	return keys.Context{Tenant: "t1", Type: "customer", ID: "c1", Pointer: pointer}
}

// encrypt encrypts one value.
func encrypt(t testing.TB, r *encryptiontest.Rig, class keys.Class, c keys.Context, data []byte) string {
	t.Helper()
	got, err := r.Encrypt(t.Context(), encryptiontest.Asker(), []keys.Value{{Class: class, Context: c, Data: data}})
	if err == nil {
		err = got[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	return got[0].Text
}

func TestThousandCiphertextsDiffer(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	for _, class := range []keys.Class{keys.Internal, keys.Confidential, keys.Restricted} {
		values := make([]keys.Value, 1000)
		for i := range values {
			values[i] = keys.Value{Class: class, Context: at("/x"), Data: []byte("one value")}
		}
		got, err := r.Encrypt(t.Context(), encryptiontest.Asker(), values)
		if err != nil {
			t.Fatal(err)
		}
		distinct, versions := map[string]bool{}, map[uint32]bool{}
		for _, e := range got {
			distinct[e.Text], versions[e.Version] = true, true
			if h, err := keys.Inspect(e.Text); err != nil || h.Class != class {
				t.Fatalf("%v, %v", h, err)
			}
		}
		if len(distinct) != 1000 || len(versions) != 1 {
			t.Errorf("%v: %d ciphertexts, %d versions", class, len(distinct), len(versions))
		}
	}
}

func TestTopSecretOfAnySize(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	for _, size := range []int{0, 446, 447, 1_000_000} {
		data := bytes.Repeat([]byte{0xA5}, size)
		text := encrypt(t, r, keys.TopSecret, at("/x"), data)
		got, err := r.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{{Text: text, Context: at("/x")}})
		if err != nil || got.Results[0].Err != nil || !bytes.Equal(got.Results[0].Data, data) {
			t.Errorf("%d bytes: %v, %v", size, err, got)
		}
	}
}

// TestDecisionComesFirst holds a key back until the log is seen to have the
// decision, and then breaks it: the record stays.
func TestDecisionComesFirst(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Restricted, at("/card"), []byte(canary))
	before := r.Point.Log.Status().Next
	killed := errors.New("killed")
	r.Backend.Before = func(operation, _ string) error {
		if operation != "Unwrap" {
			return nil
		}
		rec, err := r.Point.Log.Record(before)
		if err != nil || !bytes.Contains(rec, []byte(`"path":"verdict/keys/decision"`)) {
			t.Errorf("the key is used before the decision is recorded: %v %s", err, rec)
		}
		return killed
	}
	_, err := r.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{{Text: text, Context: at("/card")}})
	if err != nil || r.Backend.Calls("Unwrap") != 1 {
		t.Fatalf("%v, %d calls", err, r.Backend.Calls("Unwrap"))
	}
	raw, err := r.Point.Log.Record(before)
	if err != nil {
		t.Fatal(err)
	}
	var rec struct {
		Event, Resource, Subject string
		Input                    json.RawMessage
		RequestedBy              string `json:"requested_by"`
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		t.Fatal(err)
	}
	want := `{"action":{"name":"decrypt"},"caller":{"kind":"token","name":"shop","scopes":["keys:encrypt","keys:decrypt"]},"resource":{"id":"c1","properties":{"classes":{"restricted":1},"count":1,"documents":[{"id":"c1","pointers":["/card"],"tenant":"t1","type":"customer"}],"tenants":["t1"]},"type":"customer"},"subject":{"id":"shop","type":"service"}}`
	if string(rec.Input) != want || rec.Event != audit.EventPermissionGranted || rec.RequestedBy != "shop" || rec.Resource != "customer:c1" {
		t.Errorf("record %s", raw)
	}
	if bytes.Contains(raw, []byte(canary)) || bytes.Contains(raw, []byte("vd1.")) {
		t.Error("the record tells the value")
	}
}

// TestUnrecorded opens nothing when the decision, or that a value did not open,
// cannot be recorded.
func TestUnrecorded(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Restricted, at("/x"), []byte(canary))
	lost := service.New(r.Ring, pdp.New(r.Point.Engine(), pointtest.Lost{}, pdp.Options{}), service.Options{})
	items := []keys.Ciphertext{{Text: text, Context: at("/x")}}
	if got, err := lost.Decrypt(t.Context(), encryptiontest.Asker(), items); !errors.Is(err, pdp.ErrUnrecorded) || got != nil || r.Backend.Calls("Unwrap") != 0 {
		t.Errorf("%v, %v", got, err)
	}
	r.Recorder.Before = func(keys.Event) error { return errors.New("no log") }
	items = append(items, keys.Ciphertext{Text: text, Context: at("/y")})
	if got, err := r.Decrypt(t.Context(), encryptiontest.Asker(), items); err == nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFailedOpeningIsTiedToItsDecision(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Confidential, at("/x"), []byte(canary))
	other := at("/x")
	other.Tenant = "t2"
	flipped := text[:len(text)-2] + "AA"
	got, err := r.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{
		{Text: text, Context: other}, {Text: text, Context: at("/y")}, {Text: flipped, Context: at("/x")}, {Text: "vd1.x", Context: at("/x")}, {Text: text, Context: at("/x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{keys.ErrInvalid, keys.ErrInvalid, keys.ErrInvalid, keys.ErrMalformed, nil} {
		if got.Results[i].Err != want {
			t.Errorf("%d: %v", i, got.Results[i].Err)
		}
	}
	events := r.Recorder.Events(keys.EventOpeningFailed)
	if len(events) != 1 || events[0].By.DecisionID != got.DecisionID || events[0].Failures["ciphertext_invalid"] != 3 || events[0].By.Caller != "shop" {
		t.Errorf("%+v", events)
	}
	rec := r.Point.Record(t, got.DecisionID)
	if p := rec["input"].(map[string]any)["resource"].(map[string]any)["properties"].(map[string]any); p["malformed"] != 1.0 || p["count"] != 5.0 {
		t.Errorf("%v", p)
	}
}

func TestDenied(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.TopSecret, at("/x"), []byte(canary))
	items := []keys.Ciphertext{{Text: text, Context: at("/x")}}
	calls := r.Backend.Calls("Unwrap")
	for name, change := range map[string]func(*service.Asker){
		`"code":"scope_missing"`: func(a *service.Asker) { a.Scopes = []string{"keys:encrypt"} },
		`"code":"trust_too_low"`: func(a *service.Asker) { a.Facts = ast.MustParseTerm(`{"session": {"id": "s1"}}`).Value },
		`"code":"tenant_mismatch"`: func(a *service.Asker) {
			a.Subject = ast.MustParseTerm(`{"type": "user", "id": "u", "properties": {"tenant": "t9"}}`).Value
		},
	} {
		a := encryptiontest.Asker()
		change(a)
		_, err := r.Decrypt(t.Context(), a, items)
		denied, ok := errors.AsType[*service.DeniedError](err)
		if !ok || !strings.Contains(string(denied.Reasons), name) || denied.Error() == "" {
			t.Fatalf("%s: %v", name, err)
		}
		if rec := r.Point.Record(t, denied.DecisionID); rec["event"] != audit.EventPermissionDenied {
			t.Errorf("%v", rec)
		}
	}
	if _, err := r.Reencrypt(t.Context(), encryptiontest.Asker(), []keys.Reencryption{{Ciphertext: items[0], Class: keys.Internal}}); !errors.As(err, new(*service.DeniedError)) {
		t.Errorf("lowered: %v", err)
	}
	if r.Backend.Calls("Unwrap") != calls {
		t.Error("a key was used")
	}
}

// TestNoPolicyDenies: an engine without the standard policies opens nothing,
// nor one whose policy breaks.
func TestNoPolicyDenies(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Internal, at("/x"), []byte(canary))
	for name, modules := range map[string][]string{
		"none":   nil,
		"broken": {"package verdict.keys\ndecision := 1 if input.caller\ndecision := 2 if input.caller"},
		"odd":    {"package verdict.keys\ndecision := \"yes\""},
	} {
		s := service.New(r.Ring, pointtest.New(t, modules...), service.Options{})
		_, err := s.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{{Text: text, Context: at("/x")}})
		if denied, ok := errors.AsType[*service.DeniedError](err); !ok || denied.DecisionID == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReencrypt(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Internal, at("/x"), []byte("value"))
	if _, err := r.Ring.Rotate(t.Context(), keys.By{}, r.Ring.ClassID(keys.Internal)); err != nil {
		t.Fatal(err)
	}
	got, err := r.Reencrypt(t.Context(), encryptiontest.Asker(), []keys.Reencryption{
		{Ciphertext: keys.Ciphertext{Text: text, Context: at("/x")}},
		{Ciphertext: keys.Ciphertext{Text: text, Context: at("/x")}, Class: keys.Restricted},
		{Ciphertext: keys.Ciphertext{Text: text, Context: at("/y")}},
	})
	if err != nil || got.Results[0].Version != 2 || got.Results[2].Err != keys.ErrInvalid {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, class := range []keys.Class{keys.Internal, keys.Restricted} {
		opened, err := r.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{{Text: got.Results[i].Text, Context: at("/x")}})
		if err != nil || string(opened.Results[0].Data) != "value" || opened.Results[0].Class != class {
			t.Errorf("%+v, %v", opened, err)
		}
	}
}

func TestSealedInputIsRefused(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Internal, at("/x"), []byte("value"))
	got, err := r.Encrypt(t.Context(), encryptiontest.Asker(), []keys.Value{
		{Class: keys.Internal, Data: []byte(text)}, {Class: keys.Internal, Data: []byte("vd1. is a prefix")}, {Class: keys.Public, Data: []byte("x")},
	})
	if err != nil || got[0].Err != service.ErrSealed || got[1].Err != nil || got[2].Err != keys.ErrNotEncrypted {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestTimeout gives up on keys that do not answer, and says so.
func TestTimeout(t *testing.T) {
	r := encryptiontest.New(t, service.Options{})
	text := encrypt(t, r, keys.Restricted, at("/x"), []byte("value"))
	hanging := service.New(r.Ring, r.Point, service.Options{Timeout: 10 * time.Millisecond})
	r.Backend.Before = func(string, string) error {
		time.Sleep(15 * time.Millisecond) // longer than the timeout, which is real time
		return fmt.Errorf("call: %w", context.DeadlineExceeded)
	}
	got, err := hanging.Decrypt(t.Context(), encryptiontest.Asker(), []keys.Ciphertext{{Text: text, Context: at("/x")}})
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := errors.AsType[*keys.UnavailableError](got.Results[0].Err); !ok || u.Reason != keys.ReasonTimeout || u.RetryAfter == 0 {
		t.Errorf("got %v", got.Results[0].Err)
	}
}

func TestCodes(t *testing.T) {
	for err, want := range map[error]string{
		nil: "ok", service.ErrSealed: "already_encrypted", fmt.Errorf("x: %w", keys.ErrInvalid): "ciphertext_invalid",
		&keys.UnavailableError{Reason: keys.ReasonSealed}: "keys_unavailable", errors.New("x"): "internal_error",
		&service.FieldError{Pointer: "/a", Err: service.ErrOverlap}: "fields_overlap",
	} {
		if got := service.Code(err); got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}
