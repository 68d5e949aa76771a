package verdict.rbac_test

import data.verdict.authz
import data.verdict.fixtures_test as fix
import data.verdict.rbac

chain := object.union(
	{sprintf("r%d", [i]): {"inherits": [sprintf("r%d", [i + 1])]} | some i in numbers.range(0, 8)},
	{"r9": {"permissions": ["customer.delete"]}},
)

deletes := fix.to("delete", "customer")

as_chain(role) := object.union(deletes, {"subject": {"properties": {"roles": [role]}}})

test_inheritance_over_ten_roles if {
	d := authz.decision with input as as_chain("r0") with data.verdict.rbac.roles as chain
	fix.permitted(d)
}

test_inactive_role_gives_nothing_and_cuts_the_chain if {
	every name in ["r0", "r5", "r9"] {
		every inactive in [false, "no", null] {
			d := authz.decision with input as as_chain("r0")
				with data.verdict.rbac.roles as object.union(chain, {name: {"active": inactive}})
			fix.denied_for(d, {"permission_missing"})
		}
	}
}

test_cycle_is_reported_and_does_not_loop if {
	roles := object.union(chain, {"r9": {"inherits": ["r3"]}})
	d := authz.decision with input as as_chain("r0") with data.verdict.rbac.roles as roles
	fix.indeterminate_for(d, {"role_cycle"})
	count(d.reasons) == 7
	apart := authz.decision with input as fix.good
		with data.verdict.rbac.roles as object.union(roles, {"customer_service": {"permissions": ["customer.read"]}})
	fix.permitted(apart)
}

test_wildcards if {
	every row in [
		["customer.*", true], ["*.delete", true], ["*", true], ["customer.delete", true],
		["customer", false], ["*.*", false], ["cust*.delete", false], ["billing.*", false], ["*.read", false], [7, false],
	] {
		d := authz.decision with input as as_chain("r") with data.verdict.rbac.roles as {"r": {"permissions": [row[0]]}}
		d.allow == row[1]
	}
}

test_revoked_role_is_gone_at_once if {
	before := authz.decision with input as fix.good
	before.allow == true
	after := authz.decision with input as fix.as_role("nobody")
	fix.denied_for(after, {"permission_missing"})
	none := authz.decision with input as fix.ask({"subject": {"properties": {"roles": []}}})
	fix.denied_for(none, {"permission_missing"})
	odd := authz.decision with input as fix.ask({"subject": {"properties": {"roles": "customer_service"}}})
	fix.denied_for(odd, {"subject_unknown"})
}

test_session_roles if {
	both := fix.ask({"subject": {"properties": {"roles": ["customer_service", "tenant_admin"]}}, "action": {"name": "delete"}})
	all := authz.decision with input as both
	all.allow == true
	fewer := authz.decision with input as object.union(both, {"context": {"session": {"active_roles": ["customer_service"]}}})
	fix.denied_for(fewer, {"permission_missing"})
	more := authz.decision with input as object.union(fix.good, {"context": {"session": {"active_roles": ["super_admin"]}}})
	fix.denied_for(more, {"permission_missing"})
	odd := authz.decision with input as object.union(fix.good, {"context": {"session": {"active_roles": "customer_service"}}})
	odd.allow == false
}

test_states_of_the_subject if {
	every row in [["suspended", "subject_suspended"], ["revoked", "subject_inactive"], [false, "subject_inactive"]] {
		d := authz.decision with input as fix.ask({"subject": {"properties": {"status": row[0]}}})
		fix.denied_for(d, {row[1]})
	}
	every status in ["active", null] {
		d := authz.decision with input as fix.ask({"subject": {"properties": {"status": status}}})
		fix.permitted(d)
	}
}

granting(grant) := {"r": {"grants": [object.union({"permission": "customer.delete"}, grant)]}}

test_scopes if {
	other := {"resource": {"properties": {"tenant": "t2", "organization": "o2"}}}
	every row in [
		[{}, {}, true], [{"scope": "global"}, other, true], [{"scope": "tenant"}, {}, true], [{"scope": "tenant"}, other, false],
		[{"scope": "organization"}, {}, true], [{"scope": "organization"}, other, false],
		[{"scope": "organization"}, {"resource": {"properties": {"organization": null}}}, false],
		[{"scope": "resource", "resources": ["c1"]}, {}, true], [{"scope": "resource", "resources": ["c2"]}, {}, false],
		[{"scope": "resource", "resources": "c1"}, {}, false], [{"scope": "resource"}, {}, false],
		[{"scope": "galaxy"}, {}, false], [{"scopes": "tenant"}, {}, false],
	] {
		d := authz.decision with input as object.union(as_chain("r"), row[1])
			with data.verdict.rbac.roles as granting(row[0])
			with data.verdict.rules.shipped as {}
		d.allow == row[2]
		fix.codes(d) == {true: {"permission_granted"}, false: {"permission_out_of_scope"}}[row[2]]
		d.permissions == ["customer.delete"]
	}
}

test_fields if {
	grant := {"scope": "field", "fields": ["name", "city"]}
	every row in [
		[null, grant, true], [["name"], grant, true], [["name", "city"], grant, true], [["ssn"], grant, false],
		[["name", "ssn"], grant, false], ["name", grant, false], [false, grant, false], [["name"], {"scope": "field", "fields": "name"}, false],
	] {
		d := authz.decision with input as object.union(as_chain("r"), {"resource": {"properties": {"fields": row[0]}}})
			with data.verdict.rbac.roles as granting(row[1])
		d.allow == row[2]
	}
	wider := {"r": {"grants": [object.union({"permission": "customer.delete"}, grant), {"permission": "customer.*"}]}}
	d := authz.decision with input as object.union(as_chain("r"), {"resource": {"properties": {"fields": ["ssn"]}}})
		with data.verdict.rbac.roles as wider
	fix.permitted(d)
	d.obligations == []
}

