package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/verdict-pdp/verdict/policies"
)

// greetExample prints two questions to the example organisation.
func greetExample(w io.Writer, base string) {
	allowed, denied, err := policies.ExampleInputs()
	if err != nil {
		return // nothing to try, which stops nobody
	}
	for _, example := range []struct {
		title string
		input []byte
	}{{"Try a decision that is allowed:", allowed}, {"and one that is denied, with reasons:", denied}} {
		var compact bytes.Buffer
		if err := json.Compact(&compact, example.input); err != nil {
			return
		}
		fmt.Fprintf(w, "%s\n  curl -s '%s/v1/data/%s?pretty' -d '{\"input\": %s}'\n\n", example.title, base, policies.DecisionPath, compact.Bytes())
	}
}
