package verdict.authz_test

import data.verdict.authz
import data.verdict.fixtures_test as fix

role_question(name, change) := object.union(
	fix.ask({"action": {"name": "hold"}, "resource": {"type": "role", "id": name}}),
	change,
)

hierarchy := {"agent": {"inherits": ["customer_service"]}, "loop": {"inherits": ["loop"]}, "off": {"active": false}}

role_answer(name, change) := answer if {
	answer := authz.role with input as role_question(name, change)
		with data.verdict.rbac.roles as object.union(data.verdict.rbac.roles, hierarchy)
}

subject_with(properties) := {"subject": {"properties": properties}}

test_role_that_the_subject_has if {
	every name, change in {"customer_service": {}, "agent": subject_with({"roles": ["agent"]})} {
		fix.permitted(role_answer(name, change))
		role_answer(name, change).reasons[0].code == "role_held"
	}
	fix.permitted(role_answer("customer_service", subject_with({"roles": ["agent"]})))
	fix.permitted(role_answer("customer_service", {"context": {"policy": "user"}}))
}

test_role_that_the_subject_lacks if {
	fix.denied_for(role_answer("auditor", {}), {"role_missing"})
	fix.denied_for(role_answer("agent", {}), {"role_missing"})
	fix.denied_for(role_answer("nothing", {}), {"role_missing"})
	fix.denied_for(role_answer("off", subject_with({"roles": ["off"]})), {"role_missing"})
	fix.denied_for(role_answer("auditor", {"context": {"session": {"active_roles": ["auditor"]}}}), {"role_missing"})
	fix.denied_for(authz.role, {"subject_unknown"}) with input as json.remove(role_question("auditor", {}), ["/subject/properties/roles"])
	fix.denied_for(role_answer("customer_service", {"resource": {"type": "customer"}}), {"role_missing"})
}

test_what_speaks_against_somebody_with_a_role if {
	fix.denied_for(role_answer("customer_service", subject_with({"status": "suspended"})), {"subject_suspended"})
	fix.denied_for(role_answer("customer_service", {"context": {"session": {"status": "revoked"}}}), {"session_revoked"})
	fix.denied_for(role_answer("customer_service", {"context": {"policy": "user", "session": {"mfa": false}}}), {"mfa_required"})
	fix.indeterminate_for(role_answer("loop", subject_with({"roles": ["loop"]})), {"role_cycle"})
	fix.indeterminate_for(role_answer("customer_service", {"context": {"time": "now"}}), {"time_invalid"})
	fix.indeterminate_for(role_answer("", {}), {"input_incomplete"})
	not authz.role.allow with input as null
	not authz.role.allow with input as {}
}

test_role_that_nothing_answers_for if {
	answer := authz.role with input as {} with data.verdict.authz.decision as {}
	[answer.allow, answer.decision, answer.reasons[0].code] == [false, "indeterminate", "evaluation_incomplete"]
}
