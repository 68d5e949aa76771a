package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestBundlesPage runs the commands of docs/bundles.md and wants the output that
// the page shows.
func TestBundlesPage(t *testing.T) { runPage(t, "bundles.md", 8) }

// TestPreviewPage does so with docs/preview.md.
func TestPreviewPage(t *testing.T) { runPage(t, "preview.md", 6) }

// TestHTTPPage does so with docs/http-api.md.
func TestHTTPPage(t *testing.T) { runPage(t, "http-api.md", 2) }

// TestReplayPage does so with docs/replay.md.
func TestReplayPage(t *testing.T) { runPage(t, "replay.md", 10) }

// runPage runs a page's commands, at least so many, against a server like that
// of make run.
func runPage(t *testing.T, page string, least int) {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "jq", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the page needs %s: %v", tool, err)
		}
	}
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	server := servertest.Start(t, servertest.Options{})
	commands, folder := 0, t.TempDir()
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			commands++
			command, want := splitPageCommand(part)
			command = strings.ReplaceAll(command, "localhost:8181", strings.TrimPrefix(server.URL, "http://"))
			cmd := exec.Command("bash", "-c", command)
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "VERDICT_TOKEN="+server.AdminToken(), "VERDICT_SERVER="+server.URL)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			got, err := cmd.Output()
			if err != nil || string(got) != want {
				t.Fatalf("$ %s\ngot  %s%s%v\nwant %s", command, got, errs.String(), err, want)
			}
		}
	}
	if commands < least {
		t.Errorf("%d commands: the blocks are not found", commands)
	}
}

// splitPageCommand parts a command, which goes on over lines that are empty or
// indented, from its output.
func splitPageCommand(part string) (command, output string) {
	lines := strings.Split(strings.TrimRight(part, "\n"), "\n")
	n := 1
	for n < len(lines) && (lines[n] == "" || strings.HasPrefix(lines[n], "    ")) {
		n++
	}
	if output = strings.Join(lines[n:], "\n"); output != "" {
		output += "\n"
	}
	return strings.Join(lines[:n], "\n"), output
}
