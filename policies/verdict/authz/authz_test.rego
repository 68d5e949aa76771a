package verdict.authz_test

import data.verdict.authz
import data.verdict.fixtures_test as fix

test_permit_has_every_member if {
	d := authz.decision with input as fix.good
	fix.permitted(d)
	object.keys(d) == {"allow", "decision", "reasons", "obligations", "advice", "policy", "trust", "permissions"}
	d.reasons == [{"code": "permission_granted", "policy": "verdict.rbac", "detail": "customer.read by customer_service"}]
	d.policy == "verdict.rbac"
	d.permissions == ["customer.read"]
	d.obligations == []
	d.advice == []
	d.trust.level == "verified"
}

test_incomplete_input_denies if {
	every path in ["subject", "subject/type", "subject/id", "action", "action/name", "resource", "resource/type", "resource/id"] {
		d := authz.decision with input as fix.drop(fix.good, [path])
		fix.indeterminate_for(d, {"input_incomplete"})
	}
	every odd in [{}, [], "text", 1, true, null] {
		d := authz.decision with input as odd
		fix.indeterminate_for(d, {"input_incomplete"})
	}
	every change in [
		{"subject": {"id": ""}}, {"subject": {"id": 7}}, {"action": {"name": "a.b"}}, {"action": {"name": "*"}},
		{"resource": {"type": "*"}}, {"resource": {"id": ["c1"]}},
	] {
		d := authz.decision with input as fix.ask(change)
		fix.indeterminate_for(d, {"input_incomplete"})
	}
	d := authz.decision with input as {"subject": {"type": "user"}, "action": "read"}
	d.reasons[0].detail == "missing or malformed: subject.id, action.name, resource.type, resource.id"
}

test_no_input_denies if {
	d := authz.decision
	fix.indeterminate_for(d, {"input_incomplete"})
}

test_a_part_without_answer_denies if {
	d := authz.decision with input as fix.good with data.verdict.trust.weights as {}
	fix.indeterminate_for(d, {"evaluation_incomplete"})
}

test_four_codes_for_four_causes if {
	unknown := authz.decision with input as fix.drop(fix.good, ["subject/properties/roles"])
	fix.denied_for(unknown, {"subject_unknown"})
	missing := authz.decision with input as fix.to("delete", "customer")
	fix.denied_for(missing, {"permission_missing"})
	refused := authz.decision with input as fix.good
		with data.verdict.rules.custom as {"never": {"effect": "deny"}}
	fix.denied_for(refused, {"rule_denied"})
	refused.policy == "never"
	granted := authz.decision with input as fix.good
	fix.codes(granted) == {"permission_granted"}
}

test_unknown_permission_is_not_applicable if {
	d := authz.decision with input as fix.to("launch", "rocket")
	d.allow == false
	d.decision == "not_applicable"
	fix.codes(d) == {"permission_unknown"}
}

test_deny_overrides_error_and_grant if {
	d := authz.decision with input as fix.good
		with data.verdict.rules.custom as {"broken": {"effect": "deny", "condition": "True"}, "no": {"effect": "deny"}}
	d.decision == "deny"
	[reason.code | some reason in d.reasons] == ["rule_denied", "rule_invalid"]
}

test_rule_grants_beyond_roles if {
	rules := {"anyone": {"effect": "permit", "target": {"actions": ["launch"]}}}
	d := authz.decision with input as fix.to("launch", "rocket") with data.verdict.rules.custom as rules
	fix.permitted(d)
	d.reasons == [{"code": "rule_granted", "policy": "anyone", "detail": "the rule grants this"}]
	denied := authz.decision with input as fix.to("launch", "rocket")
		with data.verdict.rules.custom as object.union(rules, {"no": {"effect": "deny"}})
	fix.denied_for(denied, {"rule_denied"})
}

test_malformed_time_is_indeterminate if {
	every time in ["yesterday", "2026-02-30T10:00:00Z", "2026-11-23", 1795426200, false, {}] {
		d := authz.decision with input as fix.ask({"context": {"time": time}})
		fix.indeterminate_for(d, {"time_invalid"})
	}
	d := authz.decision with input as fix.ask({"context": {"time": null}})
	d.allow == true
}

