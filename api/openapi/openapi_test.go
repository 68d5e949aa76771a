package openapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/verdict-pdp/verdict/api/openapi"
)

// document decodes the description.
func document(t *testing.T) map[string]any {
	t.Helper()
	raw, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at is the value at a JSON pointer.
func at(doc any, pointer string) any {
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		obj, ok := doc.(map[string]any)
		if !ok {
			return nil
		}
		doc = obj[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return doc
}

func TestDocument(t *testing.T) {
	doc := document(t)
	for pointer, want := range map[string]string{
		"/openapi": `"3.1.0"`,
		"/paths/~1api~1v1~1preview/post/security":                            `[{"bearer":["decide","admin"]},{"certificate":["decide","admin"]}]`,
		"/paths/~1v1~1data~1{path}/post/security":                            `[{"bearer":["decide","admin"]},{"certificate":["decide","admin"]},{}]`,
		"/paths/~1v1~1data~1{path}/put/security":                             `[{"bearer":["data:write","admin"]},{"certificate":["data:write","admin"]}]`,
		"/paths/~1v1~1data~1{path}/put/x-verdict-body-limit":                 `"limits.data_body"`,
		"/paths/~1health/get/security":                                       `[]`,
		"/paths/~1authz~1forward/get/x-verdict-access":                       `{"dev":"open","otherwise":"peers"}`,
		"/paths/~1api~1v1~1bundles~1{name}/put/x-verdict-scopes":             `["bundles:NAME","admin"]`,
		"/paths/~1api~1v1~1status/get/responses/401/$ref":                    `"#/components/responses/native-401"`,
		"/paths/~1v1~1config/get/responses/503/$ref":                         `"#/components/responses/opa-503"`,
		"/components/responses/native-401/content/application~1json":         `null`,
		"/components/responses/opa-401/content/application~1json/schema":     `{"$ref":"#/components/schemas/OPAError"}`,
		"/components/responses/native-503/headers/Retry-After/$ref":          `"#/components/headers/Retry-After"`,
		"/components/responses/opa-413":                                      `null`,
		"/components/securitySchemes/certificate/type":                       `"mutualTLS"`,
		"/components/responses/authzen-413/content/application~1json/schema": `{"$ref":"#/components/schemas/AuthZENError"}`,
	} {
		got, err := json.Marshal(at(doc, pointer))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, want %s", pointer, got, want)
		}
	}
}

// TestReferences follows every reference.
func TestReferences(t *testing.T) {
	doc := document(t)
	count := 0
	var look func(v any)
	look = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				count++
				if at(doc, strings.TrimPrefix(ref, "#")) == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, value := range v {
				look(value)
			}
		case []any:
			for _, value := range v {
				look(value)
			}
		}
	}
	look(doc)
	if count < 100 {
		t.Errorf("%d references only", count)
	}
}

// TestOperations wants of each operation what a reader needs.
func TestOperations(t *testing.T) {
	paths, _ := document(t)["paths"].(map[string]any)
	for path, item := range paths {
		for method, v := range item.(map[string]any) {
			op, ok := v.(map[string]any)
			if !ok {
				continue // parameters
			}
			for _, member := range []string{"operationId", "summary", "tags", "security", "responses", "x-verdict-class", "x-verdict-access", "x-verdict-scopes", "x-verdict-listeners"} {
				if op[member] == nil {
					t.Errorf("%s %s has no %s", method, path, member)
				}
			}
			if body, ok := op["requestBody"].(map[string]any); ok && body["$ref"] == nil {
				for media, content := range body["content"].(map[string]any) {
					if media == "application/json" && content.(map[string]any)["examples"] == nil {
						t.Errorf("%s %s has no example of its body", method, path)
					}
				}
			}
		}
	}
}
