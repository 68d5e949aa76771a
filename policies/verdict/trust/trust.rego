# METADATA
# title: Trust
# description: |
#   The trust score 0..1 is the sum of weighted factors, risk is what is missing
#   to 1, and the level follows from thresholds. Facts: input.context.{session,
#   device,location}. Data: data.verdict.trust. An unknown fact counts nothing.
package verdict.trust

import data.verdict.facts
import data.verdict.geo

ranks := {"untrusted": 0, "low": 1, "medium": 2, "high": 3, "verified": 4}

# summary is the `trust` of the answer.
summary := {
	"score": score,
	"risk": risk,
	"level": level,
	"zone": geo.zone,
	"factors": factors,
}

# identity and surroundings are the factors that do not change while time
# passes, in two lists short enough to be kept; ageing is the one that does. A
# value says how much of the weight counts.
identity := weighted([
	["behaviour", behaviour], ["device", flag(device)],
	["location", flag(location)], ["mfa", flag(mfa)],
])

surroundings := weighted([["auth_failures", restraint], ["incidents", calm], ["zone", zone_value]])

ageing := weighted([["session_age", freshness]])

weighted(values) := [{"name": name, "weight": weight, "value": value, "contribution": weight * value} |
	some [name, value] in values
	weight := data.verdict.trust.weights[name]
	is_number(weight)
	is_number(value)
]

factors := array.flatten([identity, surroundings, ageing])

flag(true) := 1

flag(false) := 0

base := sum([factor.contribution | some factor in array.concat(identity, surroundings)])

# Sums of decimal fractions carry an error in their last digits, which must not
# decide at a threshold: score and risk are whole billionths.
billionths := round((base + ageing[0].contribution) * 1000000000)

score := billionths / 1000000000

risk := (1000000000 - billionths) / 1000000000

rounded(x) := round(x * 1000000000) / 1000000000

level := level_of(score)

level_of(x) := "verified" if {
	x >= data.verdict.trust.levels.verified
} else := "high" if {
	x >= data.verdict.trust.levels.high
} else := "medium" if {
	x >= data.verdict.trust.levels.medium
} else := "low" if {
	x >= data.verdict.trust.levels.low
} else := "untrusted"

rank := ranks[level]

default mfa := false

mfa if input.context.session.mfa == true

mfa if {
	is_array(input.context.session.amr)
	"mfa" in input.context.session.amr
}

# A device is trusted when the caller's register says so, or when it is known
# and its fingerprint matches; nothing may speak against it.
default device := false

device if {
	device_known
	not device_refused
	reputation >= data.verdict.trust.min_device_reputation
}

device_known if input.context.device.trusted == true

device_known if {
	input.context.device.registered == true
	input.context.device.fingerprint_match == true
}

device_refused if {
	some fact in ["trusted", "registered", "fingerprint_match", "compliant"]
	input.context.device[fact] == false
}

reputation := input.context.device.reputation if is_number(input.context.device.reputation)

reputation := 1 if not reputed

reputed if input.context.device.reputation != null

default location := false

location if {
	input.context.location.verified == true
	not location_refused
}

location_refused if {
	some fact in ["proxy", "suspicious"]
	object.get(input.context.location, fact, false) != false
}

location_refused if geo.restricted

# behaviour falls with the anomaly 0..1; above the bound it counts nothing.
default behaviour := 0

behaviour := rounded(1 - anomaly) if {
	anomaly := input.context.session.anomaly
	is_number(anomaly)
	anomaly >= 0
	anomaly <= data.verdict.trust.max_anomaly
}

default zone_value := 0

zone_value := data.verdict.trust.zones[geo.zone]

# freshness falls evenly from 1 to 0 while a session grows old.
default freshness := 0

freshness := rounded((lifetime - age) / lifetime) if {
	age := facts.now - created
	age >= 0
	age <= lifetime
}

lifetime := limit * 60000000000 if {
	limit := data.verdict.trust.max_session_minutes
	positive(limit)
}

positive(limit) if {
	is_number(limit)
	limit > 0
}

created := facts.instant(input.context.session.created_at)

default restraint := 0

restraint := rounded(max([0, 1 - (failures / limit)])) if {
	limit := data.verdict.trust.max_auth_failures
	positive(limit)
	failures := input.context.session.auth_failures
	is_number(failures)
	failures >= 0
}

default calm := 0

calm := 1 if input.context.session.incidents == []

# misconfigured holds when a factor was lost or the score is no share of 1.
misconfigured if not sound

sound if {
	count(factors) == 8
	score >= 0
	score <= 1
}

# best is the score that nobody in a zone can exceed.
best(zone) := rounded(total - (data.verdict.trust.weights.zone * (1 - worth(zone)))) if balanced

worth(zone) := value if {
	value := data.verdict.trust.zones[zone]
	is_number(value)
} else := 0

total := sum([weight | some weight in data.verdict.trust.weights; is_number(weight)])

# raised is the score after a second factor was verified.
raised := score if mfa

raised := rounded(score + data.verdict.trust.weights.mfa) if not mfa

balanced if {
	{name | some name, _ in data.verdict.trust.weights} == factor_names
	every weight in data.verdict.trust.weights {
		is_number(weight)
		weight >= 0
	}
	rounded(total) == 1
}

factor_names := {"auth_failures", "behaviour", "device", "incidents", "location", "mfa", "session_age", "zone"}
