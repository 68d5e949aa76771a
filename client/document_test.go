package client_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocument keeps the code of docs/go-client.md that of the examples, which
// run.
func TestDocument(t *testing.T) {
	read := func(name string) string {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	examples := flat(read("example_test.go")) + flat(read("grpcauthz/example_test.go"))
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read("../docs/go-client.md"), -1)
	if len(blocks) < 4 {
		t.Errorf("the page has %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		for part := range strings.SplitSeq(block[1], "\n\n") {
			if !strings.Contains(examples, flat(part)) {
				t.Errorf("no example has\n%s", part)
			}
		}
	}
}

// flat is a text without indentation and empty lines.
func flat(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
