# What the tests of the library share: one question to which everything speaks
# in favour, and ways to change it.
package verdict.fixtures_test

good := {
	"subject": {"type": "user", "id": "alice", "properties": {"roles": ["customer_service"], "tenant": "t1", "organization": "o1"}},
	"action": {"name": "read"},
	"resource": {"type": "customer", "id": "c1", "properties": {"tenant": "t1", "organization": "o1", "owner": "alice"}},
	"context": {
		"time": "2026-11-23T10:00:00Z",
		"session": {
			"id": "s1",
			"mfa": true,
			"created_at": "2026-11-23T10:00:00Z",
			"last_verified_at": "2026-11-23T10:00:00Z",
			"anomaly": 0,
			"auth_failures": 0,
			"incidents": [],
		},
		"device": {"id": "d1", "trusted": true},
		"location": {"country": "US", "verified": true},
		"network": {"ip": "10.1.2.3"},
	},
}

# ask is the good question with members changed, but for roles and the like
# lists are replaced.
ask(change) := object.union(good, change)

# drop is a question without some members.
drop(question, paths) := json.remove(question, paths)

as_role(role) := ask({"subject": {"properties": {"roles": [role]}}})

at(timestamp) := ask({"context": {"time": timestamp}})

from(country) := ask({"context": {"location": {"country": country}}})

to(action, kind) := ask({"action": {"name": action}, "resource": {"type": kind}})

under(policy, change) := object.union(ask({"context": {"policy": policy}}), change)

codes(decision) := {reason.code | some reason in decision.reasons}

# denied_for holds for a denial whose reasons have exactly these codes.
denied_for(decision, expected) if {
	decision.allow == false
	decision.decision == "deny"
	codes(decision) == expected
}

indeterminate_for(decision, expected) if {
	decision.allow == false
	decision.decision == "indeterminate"
	codes(decision) == expected
}

permitted(decision) if {
	decision.allow == true
	decision.decision == "permit"
}