test_conditions if {
	every row in [
		[{"owner": true}, {}, true], [{"owner": true}, {"resource": {"properties": {"owner": "bob"}}}, false],
		[{"owner": true}, {"resource": {"properties": {"owner": null}}}, false], [{"owner": false}, {}, true],
		[{"owner": "alice"}, {}, false], ["owner", {}, false], [{"mine": true}, {}, false], [{"attributes": []}, {}, false],
		[{"attributes": {"resource.properties.tenant": {"equals": "t1"}}}, {}, true],
		[{"attributes": {"resource.properties.tenant": {"equals": "t2"}}}, {}, false],
		[{"attributes": {"resource.properties.state": {"not_equals": "x"}}}, {}, false],
		[{"attributes": {"resource.properties.state": {"like": "x"}}}, {}, false],
	] {
		d := authz.decision with input as object.union(as_chain("r"), row[1])
			with data.verdict.rbac.roles as granting({"when": row[0]})
		d.allow == row[2]
	}
}

temporarily(grant) := object.union(deletes, {"subject": {"properties": {"temporary_permissions": [grant]}}})

test_temporary_permissions_end if {
	grant := {"permission": "customer.delete", "expires_at": "2026-11-23T10:01:00Z", "reason": "incident 7"}
	every row in [["10:00:59", true], ["10:01:00", false], ["10:01:01", false]] {
		d := authz.decision with input as object.union(temporarily(grant), {"context": {"time": sprintf("2026-11-23T%sZ", [row[0]])}})
		d.allow == row[1]
	}
	every broken in [["reason"], ["expires_at"]] {
		d := authz.decision with input as temporarily(object.remove(grant, broken))
		fix.denied_for(d, {"temporary_permission_expired"})
	}
	odd := authz.decision with input as temporarily(object.union(grant, {"expires_at": "2099"}))
	fix.denied_for(odd, {"temporary_permission_expired"})
	scoped := authz.decision with input as temporarily(object.union(grant, {"scope": "resource", "resources": ["c9"]}))
	fix.denied_for(scoped, {"permission_out_of_scope"})
}

test_asserted_permissions_count_nothing if {
	d := authz.decision with input as object.union(deletes, {"subject": {"properties": {"permissions": ["customer.delete", "*"]}}})
	fix.denied_for(d, {"permission_missing"})
}

test_static_separation if {
	limits := {"books": {"roles": ["billing_clerk", "auditor"]}}
	both := fix.ask({"subject": {"properties": {"roles": ["billing_clerk", "auditor"]}}})
	d := authz.decision with input as both with data.verdict.rbac.separation.static as limits
	fix.denied_for(d, {"separation_of_duty"})
	d.policy == "books"
	one := authz.decision with input as fix.as_role("auditor") with data.verdict.rbac.separation.static as limits
	fix.permitted(one)

	# Inherited roles count, and being inactive in the session does not help.
	heir := {"heir": {"inherits": ["billing_clerk", "auditor"]}}
	inherited := authz.decision with input as fix.as_role("heir")
		with data.verdict.rbac.roles as object.union(data.verdict.rbac.roles, heir)
		with data.verdict.rbac.separation.static as limits
	fix.denied_for(inherited, {"separation_of_duty"})
	chosen := authz.decision with input as object.union(both, {"context": {"session": {"active_roles": ["auditor"]}}})
		with data.verdict.rbac.separation.static as limits
	fix.denied_for(chosen, {"separation_of_duty"})
}

test_dynamic_separation if {
	limits := {"hats": {"roles": ["billing_clerk", "auditor", "customer_service"], "max": 2}}
	all := fix.ask({"subject": {"properties": {"roles": ["billing_clerk", "auditor", "customer_service"]}}})
	d := authz.decision with input as all with data.verdict.rbac.separation.dynamic as limits
	fix.denied_for(d, {"separation_of_duty"})
	fewer := authz.decision with input as object.union(all, {"context": {"session": {"active_roles": ["auditor", "billing_clerk"]}}})
		with data.verdict.rbac.separation.dynamic as limits
	fix.permitted(fewer)
	every broken in [{"roles": "all"}, {"roles": ["a", "b"], "max": "2"}] {
		odd := authz.decision with input as fix.good with data.verdict.rbac.separation.dynamic as {"x": broken}
		fix.denied_for(odd, {"separation_of_duty"})
	}
}

test_operations_by_two_people if {
	limits := {"four_eyes": {"permissions": ["customer.*"], "not_by": ["requested_by"]}}
	every row in [["alice", false], ["bob", true], [null, false], ["", false]] {
		d := authz.decision with input as fix.ask({"resource": {"properties": {"requested_by": row[0]}}})
			with data.verdict.rbac.separation.operations as limits
		d.allow == row[1]
	}
	d := authz.decision with input as fix.good with data.verdict.rbac.separation.operations as limits
	fix.denied_for(d, {"separation_of_duty"})
}

test_problems if {
	found := rbac.problems with data.verdict.rbac.roles as {"a": {"inherits": ["b"]}, "b": {"inherits": ["a", "ghost"]}}
	{problem | some problem in found} == {["role_cycle", "a"], ["role_cycle", "b"], ["role_unknown", "ghost"]}
}
