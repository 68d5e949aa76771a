# METADATA
# title: HTTP requests
# description: |
#   What a gateway is answered about a request: the table of routes says how
#   sensitive a path is, the table of services which service may call which;
#   where neither knows the request, the standard decision is asked. The answer
#   is never undefined, and denies by default. Facts: input.attributes,
#   parsed_path, subject, action, resource, context, as gateways' checks have them.
package verdict.http

answer := {"allowed": true, "reasons": granted} if {
	count(denials) == 0
} else := {
	"allowed": false,
	"http_status": 401,
	"headers": {"www-authenticate": challenge},
	"reasons": denials,
} if {
	challenge
} else := {"allowed": false, "http_status": 403, "reasons": denials}

# denials is why the request is not let in, granted why it is.
default denials := [{"code": "evaluation_incomplete", "policy": "verdict.http", "detail": "a part of the policy gave no answer"}]

denials := faults if {
	count(faults) > 0
} else := service_denials if {
	service
} else := route_denials if {
	count(selected) > 0
} else := decided(null)

granted := [{"code": "service_granted", "policy": service, "detail": "the service may call this"}] if {
	service
} else := [{"code": "route_granted", "policy": id, "detail": detail} |
	some id in sort(selected)
	detail := sprintf("the route is %s", [data.verdict.http.routes[id].sensitivity])
] if {
	count(selected) > 0
} else := data.verdict.authz.decision.reasons

# challenge asks for a credential, or for a stronger one (RFC 9470), when that
# could help.
challenge := `Bearer realm="verdict"` if {
	count(faults) == 0
	not known
} else := concat("", [`Bearer error="insufficient_user_authentication", acr_values="`, concat(" ", step_up.acr_values), `"`]) if {
	count(faults) == 0
	not service
	step_up
}

step_up := properties if {
	some key in asked
	some obligation in standard(key).obligations
	obligation.id == "step-up"
	properties := data.verdict.authz.step_up
}

# asked are the zero-trust policies under which the standard decision is asked.
asked := {policy(id) | some id in selected} if {
	count(selected) > 0
} else := {null}

known if is_string(input.subject.id)

# faults keep everybody out: a path that this table and a server behind the
# gateway may read differently, and tables that are not well formed.
faults := array.flatten([
	[fault("path_ambiguous", "the path has empty or dotted segments, or an escaped slash or dot") | ambiguous],
	[fault("route_invalid", id) | some id in sort([id | some id, route in data.verdict.http.routes; not route_valid(route)])],
	[fault("service_invalid", id) | some id in sort([id | some id, rule in data.verdict.http.services; not service_valid(rule)])],
])

fault(code, detail) := {"code": code, "policy": "verdict.http", "detail": detail}

ambiguous if not path

ambiguous if {
	some i, segment in input.parsed_path
	segment in {"", ".", ".."}
	not last_slash(i, segment)
}

ambiguous if {
	some part in ["%2f", "%5c", "%2e", "\\", ";"]
	contains(lower(written), part)
}

ambiguous if contains(written, "//")

written := input.resource.id if is_string(input.resource.id)

last_slash(i, "") if i == count(input.parsed_path) - 1

# Routes: the most specific ones that match, which all must be met.

selected := {id | some [rank, id] in matching; rank == max([other | some [other, _] in matching])}

matching := {[rank, id] |
	some id, route in data.verdict.http.routes
	in_list(route, "methods", method)
	in_list(route, "hosts", host)
	some pattern in route.paths
	covers(pattern)
	rank := count([s | some s in split(pattern, "/"); not s in {"*", "**", ""}])
}

method := input.action.name if {
	is_string(input.action.name)
} else := ""

host := lower(split(input.attributes.request.http.host, ":")[0]) if {
	is_string(input.attributes.request.http.host)
} else := ""

in_list(rule, member, _) if not rule[member]

in_list(rule, member, value) if value in rule[member]

# covers compares segment by segment: * is any one of them, ** at the end any
# number.
covers(pattern) if {
	segments := split(pattern, "/")
	count(segments) == count(path)
	every i, segment in segments {
		fits(segment, path[i])
	}
}

covers(pattern) if {
	segments := split(pattern, "/")
	n := count(segments) - 1
	segments[n] == "**"
	count(path) >= n
	every i, segment in segments {
		reaches(i, n, segment)
	}
}

path := array.concat([""], input.parsed_path) if is_array(input.parsed_path)

reaches(i, n, _) if i == n

reaches(i, n, segment) if {
	i < n
	fits(segment, path[i])
}

