package verdict.http_test

import data.verdict.authz
import data.verdict.fixtures_test
import data.verdict.http

routes := {
	"site": {"paths": ["/public/**", "/"], "sensitivity": "public"},
	"news": {"paths": ["/public/members/*"], "methods": ["GET"], "hosts": ["shop.example"], "sensitivity": "authenticated"},
	"orders": {"paths": ["/orders/*/items"], "sensitivity": "sensitive", "description": "d"},
	"admin": {"paths": ["/admin/**"], "sensitivity": "admin"},
	"relaxed": {"paths": ["/relaxed"], "sensitivity": "sensitive", "policy": "api"},
	"strict": {"paths": ["/strict"], "sensitivity": "public", "policy": "admin"},
	"twice": {"paths": ["/twice"], "sensitivity": "public"},
	"again": {"paths": ["/twice"], "sensitivity": "authenticated"},
}

services := {
	"a_reads_b": {"source": {"service": "a", "namespace": "shop"}, "destination": {"service": "b"}, "action": "allow", "allowed_methods": ["GET"], "paths": ["/items/**"]},
	"not_c": {"source": {"service": "c"}, "action": "deny", "priority": 10},
	"c_too": {"source": {"service": "c"}, "action": "allow", "priority": 20},
	"d_no": {"source": {"service": "d"}, "action": "deny", "priority": 50},
	"d_yes": {"source": {"service": "d"}, "action": "allow", "priority": 50},
	"with_jwt": {"source": {"service": "e"}, "action": "allow", "require_jwt": true},
	"open": {"hosts": ["open.example"], "action": "allow", "require_mtls": false},
	"closed": {"hosts": ["closed.example"], "action": "allow"},
	"off": {"source": {"service": "f"}, "action": "allow", "enabled": false},
}

# stranger is a request of nobody as a gateway's check tells it, person that of
# somebody with a role that may do everything.
stranger(method, path) := {
	"attributes": {"request": {"http": {"method": method, "path": path, "host": "Shop.example:443"}}},
	"parsed_path": split(trim_left(path, "/"), "/"),
	"action": {"name": method},
	"resource": {"type": "http", "id": path},
	"context": fixtures_test.good.context,
}

person(method, path) := object.union(
	stranger(method, path),
	{"subject": {"type": "user", "id": "alice", "properties": {"roles": ["visitor"], "tenant": "t1"}}},
)

workload(service, method, path) := object.union(stranger(method, path), {
	"source_principal": id,
	"subject": {"type": "service", "id": id},
	"attributes": {"destination": {"principal": "spiffe://example.org/ns/shop/sa/b"}},
	"context": {"certificate": {"principal": id}},
}) if {
	id := concat("", ["spiffe://example.org/ns/shop/sa/", service])
}

open(question) if asked(question).allowed

refused(question, status, codes) if {
	answer := asked(question)
	[answer.allowed, answer.http_status] == [false, status]
	{reason.code | some reason in answer.reasons} == codes
}

asked(question) := answer if {
	answer := http.answer with input as question
		with data.verdict.http.routes as routes
		with data.verdict.rbac.roles as visitors
}

visitors := {"visitor": {"permissions": ["http.*"]}}

test_without_tables_the_standard_decision_decides if {
	answer := authz.http with input as person("GET", "/a") with data.verdict.rbac.roles as visitors
	[answer.allowed, answer.reasons[0].code] == [true, "permission_granted"]
	nobody := authz.http with input as stranger("GET", "/a")
	[nobody.allowed, nobody.http_status, nobody.headers] == [false, 401, {"www-authenticate": `Bearer realm="verdict"`}]
	nobody.reasons[0].code == "input_incomplete"
	unknown := authz.http with input as person("GET", "/a")
	[unknown.allowed, unknown.http_status, unknown.reasons[0].code] == [false, 403, "permission_unknown"]
}

test_nothing_is_denied if {
	answer := authz.http with input as {}
	[answer.allowed, answer.http_status] == [false, 403]
	not authz.http.allowed
	not authz.http.allowed with input as null
	not authz.http.allowed with input as {"parsed_path": "a", "resource": {"id": 1}, "action": {"name": 1}, "subject": 1, "source_principal": 1, "attributes": 1, "context": 1}
}

test_what_gives_no_answer_is_denied if {
	answer := http.answer with input as person("GET", "/a") with data.verdict.authz.decision as {}
	[answer.allowed, answer.reasons[0].code] == [false, "evaluation_incomplete"]
}

test_public_routes if {
	open(stranger("GET", "/"))
	open(stranger("POST", "/public/a/b"))
	open(stranger("GET", "/public/"))
	open(stranger("GET", "/public"))
	open(json.remove(stranger("GET", "/public"), ["/action", "/attributes"]))
	refused(stranger("GET", "/publication"), 401, {"input_incomplete"})
	refused(stranger("GET", "/Public/a"), 401, {"input_incomplete"})
}

