package verdict.facts_test

import data.verdict.facts
import data.verdict.fixtures_test as fix

test_time_given_or_asked if {
	given := facts.now with input as fix.at("1970-01-01T00:00:01Z")
	given == 1000000000
	asked := facts.now with input as fix.drop(fix.good, ["context/time"]) with time.now_ns as 42
	asked == 42
}

test_timestamps if {
	every text in [
		"2026-11-23T10:00:00Z", "2026-11-23T10:00:00.123456789+05:30", "2024-02-29T23:59:59-00:00", "1970-01-01T00:00:00Z",
		"2199-12-31T23:59:59Z", "2000-02-29T00:00:00Z", "2026-04-30T00:00:00Z",
	] {
		is_number(facts.instant(text))
	}
	every text in [
		"2026-02-29T10:00:00Z", "2100-02-29T10:00:00Z", "2026-04-31T10:00:00Z", "2026-13-01T10:00:00Z", "2026-11-23T24:00:00Z",
		"2026-11-23T10:00:60Z", "2026-11-23 10:00:00Z", "2026-11-23T10:00:00", "2026-11-23t10:00:00z", "1969-12-31T23:59:59Z",
		"2200-01-01T00:00:00Z", "2026-11-23T10:00:00+24:00", "2026-11-23T10:00:00.Z", "", 7, null,
	] {
		not facts.instant(text)
	}
}

test_tenants_are_same_only_when_known if {
	same := facts.same_tenant with input as fix.good
	same == "yes"
	other := facts.same_tenant with input as fix.ask({"resource": {"properties": {"tenant": "t2"}}})
	other == "no"
	every paths in [
		["subject/properties/tenant"], ["resource/properties/tenant"],
		["subject/properties/tenant", "resource/properties/tenant"],
	] {
		unknown := facts.same_tenant with input as fix.drop(fix.good, paths)
		unknown == "unknown"
	}
	null_tenants := facts.same_tenant with input as fix.ask({
		"subject": {"properties": {"tenant": null}},
		"resource": {"properties": {"tenant": null}},
	})
	null_tenants == "unknown"
}

test_listed if {
	facts.listed("a", ["a"]) == true
	facts.listed("b", ["a"]) == false
	facts.listed("a", {"in": ["a"]}) == true
	facts.listed("a", {"not_in": ["a"]}) == false
	facts.listed("b", {"not_in": ["a"]}) == true
	every malformed in ["a", {"in": "a"}, {"not_in": "a"}, {"in": ["a"], "not_in": ["b"]}, {"of": ["a"]}, {}] {
		not facts.listed("a", malformed)
		not not_listed(malformed)
	}
}

not_listed(list) if facts.listed("a", list) == false

test_attributes if {
	question := fix.ask({"resource": {"properties": {"amount": 5, "open": false, "tags": ["vip"], "nothing": null}}})
	every row in [
		["amount", {"equals": 5}, "yes"], ["amount", {"equals": 6}, "no"],
		["amount", {"not_equals": 6}, "yes"], ["amount", {"not_equals": 5}, "no"],
		["amount", {"in": [5, 6]}, "yes"], ["amount", {"in": [6]}, "no"], ["amount", {"in": 5}, "invalid"],
		["amount", {"not_in": [6]}, "yes"], ["amount", {"not_in": [5]}, "no"],
		["amount", {"at_least": 5}, "yes"], ["amount", {"at_least": 6}, "no"], ["amount", {"at_least": "5"}, "invalid"],
		["amount", {"at_most": 5}, "yes"], ["amount", {"at_most": 4}, "no"],
		["amount", {"at_least": 1, "at_most": 4}, "no"],
		["open", {"equals": false}, "yes"], ["open", {"at_least": 0}, "invalid"],
		["tags", {"contains": "vip"}, "yes"], ["tags", {"contains": "x"}, "no"], ["amount", {"contains": 5}, "invalid"],
		["owner", {"same_as": "subject.id"}, "yes"], ["tenant", {"same_as": "subject.id"}, "no"],
		["owner", {"same_as": "subject.nothing"}, "unknown"], ["owner", {"same_as": 1}, "invalid"],
		["nothing", {"equals": null}, "unknown"], ["absent", {"equals": 1}, "unknown"],
		["amount", {}, "invalid"], ["amount", 5, "invalid"], ["amount", {"like": 5}, "invalid"],
	] {
		answer := facts.attribute(concat(".", ["resource.properties", row[0]]), row[1]) with input as question
		answer == row[2]
	}
	odd := facts.attribute(7, {"equals": 1}) with input as question
	odd == "invalid"
}
