# METADATA
# title: Decision
# description: |
#   The entry point data.verdict.authz.decision: roles, rules, zero-trust
#   policies and trust put together. Default deny, deny overrides, and only
#   `permit` allows. The answer is never undefined.
package verdict.authz

import data.verdict.facts
import data.verdict.geo
import data.verdict.rbac
import data.verdict.rules
import data.verdict.trust
import data.verdict.zerotrust

default decision := {
	"allow": false,
	"decision": "indeterminate",
	"reasons": [{"code": "evaluation_incomplete", "policy": "verdict.authz", "detail": "a part of the policy gave no answer"}],
	"obligations": [],
	"advice": [],
	"policy": "verdict.authz",
	"trust": null,
	"permissions": [],
}

# METADATA
# title: The decision on one AuthZEN evaluation object
# entrypoint: true
decision := {
	"allow": outcome == "permit",
	"decision": outcome,
	"reasons": reasons,
	"obligations": obligations,
	"advice": advice,
	"policy": reasons[0].policy,
	"trust": trust.summary,
	"permissions": rbac.considered,
} if {
	facts.complete
} else := {
	"allow": false,
	"decision": "indeterminate",
	"reasons": [{"code": "input_incomplete", "policy": "verdict.authz", "detail": sprintf("missing or malformed: %s", [concat(", ", facts.missing)])}],
	"obligations": [],
	"advice": [],
	"policy": "verdict.authz",
	"trust": null,
	"permissions": [],
} if {
	not facts.complete
}

# A denial is stronger than an error, and without either only a grant permits.
outcome := "deny" if {
	count(denials) > 0
} else := "indeterminate" if {
	count(errors) > 0
} else := "permit" if {
	granted
} else := "not_applicable"

reasons := [granted] if {
	outcome == "permit"
} else := array.concat(denials, errors) if {
	count(denials) + count(errors) > 0
} else := [{
	"code": "permission_unknown",
	"policy": "verdict.rbac",
	"detail": sprintf("no role, rule or catalogue knows the permission %s", [facts.permission]),
}]

# granted is the reason of a permit: a permission of the subject, else a rule.
granted := {
	"code": "permission_granted",
	"policy": "verdict.rbac",
	"detail": concat("", [rbac.granted.permission, " by ", rbac.granted.by]),
} if {
	rbac.granted
} else := {
	"code": "rule_granted",
	"policy": rules.permits[0],
	"detail": "the rule grants this",
}

denials := array.flatten([rbac.denials, ungranted, zerotrust.denials, rules.denials])

ungranted := [] if {
	granted
} else := [{
	"code": code,
	"policy": "verdict.rbac",
	"detail": sprintf(refusals[code], [facts.permission]),
}] if {
	code := refusal
} else := []

# refusal is why nothing grants. A permission which neither the catalogue nor the
# subject knows is not denied: no policy applies to it.
refusal := "subject_unknown" if {
	not rbac.assigned
} else := "permission_out_of_scope" if {
	count(rbac.conditional) > 0
} else := "temporary_permission_expired" if {
	rbac.lapsed
} else := "permission_missing" if {
	data.verdict.rbac.permissions[facts.permission]
}

refusals := {
	"subject_unknown": "the subject has no roles fact, so %s is not granted",
	"permission_out_of_scope": "%s is granted only under conditions that do not hold here",
	"temporary_permission_expired": "the temporary permission for %s has ended, or lacks an end or a reason",
	"permission_missing": "no role of the subject grants %s",
}

errors := array.flatten([input_errors, table_errors, rbac.errors, zerotrust.errors, rules.errors])

input_errors := [] if {
	not facts.time_broken
	not trust.misconfigured
} else := array.concat(
	[fault("time_invalid", "context.time is not an RFC 3339 timestamp") | facts.time_broken],
	[fault("trust_invalid", "data.verdict.trust does not give a score between 0 and 1") | trust.misconfigured],
)

table_errors := [fault("zone_table_invalid", "data.verdict.geo.zones.networks holds what is not a CIDR block") |
	geo.zone_table_broken
]

fault(code, detail) := {"code": code, "policy": "verdict.authz", "detail": detail}

obligations := array.concat(challenge, field_filter)

# challenge says what to do about a denial, if stronger or fresher authentication
# is all that is missing.
challenge := [{
	"id": "step-up",
	"type": "step-up",
	"properties": {
		"acr_values": [value | stronger; some value in data.verdict.authz.step_up.acr_values],
		"amr_values": [value | stronger; some value in data.verdict.authz.step_up.amr_values],
		"max_age": min({data.verdict.authz.step_up.max_age} | zerotrust.max_ages),
	},
}] if {
	outcome == "deny"
	count(errors) == 0
	every reason in denials {
		curable(reason)
	}
} else := []

curable(reason) if reason.code in {"mfa_required", "verification_stale"}

curable(reason) if {
	reason.code in {"trust_too_low", "risk_too_high"}
	zerotrust.within_reach(reason.policy)
}

stronger if zerotrust.strong

stronger if {
	some reason in denials
	reason.code != "verification_stale"
}

field_filter := [{"id": "fields", "type": "field-filter", "properties": {"fields": sort(rbac.readable)}}] if {
	outcome == "permit"
	rbac.limited_to_fields
} else := []

# advice may be ignored without harm.
advice := array.flatten([
	[{"id": "temporary_permission", "type": "notice", "properties": properties} |
		outcome == "permit"
		rbac.granted.by == "temporary"
		some [grant, "temporary"] in rbac.in_force
		properties := object.filter(grant, ["permission", "expires_at", "reason"])
	],
	[{"id": "zone_unmapped", "type": "notice", "properties": {"zone": geo.zone}} |
		input.context.network != null
		geo.zone_unmapped
	],
	[{"id": "roles_ignored", "type": "notice", "properties": {"roles": sort(rbac.ignored)}} |
		count(rbac.ignored) > 0
	],
])

# METADATA
# title: Faults of the data under data.verdict
# description: Depends on no input; whoever loads data can warn of what it lists.
problems := sort([{"code": code, "policy": policy, "detail": detail} |
	some [code, policy, detail] in array.flatten([
		[["policy_unsatisfiable", key, why] | some key, why in zerotrust.unsatisfiable],
		[["policy_shadowed", key, why] | some key, why in zerotrust.shadowed],
		[[code, name, texts[code]] | some [code, name] in array.concat(rbac.problems, rules.problems)],
		[["zone_table_invalid", "verdict.geo", "zones.networks holds what is not a CIDR block"] | geo.zone_table_broken],
		[["trust_invalid", "verdict.trust", "the weights must be numbers that add up to 1"] | not trust.balanced],
	])
])

texts := {
	"role_cycle": "the role inherits from itself",
	"role_unknown": "a role inherits from this one, which does not exist",
	"rule_duplicate": "the id is used more than once",
	"rule_invalid": "the rule is not well formed",
}