test_the_most_specific_route_decides if {
	refused(stranger("GET", "/public/members/1"), 401, {"subject_unknown"})
	open(person("GET", "/public/members/1"))
	open(stranger("POST", "/public/members/1"))
	open(stranger("GET", "/public/members/1/more"))
	open(stranger("GET", "/public/members/"))
	elsewhere := object.union(stranger("GET", "/public/members/1"), {"attributes": {"request": {"http": {"host": "other"}}}})
	open(elsewhere)
	refused(stranger("GET", "/twice"), 401, {"subject_unknown"})
	open(person("GET", "/twice"))
}

test_levels_name_zero_trust_policies if {
	open(person("GET", "/orders/1/items"))
	refused(stranger("GET", "/orders/1/items"), 401, {"subject_unknown"})
	weak := object.union(person("GET", "/orders/1/items"), {"context": {"session": {"mfa": false}}})
	answer := asked(weak)
	[answer.allowed, answer.http_status] == [false, 401]
	answer.headers["www-authenticate"] == `Bearer error="insufficient_user_authentication", acr_values="urn:verdict:acr:mfa"`
	refused(person("GET", "/admin/users"), 403, {"zone_not_allowed"})
	open(object.union(person("GET", "/admin/users"), {"context": {"network": {"listener": "admin"}}}))
}

test_a_route_names_its_own_policy if {
	open(object.union(person("GET", "/relaxed"), {"context": {"session": {"mfa": false}}}))
	refused(stranger("GET", "/strict"), 401, {"subject_unknown"})
	refused(person("GET", "/strict"), 403, {"zone_not_allowed"})
}

test_ambiguous_paths_are_refused if {
	every path in ["/public//a", "/public/../admin", "/public/.", "/public%2fadmin", "/public/%2E%2e/admin", "/public;x/a", "/public\\a", "//public/a"] {
		refused(stranger("GET", path), 403, {"path_ambiguous"})
	}
	refused({"resource": {"id": "/public/a"}}, 403, {"path_ambiguous"})
}

test_malformed_routes_keep_everybody_out if {
	every bad in [{}, {"paths": "/a", "sensitivity": "public"}, {"paths": [1], "sensitivity": "public"}, {"paths": ["a"], "sensitivity": "public"}, {"paths": ["/**/a"], "sensitivity": "public"}, {"paths": ["/a"], "sensitivity": "secret"}, {"paths": ["/a"], "sensitivity": "public", "methods": "GET"}, {"paths": ["/a"], "sensitivity": "public", "method": ["GET"]}] {
		answer := http.answer with input as person("GET", "/") with data.verdict.http.routes as {"bad": bad}
		[answer.allowed, answer.http_status, answer.reasons[0].code] == [false, 403, "route_invalid"]
	}
}

called(input_document) := answer if {
	answer := http.answer with input as input_document with data.verdict.http.services as services
}

test_services if {
	called(workload("a", "GET", "/items/1")).allowed
	called(workload("a", "GET", "/items/1")).reasons[0] == {"code": "service_granted", "policy": "a_reads_b", "detail": "the service may call this"}
	every denied in [
		workload("a", "DELETE", "/items/1"),
		workload("a", "GET", "/other"),
		workload("x", "GET", "/items/1"),
		workload("f", "GET", "/items/1"),
		stranger("GET", "/items/1"),
		object.union(workload("a", "GET", "/items/1"), {"attributes": {"destination": {"principal": "spiffe://example.org/ns/shop/sa/z"}}}),
		object.union(workload("a", "GET", "/items/1"), {"source_principal": "spiffe://example.org/ns/other/sa/a"}),
		object.union(workload("a", "GET", "/items/1"), {"source_principal": "CN=a"}),
	] {
		not called(denied).allowed
	}
}

test_the_lowest_priority_and_a_denial_first if {
	every name, rule in {"c": "not_c", "d": "d_no"} {
		answer := called(workload(name, "GET", "/items/1"))
		answer.reasons == [{"code": "service_denied", "policy": "verdict.http", "detail": rule}]
		answer.http_status == 403
	}
}

test_credentials_that_a_service_rule_requires if {
	called(workload("e", "GET", "/")).reasons[0].code == "jwt_required"
	called(object.union(workload("e", "GET", "/"), {"context": {"jwt": {"iss": "i"}}})).allowed
	at := {"attributes": {"request": {"http": {"host": "open.example"}}}}
	called(object.union(stranger("GET", "/"), at)).allowed
	shut := called(object.union(stranger("GET", "/"), {"attributes": {"request": {"http": {"host": "closed.example"}}}}))
	[shut.reasons[0].code, shut.http_status] == ["mtls_required", 401]
}

test_malformed_services_keep_everybody_out if {
	every bad in [{}, {"action": "permit"}, {"action": "allow", "priority": "1"}, {"action": "allow", "hosts": "a"}, {"action": "allow", "paths": ["a"]}, {"action": "allow", "source": {"name": "a"}}, {"action": "allow", "methods": ["GET"]}] {
		answer := http.answer with input as person("GET", "/") with data.verdict.http.services as {"bad": bad}
		[answer.allowed, answer.reasons[0].code] == [false, "service_invalid"]
	}
}
