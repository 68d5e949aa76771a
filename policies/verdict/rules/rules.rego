# METADATA
# title: Rules
# description: |
#   Policy rules as data: data.verdict.rules.shipped (by id) and
#   data.verdict.rules.custom (by id, or a list of rules with ids). A rule has a
#   target (what it is about) and conditions under `when`; no string is ever
#   evaluated as code. Effects: deny denies when the conditions hold, require
#   denies when they do not, permit grants beyond the roles.
package verdict.rules

import data.verdict.facts
import data.verdict.geo
import data.verdict.hours
import data.verdict.rbac
import data.verdict.trust

# entries are all rules as [id, rule]; candidates those that are switched on.
entries := array.concat(
	[[id, rule] | some id, rule in data.verdict.rules.shipped],
	[[custom_id(key, rule), rule] | some key, rule in data.verdict.rules.custom],
)

candidates := [[id, rule] |
	some [id, rule] in entries
	not rule.enabled == false
	not rule.is_active == false
]

custom_id(key, rule) := key if {
	is_string(key)
} else := id if {
	id := facts.known_text(rule.id)
} else := sprintf("custom[%d]", [key])

# aims holds [id, rule, aim] for each of them, applicable those that are about
# the question or may be.
aims := [[id, rule, reach] |
	some [id, rule] in candidates
	reach := aim(rule)
]

applicable := [[id, rule, shaped(id, rule, reach)] |
	some [id, rule, reach] in aims
	reach != "no"
]

shaped(id, rule, reach) := reach if {
	well_formed(id, rule)
} else := "malformed"

# judged holds [id, rule, aim, findings] for each of these: what the conditions
# answer, each as [state, code, detail] with the states yes, no, unknown and
# invalid. Rules without a condition that changes with time, or that may read
# any fact, are settled apart: their findings depend on few facts, and can be
# kept from one question to the next.
judged := array.concat(settled, [[id, rule, reach, findings] |
	some [id, rule, reach] in unsettled
	findings := [finding | some key, operand in rule.when; finding := checked(key, operand)]
])

settled := [[id, rule, reach, settle(rule, reach)] |
	some [id, rule, reach] in applicable
	not moving(rule, reach)
]

unsettled := [[id, rule, reach] |
	some [id, rule, reach] in applicable
	moving(rule, reach)
]

moving(rule, reach) if {
	reach in {"yes", "unknown"}
	some key, _ in rule.when
	key in {"time", "trust", "max_risk", "attributes"}
}

settle(rule, "malformed") := [["invalid", "rule_invalid", complaint(rule)]]

settle(_, "invalid") := [["invalid", "rule_invalid", "the target of the rule is not well formed"]]

settle(rule, reach) := [finding | some key, operand in rule.when; finding := lasting(key, operand)] if {
	reach in {"yes", "unknown"}
}

# well_formed refuses what the schema refuses, so that a misspelt member cannot
# silently widen or narrow a rule.
well_formed(id, rule) if {
	is_object(rule)
	object.keys(rule) - members == set()
	rule.effect in {"deny", "require", "permit"}
	object.get(rule, "id", id) == id
	is_number(object.get(rule, "priority", 100))
	is_boolean(object.get(rule, "enabled", true))
	is_boolean(object.get(rule, "is_active", true))
	is_object(object.get(rule, "when", {}))
}

members := {"id", "name", "description", "effect", "priority", "enabled", "is_active", "target", "when"}

complaint(rule) := "conditions stand under `when`; a text is never evaluated" if {
	rule.condition
} else := "the rule has a member that is unknown or not well formed"

# aim says whether the rule is about the question: yes, no, unknown or invalid.
# Most rules are about something else, which their plain lists tell at once.
aim(rule) := "no" if {
	is_array(rule.target.actions)
	action := input.action.name
	not action in rule.target.actions
} else := "no" if {
	is_array(rule.target.resource_types)
	kind := input.resource.type
	not kind in rule.target.resource_types
} else := conjunction([answer | some key, operand in rule.target; answer := about(key, operand)], rule.target) if {
	is_object(rule.target)
} else := "yes" if {
	is_object(rule)
	not "target" in object.keys(rule)
} else := "invalid"

conjunction(answers, target) := "no" if {
	"no" in answers
} else := "invalid" if {
	count(answers) != count(target)
} else := "unknown" if {
	"unknown" in answers
} else := "yes"

about("actions", list) := yes_no(facts.listed(input.action.name, list))

about("resource_types", list) := yes_no(facts.listed(input.resource.type, list))

about("subject_types", list) := yes_no(facts.listed(input.subject.type, list))

about("roles", list) := yes_no(facts.listed(true, with_role(list)))

about("zones", list) := yes_no(facts.listed(geo.zone, list))

about("tenants", list) := yes_no(facts.listed(tenant, list)) if tenant

about("tenants", list) := "unknown" if {
	not tenant
	facts.listed("", list) in {true, false}
}

yes_no(true) := "yes"

yes_no(false) := "no"

tenant := facts.resource_tenant

tenant := facts.subject_tenant if not facts.resource_tenant

# with_role replaces the roles of a list by whether the subject has them.
with_role(list) := owned(list) if is_array(list)

with_role({"in": list}) := {"in": owned(list)}

with_role({"not_in": list}) := {"not_in": owned(list)}

owned(list) := [known | some role in list; known := role in rbac.effective] if is_array(list)

checked(key, operand) := finding if {
	finding := check_moving(key, operand)
} else := lasting(key, operand)

