package envoy.authz

import input.attributes.request.http
import rego.v1

default allow := false

allow if {
	within_hours
	not data.rbac.blocked[http.headers["x-country"]]
	some role in roles
	input.parsed_path[2] in data.rbac.grants[role][input.parsed_path[0]]
}

within_hours if {
	hour := to_number(http.headers["x-hour"])
	hour >= data.rbac.hours.from
	hour < data.rbac.hours.to
	weekday := to_number(http.headers["x-weekday"])
	weekday >= 1
	weekday <= 5
}

roles contains role if some role in data.rbac.users[http.headers["x-user"]]

roles contains parent if {
	some role in data.rbac.users[http.headers["x-user"]]
	some parent in data.rbac.inherits[role]
}
