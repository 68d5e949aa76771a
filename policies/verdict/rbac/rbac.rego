# METADATA
# title: Roles and permissions
# description: |
#   Role based access: roles with inheritance, wildcard permissions, grants with
#   scopes and conditions, temporary permissions, separation of duty. Facts:
#   input.subject.properties.{roles,status,temporary_permissions} and
#   input.context.session.active_roles. Data: data.verdict.rbac.
package verdict.rbac

import data.verdict.facts

# assigned are the subject's roles. Without the fact the subject is not known.
assigned := {role | some role in input.subject.properties.roles} if is_array(input.subject.properties.roles)

# held are all roles that the subject has, inherited ones included; effective
# are those that are active in the session. A role that does not exist or is
# not active gives nothing, and nothing is inherited through it.
held := closure({role | some role in assigned; active(role)})

effective := held if not chosen

effective := closure({role | some role in input.context.session.active_roles; role in assigned; active(role)}) if chosen

chosen if input.context.session.active_roles != null

active(role) if {
	definition := data.verdict.rbac.roles[role]
	is_object(definition)
	object.get(definition, "active", true) == true
}

closure(roles) := roles if {
	not inheriting(roles)
} else := graph.reachable(inheritance, roles)

inheriting(roles) if {
	some role in roles
	some _ in data.verdict.rbac.roles[role].inherits
}

inheritance := {name: object.get(role, "inherits", []) |
	some name, role in data.verdict.rbac.roles
	active(name)
}

# cyclic are the roles that inherit from themselves.
cyclic := {name |
	some name, inherited in inheritance
	name in graph.reachable(inheritance, inherited)
}

ignored := assigned - held

# plain are the unconditional permissions that cover the question, as
# [pattern, role].
plain := [[pattern, role] |
	some role in effective
	permissions := data.verdict.rbac.roles[role].permissions
	some pattern in facts.candidates
	pattern in permissions
]

# conditional are the grants with a scope or a condition that cover the
# question, as [grant, source].
conditional := array.concat(by_role, temporary)

by_role := [[grant, role] |
	some role in effective
	some grant in data.verdict.rbac.roles[role].grants
	grant.permission in facts.candidates
]

# A temporary permission needs its end and its reason.
temporary := [[grant, "temporary"] |
	some grant in input.subject.properties.temporary_permissions
	grant.permission in facts.candidates
	unexpired(grant)
]

unexpired(grant) if {
	facts.now < facts.instant(grant.expires_at)
	facts.known_text(grant.reason)
}

lapsed if {
	some grant in input.subject.properties.temporary_permissions
	grant.permission in facts.candidates
	not unexpired(grant)
}

# in_force are the conditional grants whose scope and condition hold.
in_force := [[grant, source] |
	some [grant, source] in conditional
	object.keys(grant) - grant_members == set()
	in_scope(object.get(grant, "scope", "global"), grant)
	condition(object.get(grant, "when", {}))
]

grant_members := {"permission", "scope", "resources", "fields", "when", "expires_at", "reason", "description"}

in_scope("global", _)

in_scope("organization", _) if facts.same_organization

in_scope("tenant", _) if facts.same_tenant == "yes"

in_scope("resource", grant) if {
	is_array(grant.resources)
	input.resource.id in grant.resources
}

in_scope("field", grant) if is_array(grant.fields)

# condition compares attributes: {"owner": true, "attributes": {path: test}}.
condition(when) if {
	is_object(when)
	object.keys(when) - {"owner", "attributes"} == set()
	owner(object.get(when, "owner", false))
	attributes := object.get(when, "attributes", {})
	is_object(attributes)
	every path, test in attributes {
		facts.attribute(path, test) == "yes"
	}
}

owner(false)

owner(true) if input.resource.properties.owner == input.subject.id

# granted says which permission allows the question and by what.
granted := granted_plainly if {
	granted_plainly
} else := {"permission": grant.permission, "by": source} if {
	unlimited := [pair | some pair in in_force; not by_field(pair[0])]
	[grant, source] := unlimited[0]
} else := {"permission": grant.permission, "by": source} if {
	fields_covered
	[grant, source] := in_force[0]
}

granted_plainly := {"permission": pattern, "by": role} if [pattern, role] := plain[0]

by_field(grant) if grant.scope == "field"

# readable are the fields that may be touched when nothing but grants of scope
# field allow the question.
readable := {field |
	some [grant, _] in in_force
	by_field(grant)
	some field in grant.fields
}

limited_to_fields if {
	count(plain) == 0
	count(in_force) > 0
	every pair in in_force {
		by_field(pair[0])
	}
}

# fields_covered holds when the question names no fields (the obligation says
# which ones it may see) or only readable ones.
fields_covered if not fields_named

fields_named if input.resource.properties.fields != null

fields_covered if {
	is_array(input.resource.properties.fields)
	every field in input.resource.properties.fields {
		field in readable
	}
}

# considered are the permissions of the subject that cover the question,
# whether their conditions hold or not.
considered := by_roles if {
	temporary == []
} else := sort({permission | some permission in by_roles} | {grant.permission | some [grant, _] in temporary})

by_roles := sort({pattern | some [pattern, _] in plain} | {grant.permission | some [grant, _] in by_role})

# errors name the roles of the subject whose inheritance runs in a circle.
errors := [{"code": "role_cycle", "policy": "verdict.rbac", "detail": sprintf("the role %s inherits from itself", [role])} |
	inheriting(held)
	some role in (cyclic & held)
]

# problems are faults of the data, for whoever loads it.
problems := [[code, role] |
	some [code, roles] in [["role_cycle", cyclic], ["role_unknown", unknown_parents]]
	some role in roles
]

unknown_parents := {parent |
	some definition in data.verdict.rbac.roles
	some parent in definition.inherits
	not data.verdict.rbac.roles[parent]
}

# denials are reasons why the subject may not do this, whatever it was granted.
denials := array.concat(subject_denials, separation_denials)

subject_denials := [{"code": code, "policy": "verdict.rbac", "detail": detail} |
	status := input.subject.properties.status
	not status in {"active", null}
	[code, detail] := object.get(
		{"suspended": ["subject_suspended", "the subject is suspended"]},
		status, ["subject_inactive", "the subject is not active"],
	)
]

separation_denials := array.concat(
	[{"code": "separation_of_duty", "policy": id, "detail": detail} |
		some [kind, roles] in [["static", held], ["dynamic", effective]]
		some id, constraint in data.verdict.rbac.separation[kind]
		not within(constraint, roles)
		detail := sprintf("the subject holds too many %s roles of this constraint at once", [kind])
	],
	[{"code": "separation_of_duty", "policy": id, "detail": detail} |
		some id, constraint in data.verdict.rbac.separation.operations
		some pattern in facts.candidates
		pattern in constraint.permissions
		some fact in constraint.not_by
		not by_another(fact)
		detail := sprintf("resource.properties.%v must name somebody else than the subject", [fact])
	],
)

within(constraint, roles) if {
	is_object(constraint)
	is_array(constraint.roles)
	limit := object.get(constraint, "max", 1)
	is_number(limit)
	count(roles & {role | some role in constraint.roles}) <= limit
}

by_another(fact) if facts.known_text(input.resource.properties[fact]) != input.subject.id
