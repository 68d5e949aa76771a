package policies_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/verdict-pdp/verdict/policies"
)

// validate returns what the schema, or one of its definitions, says against a
// document.
func validate(t *testing.T, definition string, value any) []any {
	t.Helper()
	raw, err := policies.Schema()
	if err != nil {
		t.Fatal(err)
	}
	schema := parse(t, raw)
	if definition != "" {
		schema = map[string]any{
			"$schema":     schema["$schema"],
			"allOf":       []any{map[string]any{"$ref": "#/definitions/" + definition}},
			"definitions": schema["definitions"],
		}
	}
	result, err := rego.New(
		rego.Query(`[_, errors] := json.match_schema(input.value, input.schema)`),
		rego.Input(map[string]any{"value": value, "schema": schema}),
		rego.StrictBuiltinErrors(true),
	).Eval(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	errors, _ := result[0].Bindings["errors"].([]any)
	return errors
}

func TestShippedDataMatchesTheSchema(t *testing.T) {
	for name, set := range map[string]*policies.Set{"standard": standard(t), "example": example(t)} {
		if errors := validate(t, "", set.Data["verdict"]); len(errors) > 0 {
			t.Errorf("%s: %v", name, errors)
		}
	}
}

func TestSchemaOfRulesAndPolicies(t *testing.T) {
	tests := []struct {
		definition, value string
		valid             bool
	}{
		{"rule", `{"effect": "deny"}`, true},
		{"rule", `{"id": "x", "name": "X", "description": "d", "effect": "permit", "priority": 5, "is_active": true}`, true},
		{"rule", `{"effect": "require", "target": {"roles": {"not_in": ["a"]}}, "when": {"countries": {"in": ["US"]}, "mfa": true}}`, true},
		{"rule", `{"effect": "require", "when": {"attributes": {"resource.properties.x": {"at_most": 5}}}}`, true},
		{"rule", `{"effect": "require", "when": {"time": {"from": "09:00", "to": "17:59", "weekdays": ["mon"]}}}`, true},
		{"rule", `{}`, false},
		{"rule", `{"effect": "allow"}`, false},
		{"rule", `{"effect": "deny", "condition": "True"}`, false},
		{"rule", `{"effect": "deny", "when": "True"}`, false},
		{"rule", `{"effect": "deny", "when": {"weekday": []}}`, false},
		{"rule", `{"effect": "deny", "when": {"countries": ["USA"]}}`, false},
		{"rule", `{"effect": "deny", "when": {"countries": {"in": ["US"], "not_in": ["CN"]}}}`, false},
		{"rule", `{"effect": "deny", "when": {"trust": "total"}}`, false},
		{"rule", `{"effect": "deny", "when": {"time": {"from": "9:00"}}}`, false},
		{"rule", `{"effect": "deny", "target": {"action": ["read"]}}`, false},
		{"zeroTrustPolicy", `{"required_trust_level": "low", "allowed_security_zones": ["dmz"]}`, true},
		{"zeroTrustPolicy", `{"required_trust_level": "low"}`, false},
		{"zeroTrustPolicy", `{"allowed_security_zones": ["dmz"]}`, false},
		{"zeroTrustPolicy", `{"required_trust_level": "low", "allowed_security_zones": ["moon"]}`, false},
		{"zeroTrustPolicy", `{"required_trust_level": "low", "allowed_security_zones": ["dmz"], "max_risk_score": 2}`, false},
		{"zeroTrustPolicy", `{"required_trust_level": "low", "allowed_security_zones": ["dmz"], "mfa": true}`, false},
		{"role", `{"permissions": ["customer.*", "*.read", "*"], "inherits": ["a"], "active": false}`, true},
		{"role", `{"permissions": ["customer"]}`, false},
		{"grant", `{"permission": "customer.read", "scope": "galaxy"}`, false},
	}
	for _, test := range tests {
		var value any
		if err := json.Unmarshal([]byte(test.value), &value); err != nil {
			t.Fatal(err)
		}
		if errors := validate(t, test.definition, value); (len(errors) == 0) != test.valid {
			t.Errorf("%s %s: %v", test.definition, test.value, errors)
		}
	}
}
