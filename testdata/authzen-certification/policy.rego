# The rules of the certification scenario of the OpenID AuthZEN Authorization
# API 1.0. What a request does not say of a subject or resource is looked up
# among the entities, so that what a search finds holds when it is asked for.
package certification

default decision := false

# 1: alice may read record-1.
decision if {
	user("alice")
	record("record-1")
	input.action.name == "read"
}

# 2 and 5: alice may write record-1, unless it is archived.
decision if {
	user("alice")
	record("record-1")
	input.action.name == "write"
	status != "archived"
}

# 3: bob may read record-1. 4: nothing lets him write it.
decision if {
	user("bob")
	record("record-1")
	input.action.name == "read"
}

# 6: an admin may write what is archived.
decision if {
	input.subject.type == "user"
	input.resource.type == "record"
	input.action.name == "write"
	role == "admin"
	status == "archived"
}

# 7 and 8: alice may delete record-1 softly.
decision if {
	user("alice")
	record("record-1")
	input.action.name == "delete"
	input.action.properties.soft == true
}

user(id) if {
	input.subject.type == "user"
	input.subject.id == id
}

record(id) if {
	input.resource.type == "record"
	input.resource.id == id
}

role := object.get(
	object.get(input.subject, "properties", {}), "role",
	object.get(data.verdict.entities, ["user", input.subject.id, "role"], "none"),
)

status := object.get(
	object.get(input.resource, "properties", {}), "status",
	object.get(data.verdict.entities, ["record", input.resource.id, "status"], "none"),
)
