package verdict.hours_test

import data.verdict.fixtures_test as fix
import data.verdict.hours

business := {"weekdays": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:59"}

test_business_hours if {
	every row in [
		["2026-11-23T08:59:59Z", "no"], ["2026-11-23T09:00:00Z", "yes"], ["2026-11-23T17:59:59Z", "yes"],
		["2026-11-23T18:00:00Z", "no"], ["2026-11-28T10:00:00Z", "no"], ["2026-11-29T10:00:00Z", "no"],
		["2026-11-27T10:00:00Z", "yes"],
	] {
		answer := hours.state(business) with input as fix.at(row[0])
		answer[0] == row[1]
	}
}

test_reason_names_the_local_time if {
	answer := hours.state(business) with input as fix.at("2026-11-23T18:00:00Z")
	answer == ["no", "outside_hours", "not allowed at mon 18:00 (UTC)"]
}

test_zone_of_rule_subject_tenant_default if {
	early := "2026-11-23T08:30:00Z" # 09:30 in Berlin, 17:30 in Tokyo
	of_rule := hours.state(object.union(business, {"timezone": "Asia/Tokyo"})) with input as fix.at(early)
	of_rule[0] == "yes"
	of_subject := hours.state(business) with input as object.union(
		fix.at(early),
		{"subject": {"properties": {"timezone": "Europe/Berlin"}}},
	)
	of_subject[0] == "yes"
	of_tenant := hours.state(business) with input as fix.at(early)
		with data.verdict.hours.tenants as {"t1": {"timezone": "Europe/Berlin"}}
	of_tenant[0] == "yes"
	of_default := hours.state(business) with input as fix.at(early)
	of_default[0] == "no"
	configured := hours.state(business) with input as fix.at(early) with data.verdict.hours.timezone as "Europe/Berlin"
	configured[0] == "yes"
	untenanted := hours.state(business) with input as fix.drop(fix.at(early), ["subject/properties/tenant"])
	untenanted[0] == "no"
}

test_zones_that_are_none if {
	every zone in ["Local", "../etc/passwd", "", 7, false] {
		answer := hours.state(business) with input as fix.ask({"subject": {"properties": {"timezone": zone}}})
		answer[0] == "invalid"
	}
}

test_span_over_midnight if {
	night := {"from": "22:00", "to": "05:59"}
	every row in [["21:59", "no"], ["22:00", "yes"], ["00:00", "yes"], ["05:59", "yes"], ["06:00", "no"]] {
		answer := hours.state(night) with input as fix.at(sprintf("2026-11-23T%s:30Z", [row[0]]))
		answer[0] == row[1]
	}
}

test_holidays if {
	workday := {"holidays": false}
	every row in [
		[["2026-11-23"], {}, "no"], [[], {}, "yes"],
		[[], {"t1": {"holidays": ["2026-11-23"]}}, "no"], [[], {"t2": {"holidays": ["2026-11-23"]}}, "yes"],
	] {
		answer := hours.state(workday) with input as fix.good
			with data.verdict.hours.holidays as row[0]
			with data.verdict.hours.tenants as row[1]
		answer[0] == row[2]
	}
	off := hours.state({"holidays": true}) with input as fix.good with data.verdict.hours.holidays as ["2026-11-23"]
	off[0] == "yes"
}

test_malformed_conditions if {
	every when in [
		{}, "always", {"from": "9:00"}, {"to": "24:00"}, {"from": 9}, {"weekdays": ["Monday"]}, {"weekdays": {}},
		{"weekdays": "mon"}, {"holidays": "no"}, {"timezone": false}, {"hour": 9},
	] {
		answer := hours.state(when) with input as fix.good
		answer[1] == "rule_invalid"
	}
}

test_malformed_time if {
	answer := hours.state(business) with input as fix.at("soon")
	answer[1] == "time_invalid"
}
