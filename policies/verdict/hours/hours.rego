# METADATA
# title: Hours
# description: |
#   Local time: weekday, time of day, holidays. The zone is the rule's own, else
#   the subject's (input.subject.properties.timezone), else the tenant's
#   (data.verdict.hours.tenants), else data.verdict.hours.timezone.
package verdict.hours

import data.verdict.facts

# state answers the condition `time` with [state, code, detail]. Every part
# that is there must hold: {"weekdays": ["mon"], "from": "09:00", "to": "17:59",
# "timezone": "Europe/Berlin", "holidays": false}. Both ends are included.
state(when) := ["invalid", "rule_invalid", "time must have weekdays, from, to, timezone or holidays, well formed"] if {
	not well_formed(when)
} else := ["invalid", "time_invalid", "context.time is not an RFC 3339 timestamp"] if {
	not facts.now
} else := ["invalid", "timezone_invalid", "the time zone is not known"] if {
	not weekday(when)
} else := ["yes", "", ""] if {
	on_weekday(when)
	at_time(when)
	on_holiday(when)
} else := ["no", "outside_hours", sprintf("not allowed at %s %s (%s)", [
	weekday(when),
	time_of_day(when),
	zone(when),
])]

well_formed(when) if {
	is_object(when)
	when != {}
	object.keys(when) - {"weekdays", "from", "to", "timezone", "holidays"} == set()
	every day in object.get(when, "weekdays", []) {
		day in days
	}
	is_array(object.get(when, "weekdays", []))
	every end in ["from", "to"] {
		regex.match(`^(?:[01][0-9]|2[0-3]):[0-5][0-9]$`, text(object.get(when, end, "00:00")))
	}
	is_boolean(object.get(when, "holidays", false))
	is_string(object.get(when, "timezone", "UTC"))
}

text(value) := value if is_string(value)

days := ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

# zone is an IANA name. "Local" would be the server's own zone and is refused;
# a zone that is stated but is not a name does not fall back to the next one.
zone(when) := zone_name(when.timezone)

zone(when) := subject_zone if not when.timezone

subject_zone := zone_name(input.subject.properties.timezone) if stated

subject_zone := tenant_zone if not stated

stated if input.subject.properties.timezone != null

tenant_zone := zone_name(tenant_hours.timezone)

tenant_zone := zone_name(data.verdict.hours.timezone) if not tenant_hours.timezone

tenant_hours := data.verdict.hours.tenants[facts.subject_tenant]

zone_name(name) := name if {
	is_string(name)
	name != "Local"
	regex.match(`^[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*$`, name)
}

weekday(when) := lower(substring(time.weekday([facts.now, zone(when)]), 0, 3))

time_of_day(when) := sprintf("%02d:%02d", [hour, minute]) if {
	[hour, minute, _] := time.clock([facts.now, zone(when)])
}

date(when) := sprintf("%d-%02d-%02d", time.date([facts.now, zone(when)]))

on_weekday(when) if not when.weekdays

on_weekday(when) if weekday(when) in when.weekdays

at_time(when) if inside(object.get(when, "from", "00:00"), object.get(when, "to", "23:59"), time_of_day(when))

# A span that ends before it begins runs over midnight.
inside(from, to, now) if {
	from <= to
	from <= now
	now <= to
}

inside(from, to, now) if {
	from > to
	now >= from
}

inside(from, to, now) if {
	from > to
	now <= to
}

on_holiday(when) if not "holidays" in object.keys(when)

on_holiday(when) if when.holidays == holiday(when)

default holiday(_) := false

holiday(when) if date(when) in data.verdict.hours.holidays

holiday(when) if date(when) in tenant_hours.holidays
