package verdict.rules_test

import data.verdict.authz
import data.verdict.fixtures_test as fix
import data.verdict.rules

# decide answers the question under these rules alone.
decide(question, custom) := d if {
	d := authz.decision with input as question
		with data.verdict.rules.shipped as {}
		with data.verdict.rules.custom as custom
}

test_shipped_rules_are_one_key_away if {
	on := {id | some id, rule in data.verdict.rules.shipped; rule.enabled}
	on == {"tenant_isolation"}
	object.keys(data.verdict.rules.shipped) == {"business_hours_only", "geo_restriction", "sensitive_operations", "tenant_isolation"}
}

test_business_hours_only if {
	every row in [
		["2026-11-23T08:59:59Z", false], ["2026-11-23T09:00:00Z", true], ["2026-11-23T17:59:59Z", true],
		["2026-11-23T18:00:00Z", false], ["2026-11-28T10:00:00Z", false],
	] {
		d := authz.decision with input as fix.at(row[0])
			with data.verdict.rules.shipped.business_hours_only.enabled as true
		d.allow == row[1]
	}
	d := authz.decision with input as fix.at("2026-11-28T10:00:00Z")
		with data.verdict.rules.shipped.business_hours_only.enabled as true
	fix.denied_for(d, {"outside_hours"})
	d.policy == "business_hours_only"
}

test_geo_restriction if {
	every row in [["US", true], ["KP", false], ["CN", false], ["ru", false]] {
		d := authz.decision with input as fix.from(row[0]) with data.verdict.rules.shipped.geo_restriction.enabled as true
		d.allow == row[1]
	}
	known := authz.decision with input as fix.from("KP") with data.verdict.rules.shipped.geo_restriction.enabled as true
	fix.denied_for(known, {"country_restricted"})
	unknown := authz.decision with input as fix.drop(fix.good, ["context/location/country"])
		with data.verdict.rules.shipped.geo_restriction.enabled as true
	fix.denied_for(unknown, {"country_unknown"})
}

test_sensitive_operations if {
	every row in [["billing_clerk", "export", "billing", false], ["tenant_admin", "export", "billing", true], ["org_admin", "delete", "user", true]] {
		question := object.union(fix.to(row[1], row[2]), {"subject": {"properties": {"roles": [row[0]]}}})
		d := authz.decision with input as question with data.verdict.rules.shipped.sensitive_operations.enabled as true
		d.allow == row[3]
		off := authz.decision with input as question
		off.allow == true
	}
}

test_tenant_isolation if {
	every row in [["t1", "t1", true, set()], ["t1", "t2", false, {"tenant_mismatch"}], [null, null, false, {"tenant_unknown"}]] {
		question := fix.ask({"subject": {"properties": {"tenant": row[0]}}, "resource": {"properties": {"tenant": row[1]}}})
		d := authz.decision with input as question
		d.allow == row[2]
		count(row[3] - fix.codes(d)) == 0
		admin := authz.decision with input as object.union(question, {"subject": {"properties": {"roles": ["super_admin"]}}})
		fix.permitted(admin)
		off := authz.decision with input as question with data.verdict.rules.shipped.tenant_isolation.enabled as false
		fix.permitted(off)
	}
}

test_switches if {
	every row in [
		[{}, false], [{"enabled": true}, false], [{"enabled": false}, true], [{"is_active": false}, true],
		[{"enabled": true, "is_active": false}, true], [{"is_active": true}, false],
	] {
		d := decide(fix.good, {"r": object.union({"effect": "deny"}, row[0])})
		d.allow == row[1]
	}
}

test_priority_then_id if {
	listed := [
		{"id": "c", "effect": "deny"}, {"id": "b", "effect": "deny", "priority": 300},
		{"id": "a", "effect": "require", "when": {"countries": ["DE"], "zones": ["admin"]}}, {"id": "d", "effect": "deny", "priority": 99.5},
	]
	d := decide(fix.good, listed)
	[reason.policy | some reason in d.reasons] == ["b", "a", "a", "c", "d"]
	reversed := decide(fix.good, array.reverse(listed))
	reversed == d
	keyed := decide(fix.good, {rule.id: object.remove(rule, ["id"]) | some rule in listed})
	keyed == d
	grants := {"x": {"effect": "permit"}, "w": {"effect": "permit", "priority": 101}, "v": {"effect": "permit"}}
	permits := rules.permits with input as fix.good with data.verdict.rules.custom as grants
	permits == ["w", "v", "x"]
}

