package verdict.authz

import data.verdict.facts
import data.verdict.rbac
import data.verdict.trust
import data.verdict.zerotrust

default role := {
	"allow": false,
	"decision": "indeterminate",
	"reasons": [{"code": "evaluation_incomplete", "policy": "verdict.authz", "detail": "a part of the policy gave no answer"}],
	"obligations": [],
	"policy": "verdict.authz",
	"trust": null,
}

# METADATA
# title: Whether the subject has a role
# description: |
#   The resource names it: {"type": "role", "id": ...}. Inherited roles count, and
#   nothing may speak against the subject, its session or the zero-trust policy
#   that the question names. Rules do not apply: they are about permissions.
# entrypoint: true
role := {
	"allow": count(role_reasons) == 0,
	"decision": role_outcome,
	"reasons": role_because,
	"obligations": [],
	"policy": role_because[0].policy,
	"trust": trust.summary,
} if {
	facts.complete
} else := {
	"allow": false,
	"decision": "indeterminate",
	"reasons": decision.reasons,
	"obligations": [],
	"policy": "verdict.authz",
	"trust": null,
} if {
	not facts.complete
}

role_because := role_reasons if {
	count(role_reasons) > 0
} else := [{"code": "role_held", "policy": "verdict.rbac", "detail": sprintf("the subject has the role %s", [input.resource.id])}]

role_reasons := array.concat(role_denials, role_errors)

role_denials := array.flatten([rbac.denials, role_missing, zerotrust.denials])

role_errors := array.flatten([input_errors, table_errors, rbac.errors, zerotrust.errors])

role_outcome := "deny" if {
	count(role_denials) > 0
} else := "indeterminate" if {
	count(role_errors) > 0
} else := "permit"

role_missing := [] if {
	input.resource.type == "role"
	input.resource.id in rbac.effective
} else := [{"code": code, "policy": "verdict.rbac", "detail": detail} |
	[code, detail] := role_lacking
]

role_lacking := ["subject_unknown", "the subject has no roles fact"] if {
	not rbac.assigned
} else := ["role_missing", sprintf("the subject does not have the role %s", [input.resource.id])] if {
	input.resource.type == "role"
} else := ["role_missing", "the resource of the question is no role"]
