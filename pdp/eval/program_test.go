package eval_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// Paths come from anybody: neither their number nor their length may fill the
// memory, and what is in use must not be kept out by what is not.
func TestPreparedQueriesAreBounded(t *testing.T) {
	engine := newEngine(t)
	snapshot := engine.Active()
	ask := func(path string) {
		t.Helper()
		if _, err := snapshot.Eval(context.Background(), &eval.Query{Path: path, Now: time.Unix(0, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	const most = 4096
	for i := range most + 10 {
		ask(fmt.Sprintf("hostile/x%d", i))
	}
	if n := len(snapshot.Prepared()); n > most {
		t.Errorf("%d queries are kept, want at most %d", n, most)
	}
	ask("app/allow")
	ask(strings.Repeat("a/", 150))
	kept := strings.Join(snapshot.Prepared(), "\n")
	if !strings.Contains(kept, "app/allow") {
		t.Error("a query that came after too many others is not kept")
	}
	if strings.Contains(kept, "a/a/") {
		t.Error("the query of a long path is kept")
	}
}

func TestPathIsBounded(t *testing.T) {
	engine := newEngine(t)
	_, err := engine.Active().Eval(context.Background(), &eval.Query{Path: strings.Repeat("a/", 2000), Now: time.Unix(0, 0)})
	if !errors.Is(err, eval.ErrPath) {
		t.Errorf("got %v, want an error that wraps ErrPath", err)
	}
}

// A policy may make patterns from its input: the compiled ones are kept between
// queries, but not all of them for ever.
func TestPatternsAreBounded(t *testing.T) {
	engine := newEngine(t)
	putModule(t, engine, "p", "package p\n\nok if regex.match(sprintf(\"^%s$\", [input.name]), \"x\")")
	for i := range 3000 {
		input := parse(t, fmt.Sprintf(`{"name": "n%d"}`, i))
		if _, err := engine.Active().Eval(context.Background(), &eval.Query{Path: "p/ok", Input: input, Now: time.Unix(0, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := eval.KeptPatterns(engine, "^n%d$", 3000); n == 0 || n > 1024 {
		t.Errorf("%d of 3000 compiled patterns are kept, want some and at most 1024", n)
	}
}