test_effects_and_the_unknown if {
	somewhere := fix.drop(fix.good, ["context/location/country"])
	deny := decide(somewhere, {"r": {"effect": "deny", "when": {"countries": ["KP"]}}})
	fix.denied_for(deny, {"country_unknown"})
	excused := decide(somewhere, {"r": {"effect": "deny", "when": {"countries": ["KP"], "mfa": true, "zones": ["dmz"]}}})
	fix.permitted(excused)
	held := decide(fix.good, {"r": {"effect": "deny", "when": {"countries": ["US"]}}})
	fix.denied_for(held, {"rule_denied"})
	require := decide(somewhere, {"r": {"effect": "require", "when": {"countries": ["US"]}}})
	fix.denied_for(require, {"country_unknown"})
	permit := decide(object.union(somewhere, {"action": {"name": "delete"}}), {"r": {"effect": "permit", "when": {"countries": ["US"]}}})
	fix.denied_for(permit, {"permission_missing"})
}

test_targets if {
	every row in [
		[{}, true], [{"actions": ["read"]}, true], [{"actions": ["write"]}, false], [{"actions": {"not_in": ["read"]}}, false],
		[{"resource_types": ["customer"]}, true], [{"resource_types": ["ticket"]}, false], [{"subject_types": ["user"]}, true],
		[{"subject_types": ["service"]}, false], [{"roles": ["customer_service"]}, true], [{"roles": ["auditor"]}, false],
		[{"roles": {"in": ["customer_service"]}}, true], [{"roles": {"not_in": ["customer_service"]}}, false],
		[{"zones": ["internal"]}, true], [{"zones": ["admin"]}, false], [{"tenants": ["t1"]}, true], [{"tenants": ["t2"]}, false],
		[{"actions": ["read"], "resource_types": ["ticket"]}, false],
	] {
		d := decide(fix.good, {"r": {"effect": "deny", "target": row[0]}})
		fix.codes(d) == {true: {"rule_denied"}, false: {"permission_granted"}}[row[1]]
	}
}

test_target_tenant if {
	subject_only := fix.drop(fix.good, ["resource/properties/tenant"])
	d := decide(subject_only, {"r": {"effect": "deny", "target": {"tenants": ["t1"]}}})
	fix.denied_for(d, {"rule_denied"})
	neither := fix.drop(subject_only, ["subject/properties/tenant"])
	unknown := decide(neither, {"r": {"effect": "deny", "target": {"tenants": ["t1"]}}})
	fix.denied_for(unknown, {"rule_denied"})
	permit := decide(object.union(neither, {"action": {"name": "delete"}}), {"r": {"effect": "permit", "target": {"tenants": ["t1"]}}})
	fix.denied_for(permit, {"permission_missing"})
	malformed := decide(neither, {"r": {"effect": "deny", "target": {"tenants": "t1"}}})
	fix.indeterminate_for(malformed, {"rule_invalid"})
}

test_conditions if {
	every row in [
		[{"networks": ["10.0.0.0/8"]}, set()], [{"networks": {"not_in": ["10.0.0.0/8"]}}, {"network_not_allowed"}],
		[{"zones": ["internal"]}, set()], [{"zones": ["admin"]}, {"zone_not_allowed"}],
		[{"roles": ["customer_service"]}, set()], [{"roles": ["auditor"]}, {"role_required"}],
		[{"trust": "verified"}, set()], [{"max_risk": 0}, set()], [{"mfa": true}, set()], [{"same_tenant": true}, set()],
		[{"attributes": {"resource.properties.owner": {"same_as": "subject.id"}}}, set()],
		[{"attributes": {"resource.properties.owner": {"equals": "bob"}}}, {"attribute_mismatch"}],
		[{"attributes": {"resource.properties.colour": {"equals": "red"}}}, {"attribute_unknown"}],
		[{"time": {"from": "11:00"}}, {"outside_hours"}],
	] {
		d := decide(fix.good, {"r": {"effect": "require", "when": row[0]}})
		fix.codes(d) == {true: {"permission_granted"}, false: row[1]}[row[1] == set()]
	}
	bare := fix.drop(fix.good, ["context/session", "context/device", "context/location", "context/network"])
	every row in [
		[{"trust": "low"}, "trust_too_low"], [{"max_risk": 0.9}, "risk_too_high"], [{"mfa": true}, "mfa_required"],
		[{"networks": ["10.0.0.0/8"]}, "network_unknown"], [{"countries": ["US"]}, "country_unknown"],
	] {
		d := decide(bare, {"r": {"effect": "require", "when": row[0]}})
		fix.denied_for(d, {row[1]})
	}
}

