package authz

import rego.v1

default allow := false

allow if {
	within_hours
	not data.rbac.blocked[input.environment.country]
	some role in roles
	input.action in data.rbac.grants[role][input.resource.type]
}

within_hours if {
	input.environment.hour >= data.rbac.hours.from
	input.environment.hour < data.rbac.hours.to
	input.environment.weekday >= 1
	input.environment.weekday <= 5
}

roles contains role if some role in data.rbac.users[input.subject.id]

roles contains parent if {
	some role in data.rbac.users[input.subject.id]
	some parent in data.rbac.inherits[role]
}
