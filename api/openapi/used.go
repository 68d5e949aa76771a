package openapi

import "strings"

// unused removes the responses that nothing in the document names.
func unused(doc, responses object) {
	used := map[string]bool{}
	references(doc, func(ref string) {
		if name, ok := strings.CutPrefix(ref, "#/components/responses/"); ok {
			used[name] = true
		}
	})
	for name := range responses {
		if !used[name] {
			delete(responses, name)
		}
	}
}

// references calls fn with each reference below v.
func references(v any, fn func(ref string)) {
	switch v := v.(type) {
	case object:
		for name, value := range v {
			if ref, ok := value.(string); ok && name == "$ref" {
				fn(ref)
			}
			references(value, fn)
		}
	case []any:
		for _, value := range v {
			references(value, fn)
		}
	}
}
