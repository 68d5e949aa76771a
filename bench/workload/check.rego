package envoy.authz

import rego.v1

default allow := false

allow if {
	within_hours
	not data.rbac.blocked[headers["x-country"]]
	some role in roles
	input.parsed_path[2] in data.rbac.grants[role][input.parsed_path[0]]
}

headers := input.attributes.request.http.headers

within_hours if {
	hour := to_number(headers["x-hour"])
	hour >= data.rbac.hours.from
	hour < data.rbac.hours.to
	weekday := to_number(headers["x-weekday"])
	weekday >= 1
	weekday <= 5
}

roles contains role if some role in data.rbac.users[headers["x-user"]]

roles contains parent if {
	some role in data.rbac.users[headers["x-user"]]
	some parent in data.rbac.inherits[role]
}
