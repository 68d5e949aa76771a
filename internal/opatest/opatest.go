// Package opatest gives tests the real OPA.
package opatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Version is the OPA that verdict is compared with.
const Version = "1.22.2"

// Binary finds the real OPA in $VERDICT_TOOLS, or in verdict-tools in the
// user's cache, and installs it there when it is absent: as a whole, since other
// tests look for it at the same time. Without it the test is skipped, and fails
// where CI is true.
func Binary(t testing.TB) string {
	t.Helper()
	binary, err := installed()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("install OPA %s: %v", Version, err)
		}
		t.Skipf("OPA %s cannot be installed: %v", Version, err)
	}
	return binary
}

func installed() (string, error) {
	tools := os.Getenv("VERDICT_TOOLS")
	if tools == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		tools = filepath.Join(cache, "verdict-tools")
	}
	dir := filepath.Join(tools, "opa-"+Version)
	binary := filepath.Join(dir, "opa")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	install := exec.Command("go", "install", "github.com/open-policy-agent/opa@v"+Version)
	install.Env = append(os.Environ(), "GOBIN="+fresh, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, os.Rename(filepath.Join(fresh, "opa"), binary)
}
