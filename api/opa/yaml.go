package opa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/open-policy-agent/opa/v1/util"
	"go.yaml.in/yaml/v3"
)

// maxYAMLDepth bounds the recursion over a document's nodes.
const maxYAMLDepth = 1000

// errYAMLDepth is returned for YAML that is nested deeper than maxYAMLDepth.
var errYAMLDepth = errors.New("yaml: exceeded max depth")

// yamlToJSON converts as OPA does. A document whose aliases would make it longer
// than limit is refused before they are followed.
func yamlToJSON(body []byte, limit int64) ([]byte, error) {
	if !json.Valid(body) {
		if err := checkAliases(body, limit); err != nil {
			return nil, err
		}
	}
	var converted json.RawMessage
	if err := util.Unmarshal(body, &converted); err != nil {
		return nil, err
	}
	return converted, nil
}

// checkAliases refuses a stream in which a document with its aliases followed
// is longer than limit. Syntax errors are left to the conversion.
func checkAliases(body []byte, limit int64) error {
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return nil //nolint:nilerr // the conversion meets the same error and reports it
		}
		w := yamlWeight{limit: limit, known: map[*yaml.Node]int64{}}
		n, err := w.of(&doc, 0)
		if err != nil {
			return err
		}
		if n > limit {
			return fmt.Errorf("yaml: document with its aliases exceeds limit of %d bytes", limit)
		}
	}
}

// yamlWeight sums up the text of nodes, each alias counted as what it names.
type yamlWeight struct {
	limit int64
	known map[*yaml.Node]int64 // of anchors
}

func (w *yamlWeight) of(n *yaml.Node, depth int) (int64, error) {
	if depth > maxYAMLDepth {
		return 0, errYAMLDepth
	}
	if sum, ok := w.known[n]; ok {
		return sum, nil
	}
	if n.Kind == yaml.AliasNode {
		return w.of(n.Alias, depth+1)
	}
	sum := int64(len(n.Value)) + 1
	for _, child := range n.Content {
		part, err := w.of(child, depth+1)
		if err != nil {
			return 0, err
		}
		if sum = min(sum+part, w.limit+1); sum > w.limit {
			break
		}
	}
	if n.Anchor != "" {
		w.known[n] = sum
	}
	return sum, nil
}
