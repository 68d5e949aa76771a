# METADATA
# title: Zero-trust policies
# description: |
#   Named policies ask for trust, zone, factors, risk and a fresh session. The
#   question names one in input.context.policy, by key or by name; the table
#   data.verdict.zerotrust.classes can ask for one by permission. Where both do,
#   both must be met. Facts: input.context.session. Data: data.verdict.zerotrust.
package verdict.zerotrust

import data.verdict.facts
import data.verdict.geo
import data.verdict.trust

# selected are the keys of the policies that apply.
selected := named | classed

named := {key | key := keys(input.context.policy)}

# keys finds a policy by key, else by name. A name that two policies share finds
# none.
keys(name) := name if {
	data.verdict.zerotrust.policies[name]
} else := key if {
	found := [key | some key, policy in data.verdict.zerotrust.policies; policy.name == name]
	count(found) == 1
	key := found[0]
}

# classed is the policy of the most specific pattern that covers the question.
classed := {key |
	data.verdict.zerotrust.classes.enabled == true
	hits := [name |
		some pattern in facts.candidates
		name := data.verdict.zerotrust.classes.permissions[pattern]
	]
	key := keys(hits[0])
}

unknown := [{"code": "policy_unknown", "policy": "verdict.zerotrust", "detail": detail} |
	name := input.context.policy
	name != null
	not keys(name)
	detail := sprintf("no zero-trust policy is called %v", [name])
]

# applied are the settings of the selected policies by key, broken the keys of
# those that cannot be applied.
applied := {key: policy |
	some key in selected
	policy := settings(key)
	well_formed(policy)
}

broken := selected - object.keys(applied)

# settings is a policy with the defaults in place of what it leaves out.
settings(key) := object.union(data.verdict.zerotrust.defaults, policy) if {
	policy := data.verdict.zerotrust.policies[key]
	is_object(policy)
	is_object(data.verdict.zerotrust.defaults)
}

# well_formed holds for a policy that has every member, no other, and each of
# its type.
well_formed(policy) if {
	{member: type_name(value) | some member, value in policy} == types
	trust.ranks[policy.required_trust_level]
}

types := {
	"name": "string",
	"description": "string",
	"required_trust_level": "string",
	"allowed_security_zones": "array",
	"require_mfa": "boolean",
	"require_device_trust": "boolean",
	"require_location_verification": "boolean",
	"max_risk_score": "number",
	"session_timeout_minutes": "number",
	"continuous_verification_interval": "number",
	"absolute_timeout_minutes": "number",
}

# denials are what the question fails of every policy that applies.
denials := array.flatten([
	session_denials, unknown,
	[refusal(key, code, policy) |
		some key, policy in applied
		some code in moving
		not passes(code, policy)
	],
	standing_failures,
])

refusal(key, code, policy) := {
	"code": code,
	"policy": concat("", ["verdict.zerotrust.", key]),
	"detail": detail(code, policy),
}

# errors name the policies that cannot be applied.
errors := [{"code": "policy_invalid", "policy": concat("", ["verdict.zerotrust.", key]), "detail": "the policy is not well formed"} |
	some key in broken
]

# session_denials hold whatever policy is asked for.
session_denials := array.concat(
	[{"code": code, "policy": "verdict.zerotrust", "detail": "the session is not active"} |
		status := input.context.session.status
		not status in {"active", null}
		code := object.get(
			{"expired": "session_expired", "revoked": "session_revoked", "suspended": "session_suspended"},
			status, "session_inactive",
		)
	],
	[{"code": "session_mismatch", "policy": "verdict.zerotrust", "detail": "the session belongs to another subject"} |
		owner := input.context.session.subject
		rightful := {input.subject.id, null}
		not owner in rightful
	],
)

# moving are the checks whose answer changes while time passes, standing the
# others.
moving := ["session_expired", "session_idle", "verification_stale", "trust_too_low", "risk_too_high"]

standing := [
	"session_unknown", "mfa_required", "device_untrusted", "location_unverified", "zone_unmapped", "zone_not_allowed",
	"incident_open",
]

standing_failures := [standing_refusal(key, code, policy) |
	some key, policy in applied
	some code in standing
	not stands(code, policy)
]

standing_refusal(key, code, policy) := {
	"code": code,
	"policy": concat("", ["verdict.zerotrust.", key]),
	"detail": object.get(texts, code, sprintf("the zone is %s, allowed are %v", [geo.zone, policy.allowed_security_zones])),
}

stands("session_unknown", _) if session

passes("session_expired", policy) if fresh(trust.created, policy.absolute_timeout_minutes)

passes("session_expired", _) if not session

passes("session_idle", policy) if fresh(active, policy.session_timeout_minutes)

passes("session_idle", _) if not session

