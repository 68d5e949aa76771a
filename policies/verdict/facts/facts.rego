# METADATA
# title: Facts
# description: |
#   Reads the evaluation object: what must be there, the permission asked for,
#   the time used, and comparisons of facts. A fact that is absent or null is
#   unknown, and unknown never helps the subject.
package verdict.facts

# complete holds when the five members that every question needs are there.
# "*" and a dot in the action are refused because they would make the
# permission id mean something else than the question.
complete if {
	is_string(input.subject.type)
	is_string(input.subject.id)
	is_string(input.action.name)
	is_string(input.resource.type)
	is_string(input.resource.id)
	names := {input.subject.type, input.subject.id, input.action.name, input.resource.type, input.resource.id}
	not "" in names
	action := input.action.name
	not contains(action, ".")
	asked := permission
	not contains(asked, "*")
}

# missing lists the members that keep the input from being complete.
missing := [concat(".", path) |
	some path in [["subject", "type"], ["subject", "id"], ["action", "name"], ["resource", "type"], ["resource", "id"]]
	not usable(path)
]

usable(path) if {
	value := known_text(found(path)[0])
	barred := {"action": `[.*]`, "resource": `[*]`, "subject": `^$`}
	pattern := barred[path[0]]
	not regex.match(pattern, value)
}

# permission is the id asked for; candidates are the patterns that cover it.
permission := concat(".", [input.resource.type, input.action.name])

candidates := [permission, concat("", [input.resource.type, ".*"]), concat("", ["*.", input.action.name]), "*"]

# Values of the input are named in full wherever that can be done, so that what
# depends on few of them can be kept from one question to the next.

subject_tenant := known_text(input.subject.properties.tenant)

resource_tenant := known_text(input.resource.properties.tenant)

# same_tenant answers yes, no or unknown: two unknown tenants are not the same.
same_tenant := "yes" if {
	subject_tenant == resource_tenant
} else := "no" if {
	subject_tenant != resource_tenant
} else := "unknown"

same_organization if {
	known_text(input.subject.properties.organization) == known_text(input.resource.properties.organization)
}

known_text(value) := value if {
	is_string(value)
	value != ""
}

# now is the time of the question in nanoseconds: context.time when it is
# given, else the evaluation's clock. A time that is given but is not a
# timestamp leaves now undefined.
now := instant(input.context.time) if time_given

now := time.now_ns() if not time_given

time_given if input.context.time != null

time_broken if {
	time_given
	not now
}

# instant reads an RFC 3339 timestamp of the years 1970 to 2199. The pattern
# admits only what the parser accepts (months have their own number of days),
# so that parsing cannot fail.
instant(text) := time.parse_rfc3339_ns(text) if {
	is_string(text)
	regex.match(timestamp, text)
}

timestamp := concat("", [
	`^(?:(?:19[7-9][0-9]|2[01][0-9][0-9])-`,
	`(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))`,
	`|(?:19(?:7[26]|8[048]|9[26])|20(?:0[048]|[2468][048]|[13579][26])|21(?:0[48]|[2468][048]|[13579][26]))-02-29)`,
	`T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$`,
])

# listed compares with a list, {"in": list} or {"not_in": list}. Anything else
# is undefined, which callers report as invalid.
listed(value, list) := value in list if is_array(list)

listed(value, {"in": list}) := value in list if is_array(list)

listed(value, {"not_in": list}) := excluded(value, list) if is_array(list)

excluded(value, list) if not value in list

excluded(value, list) := false if value in list

# found is the value at a path of the input in a list of one, so that false is
# told from absent; undefined when it is absent or null.
found(path) := [value] if {
	is_object(input)
	value := object.get(input, path, null)
	value != null
}

present(path) if found(split(path, "."))

# attribute compares the fact at a dotted path with a test such as
# {"in": [...]}: yes, no, unknown (a fact is absent) or invalid.
attribute(path, test) := "invalid" if {
	not well_formed(path, test)
} else := "unknown" if {
	not present(path)
} else := outcome([result |
	[value] := found(split(path, "."))
	some operator, operand in test
	result := compare(operator, value, operand)
])

well_formed(path, test) if {
	is_string(path)
	is_object(test)
	test != {}
	object.keys(test) - operators == set()
}

operators := {"equals", "not_equals", "in", "not_in", "contains", "at_least", "at_most", "same_as"}

compare("equals", value, operand) := answer(value == operand)

compare("not_equals", value, operand) := answer(value != operand)

compare("in", value, list) := set_answer(is_array(list), list, value, "yes", "no")

compare("not_in", value, list) := set_answer(is_array(list), list, value, "no", "yes")

compare("contains", value, operand) := set_answer(is_array(value), value, operand, "yes", "no")

compare("at_least", value, bound) := numeric(value, bound, value >= bound)

compare("at_most", value, bound) := numeric(value, bound, value <= bound)

compare("same_as", value, path) := counterpart(value, path)

answer(true) := "yes"

answer(false) := "no"

set_answer(false, _, _, _, _) := "invalid"

set_answer(true, list, value, found, _) := found if value in list

set_answer(true, list, value, _, absent) := absent if not value in list

numeric(value, bound, holds) := answer(holds) if {
	is_number(value)
	is_number(bound)
} else := "invalid"

counterpart(value, path) := "invalid" if {
	not is_string(path)
} else := "unknown" if {
	not present(path)
} else := answer([value] == found(split(path, ".")))

# outcome is the conjunction of a list of answers.
outcome(results) := "invalid" if {
	"invalid" in results
} else := "no" if {
	"no" in results
} else := "unknown" if {
	"unknown" in results
} else := "yes"
