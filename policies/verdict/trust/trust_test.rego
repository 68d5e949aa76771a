package verdict.trust_test

import data.verdict.fixtures_test as fix
import data.verdict.trust

near(a, b) if abs(a - b) < 0.000000001

test_contributions_sum_to_the_score if {
	every created in ["10:00:00", "09:00:00", "05:00:00", "04:00:00"] {
		every anomaly in [0, 0.35, 0.9] {
			summary := trust.summary with input as fix.ask({"context": {"session": {
				"created_at": sprintf("2026-11-23T%sZ", [created]),
				"anomaly": anomaly,
				"auth_failures": 1,
			}}})
			near(sum([factor.contribution | some factor in summary.factors]), summary.score)
			near(summary.risk, 1 - summary.score)
			every factor in summary.factors {
				near(factor.contribution, factor.weight * factor.value)
			}
			count(summary.factors) == 8
		}
	}
}

test_everything_known_and_nothing_known if {
	full := trust.summary with input as fix.good
	[full.score, full.risk, full.level, full.zone] == [1, 0, "verified", "internal"]
	none := trust.summary with input as {}
	[none.score, none.risk, none.level, none.zone] == [0, 1, "untrusted", "dmz"]
}

# Turning off one fact after the other makes the level fall step by step.
test_level_falls_in_order if {
	steps := [
		["verified", {}],
		["high", {"mfa": false}],
		["medium", {"mfa": false, "anomaly": 1}],
	]
	every step in steps {
		level := trust.level with input as fix.ask({"context": {"session": step[1]}})
		level == step[0]
	}
	low := trust.level with input as fix.ask({"context": {"session": {"mfa": false, "anomaly": 1}, "location": {"verified": false}}})
	low == "low"
	untrusted := trust.level with input as fix.ask({"context": {
		"session": {"mfa": false, "anomaly": 1},
		"location": {"verified": false},
		"device": {"trusted": false},
	}})
	untrusted == "untrusted"
}

test_ranks if {
	levels := ["untrusted", "low", "medium", "high", "verified"]
	every i, left in levels {
		every j, right in levels {
			[trust.ranks[left] < trust.ranks[right], trust.ranks[left] == trust.ranks[right]] == [i < j, i == j]
		}
	}
}

value(factor, question) := found if {
	factors := trust.factors with input as question
	some found in [f.value | some f in factors; f.name == factor]
}

test_mfa if {
	every row in [
		[{"mfa": true}, 1], [{"mfa": false}, 0], [{"mfa": "true"}, 0], [{"mfa": null, "amr": ["pwd", "mfa"]}, 1],
		[{"mfa": null, "amr": ["pwd"]}, 0], [{"mfa": null, "amr": "mfa"}, 0], [{"mfa": null}, 0],
	] {
		value("mfa", fix.ask({"context": {"session": row[0]}})) == row[1]
	}
}

test_device if {
	bare := fix.drop(fix.good, ["context/device"])
	every row in [
		[{"trusted": true}, 1], [{"trusted": "yes"}, 0], [{"registered": true, "fingerprint_match": true}, 1],
		[{"registered": true}, 0], [{"registered": true, "fingerprint_match": false, "trusted": true}, 0],
		[{"trusted": true, "compliant": false}, 0], [{"trusted": true, "reputation": 0.7}, 1],
		[{"trusted": true, "reputation": 0.69}, 0], [{"trusted": true, "reputation": "high"}, 0], [{}, 0],
	] {
		value("device", object.union(bare, {"context": {"device": row[0]}})) == row[1]
	}
}

test_location if {
	every row in [
		[{}, 1], [{"verified": false}, 0], [{"verified": "yes"}, 0], [{"proxy": true}, 0], [{"proxy": "vpn"}, 0],
		[{"suspicious": true}, 0], [{"country": "KP"}, 0], [{"proxy": false, "suspicious": false}, 1],
	] {
		value("location", fix.ask({"context": {"location": row[0]}})) == row[1]
	}
}

test_behaviour if {
	every row in [[0, 1], [0.7, 0.3], [0.8, 0.2], [0.81, 0], [1, 0], [-1, 0], ["0", 0], [null, 0]] {
		value("behaviour", fix.ask({"context": {"session": {"anomaly": row[0]}}})) == row[1]
	}
}

test_session_age if {
	every row in [
		["2026-11-23T10:00:00Z", 1], ["2026-11-23T04:00:00Z", 0.5], ["2026-11-22T22:00:00Z", 0], ["2026-11-01T00:00:00Z", 0],
		["2026-11-23T10:00:01Z", 0], ["now", 0], [null, 0],
	] {
		value("session_age", fix.ask({"context": {"session": {"created_at": row[0]}}})) == row[1]
	}
}

test_failures_and_incidents if {
	every row in [[0, 1], [1, 0.8], [5, 0], [50, 0], [-1, 0], ["0", 0], [null, 0]] {
		value("auth_failures", fix.ask({"context": {"session": {"auth_failures": row[0]}}})) == row[1]
	}
	every row in [[[], 1], [["i-1"], 0], [null, 0], ["none", 0]] {
		value("incidents", fix.ask({"context": {"session": {"incidents": row[0]}}})) == row[1]
	}
}

test_zone if {
	value("zone", fix.good) == 1
	value("zone", fix.ask({"context": {"network": {"ip": "203.0.113.9"}}})) == 0
	unvalued := trust.zone_value with input as fix.good with data.verdict.trust.zones as {}
	unvalued == 0
}

test_thresholds_hold_without_rounding_errors if {
	every row in [[0.9, "verified"], [0.899999999, "high"], [0.75, "high"], [0.6, "medium"], [0.3, "low"], [0.299999999, "untrusted"]] {
		trust.level_of(row[0]) == row[1]
	}
}

test_weights_must_balance if {
	trust.balanced
	not trust.balanced with data.verdict.trust.weights.mfa as 0.5
	not trust.balanced with data.verdict.trust.weights.mfa as "much"
	not trust.balanced with data.verdict.trust.weights.luck as 0
	not trust.misconfigured with input as fix.good
	trust.misconfigured with input as fix.good with data.verdict.trust.weights.mfa as 2
	trust.misconfigured with input as fix.good with data.verdict.trust.weights.mfa as -2
}

test_best_score_of_a_zone if {
	trust.best("internal") == 1
	trust.best("dmz") == 0.92
	unvalued := trust.best("internal") with data.verdict.trust.zones as {}
	unvalued == 0.92
	not trust.best("internal") with data.verdict.trust.weights.mfa as 1
}