passes("verification_stale", policy) if fresh(verified, policy.continuous_verification_interval)

passes("verification_stale", _) if not session

# verified is when the session was last verified, active when it was last used;
# to verify is to use.
verified := facts.instant(input.context.session.last_verified_at)

used := facts.instant(input.context.session.last_activity_at)

active := max([verified, used])

active := verified if not used

active := used if not verified

stands("mfa_required", policy) if true in {trust.mfa, policy.require_mfa == false}

stands("device_untrusted", policy) if true in {trust.device, policy.require_device_trust == false}

stands("location_unverified", policy) if true in {trust.location, policy.require_location_verification == false}

stands("zone_unmapped", _) if not geo.zone_unmapped

stands("zone_unmapped", policy) if "dmz" in policy.allowed_security_zones

stands("zone_not_allowed", policy) if geo.zone in policy.allowed_security_zones

passes("trust_too_low", policy) if trust.rank >= trust.ranks[policy.required_trust_level]

passes("risk_too_high", policy) if trust.risk <= policy.max_risk_score

stands("incident_open", _) if not incidents

stands("incident_open", _) if incidents == []

incidents := input.context.session.incidents if input.context.session.incidents != null

# session holds when the question is asked in a session: one without an id is
# not known to anybody.
session if facts.known_text(input.context.session.id)

# fresh holds for a moment at most so many minutes ago. One in the future is
# not believed, but for the skew of clocks.
fresh(moment, minutes) if {
	age := facts.now - moment
	age <= minutes * 60000000000
	skew := data.verdict.zerotrust.max_clock_skew_seconds
	is_number(skew)
	age + (skew * 1000000000) >= 0
}

# detail never is undefined, which would lose the denial that it explains.
detail(code, policy) := text if {
	text := explain(code, policy)
} else := code

explain("trust_too_low", policy) := sprintf("trust is %s, %s is required", [trust.level, policy.required_trust_level])

explain("risk_too_high", policy) := sprintf("risk is %v, at most %v is allowed", [trust.risk, policy.max_risk_score])

explain("session_expired", policy) := sprintf("the session is older than %v minutes", [policy.absolute_timeout_minutes])

explain("session_idle", policy) := sprintf("the session was idle for more than %v minutes", [policy.session_timeout_minutes])

explain("verification_stale", policy) := sprintf(
	"the last verification is more than %v minutes ago",
	[policy.continuous_verification_interval],
)

texts := {
	"session_unknown": "the question names no session that is known",
	"mfa_required": "multi-factor authentication is required",
	"device_untrusted": "a trusted device is required",
	"location_unverified": "a verified location is required",
	"zone_unmapped": "no table assigns a zone to the request, so it counts as dmz",
	"incident_open": "an incident is open for this session",
}

# unsatisfiable says for each policy that nobody can meet why; shadowed for each
# policy whose required level is below what its risk bound asks anyway.
unsatisfiable := {key: reason |
	some key, _ in data.verdict.zerotrust.policies
	reason := why(key)
}

why(key) := reason if {
	well_formed(settings(key))
	reason := obstacle(settings(key))
}

why(key) := "it is not well formed" if not usable(key)

usable(key) if well_formed(settings(key))

obstacle(policy) := "no allowed zone is assigned to anybody" if {
	count(open_zones(policy)) == 0
} else := "in no allowed zone can its trust level and its risk bound be reached" if {
	every zone in open_zones(policy) {
		not within_best(policy, zone)
	}
}

within_best(policy, zone) if reachable(policy, trust.best(zone))

open_zones(policy) := {zone | some zone in policy.allowed_security_zones} & geo.assignable

reachable(policy, score) if {
	trust.ranks[trust.level_of(score)] >= trust.ranks[policy.required_trust_level]
	trust.rounded(1 - score) <= policy.max_risk_score
}

shadowed := {key: sprintf("a risk of at most %v needs the level %s anyway", [policy.max_risk_score, implied]) |
	some key, _ in data.verdict.zerotrust.policies
	policy := settings(key)
	well_formed(policy)
	implied := trust.level_of(trust.rounded(1 - policy.max_risk_score))
	trust.ranks[implied] > trust.ranks[policy.required_trust_level]
}

# max_ages are the seconds after which the policies that apply want the subject
# verified again; strong holds when one of them asks for more than one factor.
max_ages := {seconds |
	some policy in applied
	seconds := policy.continuous_verification_interval * 60
}

strong if {
	some policy in applied
	policy.require_mfa
}

# within_reach holds for the name of a policy whose level and risk could be met
# by verifying a second factor.
within_reach(name) if {
	some key, policy in applied
	name == concat("", ["verdict.zerotrust.", key])
	reachable(policy, trust.raised)
}