fits("*", segment) if segment != ""

fits(segment, same) if segment == same

route_denials := array.flatten([met(id) | some id in sort(selected)])

# met is why a route is not: nothing for one that is.
met(id) := [] if {
	open(id)
} else := [fault("subject_unknown", "nobody is known who asks")] if {
	not known
} else := [] if {
	not policy(id)
} else := decided(policy(id))

open(id) if {
	level(id).subject == false
	not data.verdict.http.routes[id].policy
}

level(id) := data.verdict.http.levels[data.verdict.http.routes[id].sensitivity]

# policy is the zero-trust policy that a route asks for: its own, else its level's.
policy(id) := data.verdict.http.routes[id].policy if {
	data.verdict.http.routes[id].policy
} else := level(id).policy

# decided is why the standard decision denies under a zero-trust policy.
decided(key) := [] if {
	standard(key).allow
} else := standard(key).reasons

standard(null) := data.verdict.authz.decision

standard(key) := answer if {
	key != null
	answer := data.verdict.authz.decision with input.context.policy as key
}

route_valid(route) if {
	is_array(route.paths)
	every pattern in route.paths {
		well_formed(pattern)
	}
	data.verdict.http.levels[route.sensitivity]
	every member in ["methods", "hosts"] {
		listed(route, member)
	}
	object.keys(route) - {"paths", "methods", "hosts", "sensitivity", "policy", "description"} == set()
}

well_formed(pattern) if {
	is_string(pattern)
	segments := split(pattern, "/")
	segments[0] == ""
	count([s | some i, s in segments; s == "**"; i < count(segments) - 1]) == 0
}

listed(rule, member) if not rule[member]

listed(rule, member) if is_array(rule[member])

# Services: who calls whom, by the identities of the certificates on both sides.
# The matching rule with the lowest priority decides; of several, a denial.

service := first if {
	count(calls) > 0
	lowest := min([priority | some [priority, _, _] in calls])
	first := sort([[verdict, id] | some [priority, verdict, id] in calls; priority == lowest])[0][1]
}

calls := {[priority(rule), ranks[rule.action], id] |
	some id, rule in data.verdict.http.services
	object.get(rule, "enabled", true) == true
	party(rule, "source", source)
	party(rule, "destination", destination)
	in_list(rule, "hosts", host)
	passes(rule)
}

ranks := {"deny": 0, "allow": 1}

priority(rule) := object.get(rule, "priority", 100)

# passes holds for a denial, which covers everything, and for what an allowing
# rule covers: a path or a method outside of it is not allowed by it.
passes(rule) if rule.action == "deny"

passes(rule) if {
	rule.action == "allow"
	in_list(rule, "allowed_methods", method)
	covered(rule)
}

covered(rule) if not rule.paths

covered(rule) if {
	some pattern in rule.paths
	covers(pattern)
}

party(rule, side, _) if not rule[side]

party(rule, side, identity) if {
	every member, value in rule[side] {
		identity[member] == value
	}
}

source := spiffe(input.source_principal) if {
	is_string(input.source_principal)
} else := {}

destination := spiffe(input.attributes.destination.principal) if {
	is_string(input.attributes.destination.principal)
} else := {}

# spiffe reads spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE.
spiffe(id) := {"trust_domain": parts[2], "namespace": parts[4], "service": parts[6]} if {
	parts := split(id, "/")
	count(parts) == 7
	[parts[0], parts[1], parts[3], parts[5]] == ["spiffe:", "", "ns", "sa"]
} else := {}

service_denials := [fault("service_denied", service)] if {
	data.verdict.http.services[service].action == "deny"
} else := array.concat(
	[fault("mtls_required", service) | missing("require_mtls", true, "certificate")],
	[fault("jwt_required", service) | missing("require_jwt", false, "jwt")],
)

missing(switch, byDefault, fact) if {
	object.get(data.verdict.http.services[service], switch, byDefault) == true
	not input.context[fact]
}

service_valid(rule) if {
	ranks[rule.action] >= 0
	is_number(priority(rule))
	every member in ["allowed_methods", "hosts", "paths"] {
		listed(rule, member)
	}
	every pattern in object.get(rule, "paths", []) {
		well_formed(pattern)
	}
	every side in ["source", "destination"] {
		object.keys(object.get(rule, side, {})) - {"trust_domain", "namespace", "service"} == set()
	}
	known := {"description", "source", "destination", "action", "allowed_methods", "hosts", "paths", "require_mtls", "require_jwt", "priority", "enabled"}
	object.keys(rule) - known == set()
}
