package main_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/internal/components"
	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestOpenAPILint holds the description to the rules of Redocly CLI.
func TestOpenAPILint(t *testing.T) {
	program := components.Path(t, "redocly")
	cmd := exec.Command(program, "lint", "--config", "testdata/openapi/redocly.yaml", "--max-problems", "20", "../../docs/openapi.json")
	cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSchemathesis sends what the description allows and what it does not to a
// server, a few requests for each operation.
func TestSchemathesis(t *testing.T) {
	examples := "4"
	if servertest.Race() { // the server is several times as slow
		examples = "2"
	}
	runSchemathesis(t, 5*time.Minute, "--phases", "examples,fuzzing", "--max-examples", examples, "--generation-deterministic")
}

// TestSchemathesisSoak sends many of them, for minutes; make soak runs it.
func TestSchemathesisSoak(t *testing.T) {
	if os.Getenv("SOAK_ROUNDS") == "" {
		t.Skip("make soak runs this")
	}
	runSchemathesis(t, 30*time.Minute, "--phases", "examples,coverage,fuzzing", "--max-examples", "100", "--continue-on-failure", "--generation-database", "none")
}

func runSchemathesis(t *testing.T, patience time.Duration, args ...string) {
	t.Helper()
	program := components.Path(t, "schemathesis")
	server := servertest.Start(t, servertest.Options{})
	config, err := filepath.Abs("testdata/openapi/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{
		"--config-file", config, "--no-color", "run", server.URL + "/api/v1/openapi.json",
		"-H", "Authorization: Bearer " + server.AdminToken(),
		// A pushed bundle is no JSON, and verifying takes as long as the log is.
		"--exclude-operation-id", "bundlePush", "--exclude-operation-id", "auditVerify",
		"--mode", "all", "--workers", "2", "--request-timeout", "60", "--warnings", "off",
		"--suppress-health-check", "all",
	}, args...)...)
	cmd.Dir, cmd.WaitDelay = t.TempDir(), time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := out.String()
		t.Errorf("%v\n%s", err, text[max(0, len(text)-16<<10):])
	}
	t.Log(summary(out.String()))
	for line := range strings.Lines(server.Stderr()) {
		if strings.Contains(line, `"level":"error"`) {
			t.Errorf("the server had to log: %s", line)
		}
	}
	if a := server.Do(servertest.Request{Path: "/health"}); a.Status != http.StatusOK {
		t.Errorf("health is %d %s", a.Status, a.Body)
	}
}

// summary is the end of what the program prints.
func summary(text string) string {
	_, after, _ := strings.Cut(text, " SUMMARY ")
	return after
}