test_permit_with_a_condition_that_moves if {
	every row in [[{"trust": "verified"}, true], [{"max_risk": 0.5}, true], [{"time": {"from": "11:00"}}, false]] {
		d := decide(fix.to("launch", "rocket"), {"r": {"effect": "permit", "when": row[0]}})
		d.allow == row[1]
	}
}

test_malformed_rules_are_indeterminate if {
	every rule in [
		{"effect": "allow"}, {}, "deny", 7, null, {"effect": "deny", "id": "other"}, {"effect": "deny", "priority": "high"},
		{"effect": "deny", "enabled": "no"}, {"effect": "deny", "is_active": 0}, {"effect": "deny", "when": "always"},
		{"effect": "deny", "target": "all"}, {"effect": "deny", "target": {"resource_type": ["customer"]}},
		{"effect": "deny", "target": {"actions": "read"}}, {"effect": "deny", "target": {"roles": "x"}}, {"effect": "deny", "condition": "9 <= time.hour"},
		{"effect": "deny", "when": {"weekday": ["mon"]}}, {"effect": "require", "when": {"mfa": false}},
		{"effect": "require", "when": {"same_tenant": false}}, {"effect": "require", "when": {"max_risk": "low"}},
		{"effect": "require", "when": {"trust": "total"}}, {"effect": "require", "when": {"attributes": {}}},
		{"effect": "require", "when": {"attributes": []}}, {"effect": "require", "when": {"attributes": {"subject.id": {"like": "a"}}}},
		{"effect": "require", "when": {"countries": ["USA"]}}, {"effect": "require", "when": {"networks": ["10/8"]}},
		{"effect": "require", "when": {"zones": "internal"}}, {"effect": "require", "when": {"roles": {"any": ["x"]}}},
		{"effect": "require", "when": {"time": {"hour": 9}}}, {"effect": "permit", "when": {"time": {"hour": 9}}},
	] {
		d := decide(fix.good, {"r": rule})
		fix.indeterminate_for(d, {"rule_invalid"})
	}
}

test_condition_text_is_refused_with_its_reason if {
	d := decide(fix.good, {"r": {"effect": "permit", "condition": "True"}})
	d.reasons[0].detail == "conditions stand under `when`; a text is never evaluated"
}

test_malformed_rule_about_something_else_is_no_matter if {
	d := decide(fix.good, {"r": {"effect": "allow", "target": {"actions": ["launch"]}}})
	fix.permitted(d)
}

test_duplicate_ids_are_refused if {
	twice := decide(fix.good, [{"id": "x", "effect": "permit"}, {"id": "x", "effect": "permit", "enabled": false}])
	fix.indeterminate_for(twice, {"rule_duplicate"})
	shipped := authz.decision with input as fix.good
		with data.verdict.rules.custom as {"tenant_isolation": {"effect": "permit"}}
	fix.indeterminate_for(shipped, {"rule_duplicate"})
	rules.duplicates == set()
}

test_rules_that_are_no_collection if {
	every custom in ["none", [{"effect": "permit"}, {"id": ""}]] {
		d := decide(fix.good, custom)
		d.decision == "indeterminate"
	}
	unnamed := rules.entries with data.verdict.rules.custom as [{"effect": "permit"}] with data.verdict.rules.shipped as {}
	unnamed[0][0] == "custom[0]"
}

test_problems if {
	rules.problems == []
	found := rules.problems with data.verdict.rules.custom as {
		"a": {"effect": "deny", "enabled": false, "when": {"weekday": 1}},
		"b": {"effect": "deny", "enabled": false, "target": {"zone": []}},
		"c": {"effect": "deny", "target": 7},
		"d": {"effect": "deny", "when": {"mfa": true}, "target": {"actions": ["read"]}},
	}
	found == [["rule_invalid", "a"], ["rule_invalid", "b"], ["rule_invalid", "c"]]
}
