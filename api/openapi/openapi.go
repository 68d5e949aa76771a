// Package openapi is the description of every HTTP route in OpenAPI 3.1: one
// YAML file a protocol, put together into one JSON document. Who may call an
// operation and how it is refused is not written there: it is made of the
// operation's class and of api's access table, so that it cannot differ from
// what the gate does.
package openapi

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed *.yaml
var files embed.FS

// object is an object of the document.
type object = map[string]any

// Document returns the document as JSON.
func Document() ([]byte, error) {
	names, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list the description: %w", err)
	}
	doc := object{}
	for _, name := range names {
		raw, err := files.ReadFile(name.Name())
		if err != nil {
			return nil, fmt.Errorf("read the description: %w", err)
		}
		part := object{}
		if err := yaml.Unmarshal(raw, &part); err != nil {
			return nil, fmt.Errorf("read %s: %w", name.Name(), err)
		}
		protocol := strings.TrimSuffix(name.Name(), path.Ext(name.Name()))
		if err := complete(protocol, part); err != nil {
			return nil, fmt.Errorf("%s: %w", name.Name(), err)
		}
		if err := merge(doc, part, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", name.Name(), err)
		}
	}
	addErrors(doc)
	out, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the description: %w", err)
	}
	return append(out, '\n'), nil
}

// merge puts a part into the document. Objects are merged; what two parts
// define is an error.
func merge(doc, part object, at string) error {
	for _, name := range slices.Sorted(maps.Keys(part)) {
		value, there := part[name], doc[name]
		if there == nil {
			doc[name] = value
			continue
		}
		old, ok1 := there.(object)
		add, ok2 := value.(object)
		if !ok1 || !ok2 {
			return fmt.Errorf("%s/%s is defined twice", at, name)
		}
		if err := merge(old, add, at+"/"+name); err != nil {
			return err
		}
	}
	return nil
}
