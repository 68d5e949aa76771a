// Package opatest gives tests the real OPA.
package opatest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Version is the OPA that verdict is compared with.
const Version = "1.22.2"

// Binary finds the real OPA in $VERDICT_TOOLS, or in verdict-tools in the
// user's cache, and installs it there when it is absent. Without it the test is
// skipped, and fails where CI is true.
func Binary(t testing.TB) string {
	t.Helper()
	tools := os.Getenv("VERDICT_TOOLS")
	if tools == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		tools = filepath.Join(cache, "verdict-tools")
	}
	dir := filepath.Join(tools, "opa-"+Version)
	binary := filepath.Join(dir, "opa")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	install := exec.Command("go", "install", "github.com/open-policy-agent/opa@v"+Version)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("install OPA %s: %v\n%s", Version, err, out)
		}
		t.Skipf("OPA %s cannot be installed: %v", Version, err)
	}
	return binary
}
