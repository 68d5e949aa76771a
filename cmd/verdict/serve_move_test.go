package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
	"github.com/verdict-pdp/verdict/internal/vaulttest"
)

// piped runs the program with standard input and gives standard output by lines
// and standard error.
func piped(t *testing.T, code int, input string, args ...string) (lines []map[string]string, told string) {
	t.Helper()
	cmd := exec.Command("verdict", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	_ = cmd.Run() // the code says it
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("verdict %q ended with %d, want %d: %s", args, got, code, stderr.String())
	}
	for line := range bytes.Lines(stdout.Bytes()) {
		var v map[string]string
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, v)
	}
	return lines, stderr.String()
}

// TestMigrate takes ciphertexts of keys in a data folder to a server with keys
// in Vault.
func TestMigrate(t *testing.T) {
	t.Parallel()
	const n = 1200 // more than one request
	from := servertest.Start(t, servertest.Options{Args: []string{"--bundle", testBundle(t)}})
	items := make([]map[string]any, n)
	for i := range items {
		items[i] = map[string]any{"plaintext": fmt.Sprintf("value %d", i), "context": map[string]string{"tenant": "t", "id": fmt.Sprint(i)}}
	}
	sealed := corpus(t, from, "encrypt", map[string]any{"classification": "internal", "items": items}, 1, n)
	from.Stop()

	server := vaulttest.Dev(t)
	to := servertest.Start(t, servertest.Options{Args: []string{
		"--bundle", testBundle(t), "--set", "keys.provider=vault", "--set", "keys.vault.address=" + server.Address,
		"--set", "keys.vault.mount=" + server.Transit(), "--set", "keys.vault.auth.token_file=" + vaulttest.Write(t, server.Token),
	}})
	var input strings.Builder
	encoder := json.NewEncoder(&input)
	for i, text := range sealed {
		if err := encoder.Encode(map[string]any{"ciphertext": text, "context": items[i]["context"]}); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"keys", "migrate", "--from", from.Dir, "--server", to.URL, "--token-file", filepath.Join(to.Dir, "admin.token")}
	lines, told := piped(t, 0, input.String(), args...)
	if len(lines) != n || !strings.Contains(told, "1200 values encrypted and verified, 0 not") {
		t.Fatalf("%d lines: %s", len(lines), told)
	}
	for _, i := range []int{0, 999, 1000, n - 1} {
		a := crypto(t, to, "decrypt", map[string]any{"ciphertext": lines[i]["ciphertext"], "context": items[i]["context"]})
		wantStatus(t, a, http.StatusOK, fmt.Sprintf(`"plaintext":"value %d"`, i))
	}
	one := fmt.Sprintf(`{"ciphertext": %q, "context": {"tenant": "t", "id": "1"}}`, sealed[0]) // of another document
	lines, told = piped(t, 1, one+"\n\n"+`{"ciphertext": "vd1.x"}`+"\n", args...)
	if len(lines) != 2 || lines[0]["error"] != "ciphertext_invalid" || lines[1]["error"] != "ciphertext_malformed" || !strings.Contains(told, "0 values encrypted and verified, 2 not") {
		t.Errorf("%v %s", lines, told)
	}
	piped(t, 2, "not JSON\n", args...)
	args[3] = t.TempDir()
	piped(t, 2, one, args...)
}

// TestImportLegacy takes fields of the framework before.
func TestImportLegacy(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../keys/legacy/testdata/fields.json")
	if err != nil {
		t.Fatal(err)
	}
	var sample struct {
		Keys   map[string]string `json:"keys"`
		Fields []struct {
			Name      string         `json:"name"`
			Plaintext string         `json:"plaintext"`
			Field     map[string]any `json:"field"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(raw, &sample); err != nil {
		t.Fatal(err)
	}
	for id, material := range sample.Keys {
		sample.Keys[id] = strings.ReplaceAll(material, "TESTING KEY", "PRIVATE KEY")
	}
	encoded, err := json.Marshal(sample.Keys)
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Options{Args: []string{"--bundle", testBundle(t)}})
	var input strings.Builder
	encoder := json.NewEncoder(&input)
	for _, f := range sample.Fields {
		f.Field["classification"], f.Field["context"] = "internal", map[string]string{"id": f.Name}
		if err := encoder.Encode(f.Field); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"keys", "import-legacy", "--keys", vaulttest.Write(t, string(encoded)), "--server", s.URL, "--token-file", filepath.Join(s.Dir, "admin.token")}
	lines, told := piped(t, 0, input.String(), args...)
	if len(lines) != len(sample.Fields) || !strings.Contains(told, fmt.Sprintf("%d values encrypted and verified, 0 not", len(lines))) {
		t.Fatalf("%d lines: %s", len(lines), told)
	}
	for i, line := range lines {
		answer := crypto(t, s, "decrypt", map[string]any{"ciphertext": line["ciphertext"], "context": map[string]string{"id": sample.Fields[i].Name}}).JSON(t)
		got, ok := answer["plaintext"].(string)
		if !ok {
			encoded, _ := answer["plaintext_base64"].(string)
			plain, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			got = string(plain)
		}
		if got != sample.Fields[i].Plaintext {
			t.Errorf("%s: %q", sample.Fields[i].Name, answer)
		}
	}
	lines, _ = piped(t, 1, `{"encrypted_data": "gAAAAA", "key_id": "none", "algorithm": "fernet", "classification": "internal"}`+"\n", args...)
	if len(lines) != 1 || lines[0]["error"] != "key_unknown" {
		t.Errorf("%v", lines)
	}
	args[3] = vaulttest.Write(t, `{"k": "c2VjcmV0LXRoYXQtaXMtdG9vLXNob3J0"}`)
	if _, told := piped(t, 2, input.String(), args...); strings.Contains(told, "c2VjcmV0") {
		t.Errorf("a key is shown: %s", told)
	}
}
