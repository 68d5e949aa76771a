# METADATA
# title: Keys
# description: |
#   May a caller open ciphertexts, or encrypt them anew? The scope keys:decrypt
#   opens every class; data.verdict.keys.classes may ask for more: callers, roles
#   and tenants that a class is for, a session, and the trust of the session that
#   the question names. Facts: input.{caller,subject,resource,context}; values and
#   ciphertexts are not among them.
package verdict.keys

import data.verdict.facts
import data.verdict.trust
import data.verdict.zerotrust

default decision := {
	"allow": false,
	"decision": "indeterminate",
	"reasons": [{"code": "evaluation_incomplete", "policy": "verdict.keys", "detail": "a part of the policy gave no answer"}],
	"obligations": [],
	"advice": [],
	"policy": "verdict.keys",
	"trust": null,
}

# METADATA
# title: Whether ciphertexts may be opened
# entrypoint: true
decision := {
	"allow": outcome == "permit",
	"decision": outcome,
	"reasons": reasons,
	"obligations": challenge,
	"advice": [],
	"policy": reasons[0].policy,
	"trust": shown,
}

shown := trust.summary if named

shown := null if not named

outcome := "deny" if {
	count(denials) > 0
} else := "indeterminate" if {
	count(errors) > 0
} else := "permit"

reasons := array.concat(denials, errors) if {
	outcome != "permit"
} else := [reason("scope_held", sprintf("the caller holds %s", [concat(" and ", sort(needed))]))]

denials := array.flatten([scope_denials, class_denials, tenant_denials, session_denials, lowered, zerotrust.denials])

errors := array.flatten([class_errors, question_errors, zerotrust.errors])

reason(code, detail) := {"code": code, "policy": "verdict.keys", "detail": detail}

# needed are the scopes of the action; an unknown action has none that would do.
needed := {
	"decrypt": {"keys:decrypt"},
	"reencrypt": {"keys:decrypt", "keys:encrypt"},
}[input.action.name]

scope_denials := [] if {
	scoped
} else := [reason("scope_missing", "the caller lacks a scope that the action needs")]

scoped if {
	needed
	"admin" in input.caller.scopes
}

scoped if {
	every scope in needed {
		scope in input.caller.scopes
	}
}

# asked are the classifications of the values, as their headers tell them.
asked := {class | some class, _ in input.resource.properties.classes}

settings(class) := object.get(table, class, {})

table := data.verdict.keys.classes if is_object(data.verdict.keys.classes)

broken := {class |
	some class in asked
	not usable(class)
}

usable(class) if well_formed(settings(class))

well_formed(setting) if {
	is_object(setting)
	every member, value in setting {
		fits(member, value)
	}
}

fits(member, value) if {
	member in {"callers", "roles", "tenants"}
	is_array(value)
}

fits("session", value) if is_boolean(value)

fits("trust", value) if trust.ranks[value]

class_errors := [reason("class_invalid", sprintf("data.verdict.keys.classes.%s is not well formed", [class])) | some class in sort(broken)]

question_errors := array.concat(
	[reason("question_invalid", "the question does not say what is to be opened") | not complete],
	[reason("trust_invalid", "data.verdict.trust does not give a score between 0 and 1") | named; trust.misconfigured],
)

complete if {
	is_object(input.resource.properties.classes)
	is_array(input.resource.properties.tenants)
}

class_denials := [reason(code, sprintf(texts[code], [class])) |
	some class in sort(asked - broken)
	some code in ["caller_not_listed", "role_not_listed", "tenant_not_listed", "session_required", "trust_too_low"]
	fails(code, settings(class))
]

texts := {
	"caller_not_listed": "class %s is not for this caller",
	"role_not_listed": "class %s is for roles that the subject does not have",
	"tenant_not_listed": "class %s is not for a tenant of the values",
	"session_required": "class %s opens in a session only",
	"trust_too_low": "the session's trust is too low for class %s",
}

fails("caller_not_listed", setting) if {
	setting.callers
	not listed(setting.callers)
}

listed(callers) if input.caller.name in callers

fails("role_not_listed", setting) if {
	setting.roles
	not held(setting.roles)
}

held(roles) if {
	some role in input.subject.properties.roles
	role in roles
}

fails("tenant_not_listed", setting) if {
	setting.tenants
	some tenant in input.resource.properties.tenants
	not tenant in setting.tenants
}

fails("session_required", setting) if {
	setting.session
	not named
}

fails("trust_too_low", setting) if {
	named
	trust.rank < trust.ranks[setting.trust]
}

# A subject whose tenant is known opens values of that tenant only.
tenant_denials := [reason("tenant_mismatch", "a value belongs to another tenant than the subject") |
	other_tenant
]

other_tenant if {
	own := facts.subject_tenant
	some tenant in input.resource.properties.tenants
	tenant != own
}

# named holds when the question names a session, or what is meant to be one.
named if input.context.session != null

session_denials := [reason("session_unknown", "the question tells of a session without an id") |
	named
	not zerotrust.session
]

lowered := [reason("declassification_refused", "data.verdict.keys.declassify does not list the caller") |
	input.resource.properties.lowered > 0
	not declassifies
]

declassifies if listed(data.verdict.keys.declassify)

# challenge says that a second factor would do, when it is all that is missing.
challenge := [{
	"id": "step-up",
	"type": "step-up",
	"properties": object.filter(data.verdict.authz.step_up, ["acr_values", "amr_values", "max_age"]),
}] if {
	outcome == "deny"
	count(errors) == 0
	every denial in denials {
		denial.code == "trust_too_low"
		denial.policy == "verdict.keys"
	}
	every class in asked {
		trust.ranks[trust.level_of(trust.raised)] >= trust.ranks[object.get(settings(class), "trust", "untrusted")]
	}
} else := []
