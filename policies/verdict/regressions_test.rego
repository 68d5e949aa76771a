# The faults of the engine which these policies replace, each shown to be absent.
package verdict.regressions_test

import data.verdict.authz
import data.verdict.fixtures_test as fix
import data.verdict.rbac
import data.verdict.zerotrust

# B1: a rule whose condition was false left "not applicable", which permitted.
test_b1_a_rule_that_does_not_hold_denies if {
	night := authz.decision with input as fix.at("2026-11-23T03:00:00Z")
		with data.verdict.rules.shipped.business_hours_only.enabled as true
	fix.denied_for(night, {"outside_hours"})
	abroad := authz.decision with input as fix.from("KP") with data.verdict.rules.shipped.geo_restriction.enabled as true
	fix.denied_for(abroad, {"country_restricted"})
	stranger := authz.decision with input as fix.ask({"resource": {"properties": {"tenant": "t2"}}})
	fix.denied_for(stranger, {"tenant_mismatch"})
	nothing := authz.decision with input as fix.to("launch", "rocket")
	nothing.decision == "not_applicable"
	nothing.allow == false
}

# B2: every condition raised an error, so every rule was false.
test_b2_every_shipped_rule_can_hold_and_can_fail if {
	every row in [
		["business_hours_only", fix.at("2026-11-23T12:00:00Z"), fix.at("2026-11-23T20:00:00Z")],
		["geo_restriction", fix.from("US"), fix.from("RU")],
		["tenant_isolation", fix.good, fix.ask({"resource": {"properties": {"tenant": "t2"}}})],
		[
			"sensitive_operations",
			object.union(fix.to("delete", "customer"), {"subject": {"properties": {"roles": ["tenant_admin"]}}}),
			object.union(fix.to("export", "billing"), {"subject": {"properties": {"roles": ["billing_clerk"]}}}),
		],
	] {
		only := {row[0]: object.union(data.verdict.rules.shipped[row[0]], {"enabled": true})}
		holds := authz.decision with input as row[1] with data.verdict.rules.shipped as only
		fix.permitted(holds)
		fails := authz.decision with input as row[2] with data.verdict.rules.shipped as only
		fails.decision == "deny"
		fails.policy == row[0]
	}
}

# B3: the country was never there, and an absent one was not in the list.
test_b3_unknown_country_denies if {
	every question in [
		fix.drop(fix.good, ["context/location"]), fix.drop(fix.good, ["context/location/country"]),
		fix.from(""), fix.from("XX"), fix.from("North Korea"), fix.from(null),
	] {
		d := authz.decision with input as question with data.verdict.rules.shipped.geo_restriction.enabled as true
		fix.denied_for(d, {"country_unknown"})
	}
}

# B4: two tenants that were both missing were the same tenant.
test_b4_two_missing_tenants_are_not_the_same if {
	every value in [null, "", 0, false] {
		d := authz.decision with input as fix.ask({
			"subject": {"properties": {"tenant": value}},
			"resource": {"properties": {"tenant": value}},
		})
		fix.denied_for(d, {"tenant_unknown"})
	}
	d := authz.decision with input as fix.drop(fix.good, ["subject/properties/tenant", "resource/properties/tenant"])
	fix.denied_for(d, {"tenant_unknown"})
}

asked(id) := object.union(fix.as_role("reader"), {"resource": {"id": id}})

# B5: answers were kept without the resource's id, and a revoked role lived on.
test_b5_each_resource_and_each_change_of_roles_counts if {
	roles := {"reader": {"grants": [{"permission": "customer.read", "scope": "resource", "resources": ["a"]}]}}
	a := authz.decision with input as asked("a") with data.verdict.rbac.roles as roles
	b := authz.decision with input as asked("b") with data.verdict.rbac.roles as roles
	[a.allow, b.allow] == [true, false]
	revoked := authz.decision with input as object.union(asked("a"), {"subject": {"properties": {"roles": []}}})
		with data.verdict.rbac.roles as roles
	revoked.allow == false
}

# B6: the time was part of the key under which answers were kept.
test_b6_what_a_role_grants_does_not_depend_on_the_time if {
	every time in ["2026-11-23T03:00:00Z", "2027-01-01T00:00:00Z"] {
		late := rbac.granted with input as fix.at(time)
		usual := rbac.granted with input as fix.good
		late == usual
	}
}

# B7: no policy could be met as written.
test_b7_every_shipped_policy_can_be_met if {
	zerotrust.unsatisfiable == {}
	admin := authz.decision with input as fix.under("admin", {"context": {"network": {"listener": "admin"}}})
	fix.permitted(admin)
	user := authz.decision with input as fix.under("user", {"context": {"location": {"verified": false}, "session": {"anomaly": 1}}})
	fix.permitted(user)
	user.trust.level == "medium"
	program := authz.decision with input as fix.under("api", {"context": {
		"device": {"trusted": false},
		"session": {"mfa": false, "anomaly": 1},
	}})
	fix.permitted(program)
	program.trust.level == "low"
}

# B9: the document's own call names user_operations, the register knew user.
test_b9_policies_are_found_by_name if {
	by_name := authz.decision with input as fix.under("user_operations", {})
	by_key := authz.decision with input as fix.under("user", {})
	fix.permitted(by_name)
	by_name == by_key
}