test_broken_tables_are_indeterminate if {
	zones := authz.decision with input as fix.good with data.verdict.geo.zones.networks as {"10.0.0.0/33": "internal"}
	fix.indeterminate_for(zones, {"zone_table_invalid"})
	weights := authz.decision with input as fix.good with data.verdict.trust.weights.mfa as 7
	fix.indeterminate_for(weights, {"trust_invalid"})
}

test_step_up_when_it_would_help if {
	without_mfa := fix.under("user", {"context": {"session": {"mfa": false}}})
	d := authz.decision with input as without_mfa
	fix.denied_for(d, {"mfa_required"})
	d.obligations == [{"id": "step-up", "type": "step-up", "properties": {
		"acr_values": ["urn:verdict:acr:mfa"],
		"amr_values": ["mfa"],
		"max_age": 300,
	}}]
	rule := authz.decision with input as fix.ask({"context": {"session": {"mfa": false}}})
		with data.verdict.rules.custom as {"two": {"effect": "require", "when": {"mfa": true}}}
	rule.obligations[0].properties.amr_values == ["mfa"]
}

test_no_step_up_when_it_would_not_help if {
	elsewhere := fix.under("user", {
		"context": {"session": {"mfa": false}},
		"resource": {"properties": {"tenant": "t2"}},
	})
	d := authz.decision with input as elsewhere
	fix.denied_for(d, {"mfa_required", "tenant_mismatch"})
	d.obligations == []
	broken := authz.decision with input as fix.under("user", {"context": {"session": {"mfa": false}}})
		with data.verdict.rules.custom as {"broken": {"effect": "deny", "condition": "True"}}
	broken.obligations == []
}

test_step_up_raises_trust_or_not if {
	# Without MFA, location and behaviour the level is low; MFA alone lifts it.
	reachable := fix.under("user", {"context": {
		"session": {"mfa": false, "anomaly": 1},
		"location": {"verified": false},
	}})
	d := authz.decision with input as reachable
	fix.denied_for(d, {"mfa_required", "trust_too_low", "risk_too_high"})
	d.obligations[0].type == "step-up"
	hopeless := authz.decision with input as object.union(reachable, {"context": {"session": {"auth_failures": 5}}})
	hopeless.obligations == []
}

test_field_filter if {
	role := {"grants": [{"permission": "customer.read", "scope": "field", "fields": ["name", "city"]}]}
	d := authz.decision with input as fix.as_role("reader") with data.verdict.rbac.roles as {"reader": role}
	fix.permitted(d)
	d.obligations == [{"id": "fields", "type": "field-filter", "properties": {"fields": ["city", "name"]}}]
}

test_advice if {
	unmapped := authz.decision with input as fix.ask({"context": {"network": {"ip": "203.0.113.9"}}})
	unmapped.advice == [{"id": "zone_unmapped", "type": "notice", "properties": {"zone": "dmz"}}]
	unmapped.allow == true
	roles := authz.decision with input as fix.ask({"subject": {"properties": {"roles": ["customer_service", "ghost"]}}})
	roles.advice == [{"id": "roles_ignored", "type": "notice", "properties": {"roles": ["ghost"]}}]
	grant := {"permission": "customer.delete", "expires_at": "2026-11-23T10:01:00Z", "reason": "incident 7"}
	temporary := authz.decision with input as object.union(
		fix.to("delete", "customer"),
		{"subject": {"properties": {"temporary_permissions": [grant]}}},
	)
	fix.permitted(temporary)
	temporary.advice == [{"id": "temporary_permission", "type": "notice", "properties": grant}]
}

test_problems_of_shipped_data if authz.problems == []

test_problems_name_each_fault if {
	found := {problem.code | some problem in authz.problems} with data.verdict.zerotrust.policies.dead as {
		"required_trust_level": "low",
		"allowed_security_zones": ["critical"],
	}
		with data.verdict.zerotrust.policies.shadow as {
			"required_trust_level": "low",
			"allowed_security_zones": ["internal"],
		}
		with data.verdict.rbac.roles as {"a": {"inherits": ["a", "ghost"]}}
		with data.verdict.rules.custom as [{"id": "x", "effect": "deny"}, {"id": "x"}]
		with data.verdict.geo.zones.networks as {"nonsense": "internal"}
		with data.verdict.trust.weights.mfa as 0.5
	found == {
		"policy_unsatisfiable", "policy_shadowed", "role_cycle", "role_unknown", "rule_duplicate", "rule_invalid",
		"zone_table_invalid", "trust_invalid",
	}
}
