# One question, however it comes: as an evaluation object, or as an HTTP request
# that a gateway asks about. Of a request, type and id of the resource stand in the
# path, the action in a third segment or in the method; who asks and what else is
# known is what the gateway has verified and put into the header x-facts, but for
# the address, which the server itself has found out.
package edges

default allow := false

allow if {
	data.verdict.authz.decision.allow with input as question
}

question := {
	"subject": facts.subject,
	"action": {"name": action},
	"resource": {"type": path[0], "id": path[1], "properties": object.get(facts, "resource", {})},
	"context": object.union(object.get(facts, "context", {}), address),
} if {
	http
} else := input

http := input.attributes.request.http

path := input.parsed_path

facts := json.unmarshal(http.headers["x-facts"])

action := path[2] if {
	count(path) > 2
} else := methods[http.method]

methods := {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}

address := {"network": {"ip": input.context.network.ip}} if {
	input.context.network.ip
} else := {}
