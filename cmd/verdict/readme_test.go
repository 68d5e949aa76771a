package main_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// TestReadme runs the commands of README's tour against a server like that of
// make run, and wants the output that README shows, but for numbers that
// differ from run to run.
func TestReadme(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("README's tour needs %s: %v", tool, err)
		}
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	server := servertest.Start(t, servertest.Options{})
	commands := 0
	folder := t.TempDir()
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for _, part := range strings.Split("\n"+block[1], "\n$ ")[1:] {
			commands++
			command, want := splitCommand(part)
			command = strings.ReplaceAll(command, "localhost:8181", strings.TrimPrefix(server.URL, "http://"))
			cmd := exec.Command("bash", "-c", command)
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "VERDICT_TOKEN="+server.AdminToken())
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := string(out); err != nil || want != "" && !strings.HasPrefix(withoutNumbers(got), withoutNumbers(want)) {
				t.Errorf("$ %s\ngot  %s%s\nwant %s", command, got, errs.String(), want)
			}
		}
	}
	if commands < 5 {
		t.Errorf("README has %d commands: the blocks are not found", commands)
	}
}

// splitCommand parts a command, which may go on over lines that are indented,
// from its output.
func splitCommand(part string) (command, output string) {
	lines := strings.Split(strings.TrimRight(part, "\n"), "\n")
	n := 1
	for n < len(lines) && strings.HasPrefix(lines[n], "    ") {
		n++
	}
	return strings.Join(lines[:n], "\n"), strings.Join(lines[n:], "\n")
}

func withoutNumbers(s string) string {
	return regexp.MustCompile(`[0-9]+ records`).ReplaceAllString(s, "N records")
}
