package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	verdict "github.com/verdict-pdp/verdict/cmd/verdict"
	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/keys"
)

// TestRotationSchedule runs the server at several times: a key of 7 days is
// rotated once when it is that old, and one with a date on that date, with one
// record each, however often the server starts.
func TestRotationSchedule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begin := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	week := 7 * 24 * time.Hour
	folder := keyFolder{T: t, dir: dir}
	var old string
	folder.with(begin, func(ring *keys.Ring) {
		old = folder.seal(ring, keys.TopSecret)
		if _, err := ring.EnsureKey(t.Context(), keys.By{}, "verdict-dated", keys.Ed25519); err != nil {
			t.Fatal(err)
		}
		if err := ring.SetNextRotation(t.Context(), keys.By{}, "verdict-dated", begin.Add(week/2)); err != nil {
			t.Fatal(err)
		}
	})
	steps := []struct {
		at           time.Duration
		secret, date uint32 // versions
	}{
		{week/2 - time.Second, 1, 1},
		{week / 2, 1, 2},
		{week - time.Minute, 1, 2},
		{week, 2, 2},
		{week, 2, 2},
		{week + time.Hour, 2, 2},
	}
	for _, step := range steps {
		verdict.RunServer(t, dir, begin.Add(step.at), func(ring *keys.Ring) {
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
				if _, err := ring.RotateDue(t.Context()); err != nil { // beside the server's own runner
					t.Fatal(err)
				}
				secret, err := ring.Key(t.Context(), "verdict-top_secret")
				if err != nil {
					t.Fatal(err)
				}
				dated, err := ring.Key(t.Context(), "verdict-dated")
				if err != nil {
					t.Fatal(err)
				}
				if secret.Latest == step.secret && dated.Latest == step.date {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after %v: versions %d and %d, want %d and %d", step.at, secret.Latest, dated.Latest, step.secret, step.date)
				}
			}
			if err := folder.opens(ring, old); err != nil {
				t.Errorf("after %v: %v", step.at, err)
			}
		})
	}
	counts := map[string]int{}
	s := servertest.Start(t, servertest.Options{Dir: dir, Args: plain(t)})
	for line := range strings.Lines(string(s.Do(servertest.Request{Path: "/api/v1/audit/records?limit=1000", Token: s.AdminToken()}).Body)) {
		for _, id := range []string{"verdict-top_secret", "verdict-top_secret-mac", "verdict-dated"} {
			if strings.Contains(line, `"key_rotation"`) && strings.Contains(line, `"key:`+id+`"`) {
				counts[id]++
			}
		}
	}
	if counts["verdict-top_secret"] != 1 || counts["verdict-top_secret-mac"] != 1 || counts["verdict-dated"] != 1 {
		t.Errorf("records of rotations: %v", counts)
	}
}

// TestCompromisedCorpus marks a key as compromised while its data key is in
// memory: nothing new uses it, all values are encrypted anew and verified, and
// then the old version is destroyed.
func TestCompromisedCorpus(t *testing.T) {
	t.Parallel()
	ceremony := filepath.Join(t.TempDir(), "ceremony")
	verdictCmd(t, 0, "keys", "escrow", "keygen", "--out", ceremony)
	s := servertest.Start(t, servertest.Options{Args: []string{"--bundle", testBundle(t), "--set", "keys.escrow.public_key=" + filepath.Join(ceremony, "escrow.pem")}})
	const n = 500
	items := make([]map[string]any, n)
	for i := range items {
		items[i] = map[string]any{"plaintext": fmt.Sprintf("value %d", i), "context": map[string]any{"tenant": "t", "id": fmt.Sprint(i)}}
	}
	sealed := corpus(t, s, "encrypt", map[string]any{"classification": "confidential", "items": items}, 1, n)
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/keys/verdict-confidential/compromise", Body: map[string]any{}, Token: s.AdminToken()}), http.StatusOK, `"compromised":[1]`, `"version":2`)
	corpus(t, s, "encrypt", map[string]any{"classification": "confidential", "items": items[:10]}, 2, 10)

	moved := make([]map[string]any, n)
	for i := range moved {
		moved[i] = map[string]any{"ciphertext": sealed[i], "context": items[i]["context"]}
	}
	fresh := corpus(t, s, "reencrypt", map[string]any{"items": moved}, 2, n)
	wantStatus(t, s.Do(servertest.Request{Path: "/api/v1/keys/verdict-confidential/retire", Body: map[string]any{}, Token: s.AdminToken()}), http.StatusOK, `"min_decryption_version":2`, `"versions":[2]`)
	for i := range moved {
		moved[i]["ciphertext"] = fresh[i]
	}
	opened := crypto(t, s, "decrypt", map[string]any{"items": moved})
	wantStatus(t, opened, http.StatusOK)
	for i, item := range opened.JSON(t)["items"].([]any) {
		if got := item.(map[string]any)["plaintext"]; got != items[i]["plaintext"] {
			t.Fatalf("value %d: %v", i, item)
		}
	}
	wantStatus(t, crypto(t, s, "decrypt", map[string]any{"ciphertext": sealed[0], "context": items[0]["context"]}), http.StatusUnprocessableEntity, "key_version_disallowed")
}

// corpus encrypts or encrypts anew, wants a version of the key and counts.
func corpus(t *testing.T, s *servertest.Server, path string, body any, version, n int) []string {
	t.Helper()
	a := crypto(t, s, path, body)
	if a.Status != http.StatusOK {
		t.Fatalf("%s: %d %.300s", path, a.Status, a.Body)
	}
	texts := make([]string, 0, n)
	for _, item := range a.JSON(t)["items"].([]any) {
		result := item.(map[string]any)
		if result["key_version"] != float64(version) {
			t.Fatalf("%s: %v, want version %d", path, result, version)
		}
		texts = append(texts, result["ciphertext"].(string))
	}
	if len(texts) != n {
		t.Fatalf("%s: %d of %d", path, len(texts), n)
	}
	return texts
}