lasting(key, operand) := finding if {
	finding := check(key, operand)
} else := ["invalid", "rule_invalid", sprintf("the condition %s is unknown or not well formed", [key])]

check_moving("time", operand) := hours.state(operand)

check_moving("trust", level) := positive(
	trust.rank >= trust.ranks[level], "trust_too_low",
	sprintf("trust is %s, %s is required", [trust.level, level]),
)

check_moving("max_risk", bound) := positive(
	trust.risk <= bound, "risk_too_high",
	sprintf("risk is %v, at most %v is allowed", [trust.risk, bound]),
) if {
	is_number(bound)
}

check_moving("attributes", tests) := attributes(facts.outcome([facts.attribute(path, test) | some path, test in tests])) if {
	is_object(tests)
	tests != {}
}

check("countries", operand) := geo.countries(operand)

check("networks", operand) := geo.networks(operand)

check("zones", list) := positive(
	facts.listed(geo.zone, list), "zone_not_allowed",
	sprintf("the zone %s is not allowed", [geo.zone]),
)

check("roles", list) := positive(
	facts.listed(true, with_role(list)), "role_required",
	"the subject does not have the roles which this rule asks for",
)

check("mfa", true) := positive(trust.mfa, "mfa_required", "multi-factor authentication is required")

check("same_tenant", true) := {
	"yes": ["yes", "", ""],
	"no": ["no", "tenant_mismatch", "the resource belongs to another tenant"],
	"unknown": ["unknown", "tenant_unknown", "the tenant of the subject or of the resource is not known"],
}[facts.same_tenant]

positive(true, _, _) := ["yes", "", ""]

positive(false, code, detail) := ["no", code, detail]

attributes("yes") := ["yes", "", ""]

attributes("no") := ["no", "attribute_mismatch", "an attribute is not as the rule requires"]

attributes("unknown") := ["unknown", "attribute_unknown", "an attribute which the rule needs is not known"]

# denials are the reasons of every rule that denies, by priority and id.
denials := settled_denials if {
	unsettled == []
} else := refused_by(judged)

settled_denials := refused_by(settled)

refused_by(rules) := [reason |
	some [_, _, reason] in sort([[0 - priority(rule), id, reason] |
		some [id, rule, _, found] in rules
		some reason in objections(rule.effect, id, found)
	])
]

priority(rule) := object.get(rule, "priority", 100)

# A condition that is unknown cannot satisfy a require and cannot excuse from a
# deny.
objections("require", id, found) := [{"code": code, "policy": id, "detail": detail} |
	some [state, code, detail] in found
	state in {"no", "unknown"}
]

objections("deny", id, found) := open_questions(id, found) if {
	not excused(found)
	count(open_questions(id, found)) > 0
} else := [{"code": "rule_denied", "policy": id, "detail": "the rule denies this"}] if {
	not excused(found)
}

excused(found) if {
	some [state, _, _] in found
	state in {"no", "invalid"}
}

open_questions(id, found) := [{"code": code, "policy": id, "detail": detail} |
	some ["unknown", code, detail] in found
]

# permits are the ids of the rules that grant, by priority and id.
permits := settled_permits if {
	unsettled == []
} else := granted_by(judged)

settled_permits := granted_by(settled)

granted_by(rules) := [id |
	some [_, id] in sort([[0 - priority(rule), id] |
		some [id, rule, "yes", found] in rules
		rule.effect == "permit"
		every finding in found {
			finding[0] == "yes"
		}
	])
]

# errors are reasons why a rule cannot be applied.
errors := settled_errors if {
	unsettled == []
} else := array.concat(faults(judged), collection_errors)

settled_errors := array.concat(faults(settled), collection_errors)

faults(rules) := [{"code": code, "policy": id, "detail": detail} |
	some [id, _, _, found] in rules
	some ["invalid", code, detail] in found
]

collection_errors := array.concat(
	[{"code": "rule_duplicate", "policy": id, "detail": "another rule has the same id"} | some id in duplicates],
	[{"code": "rule_invalid", "policy": "verdict.rules", "detail": "the rules are not well formed"} | not whole],
)

# duplicates are ids used more than once.
duplicates := {entries[i][0] |
	count(entries) != count({id | some [id, _] in entries})
	some i, _ in entries
	some j, _ in entries
	i < j
	entries[i][0] == entries[j][0]
}

# whole holds when no rule was lost on the way.
whole if {
	is_object(data.verdict.rules.shipped)
	true in {is_object(data.verdict.rules.custom), is_array(data.verdict.rules.custom)}
	count(entries) == count(data.verdict.rules.shipped) + count(data.verdict.rules.custom)
	count(settled) + count(unsettled) == count(applicable)
	count(aims) == count(candidates)
}

# problems are faults of the data, for whoever loads it, as [code, id]; rules
# that are switched off are looked at too.
problems := array.concat(
	[["rule_duplicate", id] | some id in duplicates],
	[["rule_invalid", id] | some [id, rule] in entries; not presentable(id, rule)],
)

presentable(id, rule) if {
	well_formed(id, rule)
	is_object(object.get(rule, "target", {}))
	object.keys(object.get(rule, "target", {})) - subjects == set()
	object.keys(object.get(rule, "when", {})) - conditions == set()
}

subjects := {"actions", "resource_types", "subject_types", "roles", "zones", "tenants"}

conditions := {
	"time", "countries", "networks", "zones", "roles", "trust", "max_risk", "mfa", "same_tenant", "attributes",
}
