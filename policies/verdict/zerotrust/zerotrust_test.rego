package verdict.zerotrust_test

import data.verdict.authz
import data.verdict.fixtures_test as fix
import data.verdict.geo
import data.verdict.zerotrust

# The four facts of the document, on or off, in a zone: the answer to policy.
allowed(policy, address, mfa, device, location, behaviour) := d.allow if {
	d := authz.decision with input as fix.under(policy, {"context": {
		"session": {"mfa": mfa, "anomaly": {true: 0, false: 1}[behaviour]},
		"device": {"trusted": device},
		"location": {"verified": location},
		"network": address,
	}})
}

# combinations are the sixteen, as strings of the facts that are there.
combinations(policy, address) := {concat("", [text(mfa, "M"), text(device, "D"), text(location, "L"), text(behaviour, "B")]) |
	some mfa in [true, false]
	some device in [true, false]
	some location in [true, false]
	some behaviour in [true, false]
	allowed(policy, address, mfa, device, location, behaviour)
}

text(true, letter) := letter

text(false, _) := "-"

# The sixteen combinations under each policy: the table of docs/policies.md.
test_sixteen_under_admin if combinations("admin", {"listener": "admin"}) == {"MDLB"}

test_sixteen_under_user if combinations("user", {"ip": "10.1.2.3"}) == {"MDLB", "MDL-", "MD-B", "MD--"}

test_sixteen_under_api_inside if {
	combinations("api", {"ip": "10.1.2.3"}) == {
		"MDLB", "MDL-", "MD-B", "MD--", "M-LB", "M-L-", "M--B", "M---",
		"-DLB", "-DL-", "-D-B", "-D--", "--LB", "--L-", "---B",
	}
}

test_sixteen_under_api_outside if {
	combinations("api", {"ip": "203.0.113.9"}) == {
		"MDLB", "MDL-", "MD-B", "MD--", "M-LB", "M-L-", "M--B", "M---",
		"-DLB", "-DL-", "-D-B", "-D--", "--LB",
	}
}

test_wrong_zone_denies_everything if {
	every row in [["admin", {"ip": "10.1.2.3"}], ["user", {"ip": "203.0.113.9"}], ["user", {"listener": "admin"}]] {
		not allowed(row[0], row[1], true, true, true, true)
	}
}

test_reachable_by_key_and_by_name if {
	every row in [["admin", "admin_operations"], ["user", "user_operations"], ["api", "api_access"]] {
		every name in row {
			selected := zerotrust.selected with input as fix.under(name, {})
			selected == {row[0]}
		}
	}
}

test_shipped_policies_are_complete if {
	every key, _ in data.verdict.zerotrust.policies {
		zerotrust.well_formed(zerotrust.settings(key))
	}
	zerotrust.settings("admin").max_risk_score == 0.1
}

test_defaults_fill_a_short_policy if {
	short := {"required_trust_level": "low", "allowed_security_zones": ["internal"]}
	settings := zerotrust.settings("short") with data.verdict.zerotrust.policies.short as short
	zerotrust.well_formed(settings)
	[settings.require_mfa, settings.require_device_trust, settings.require_location_verification] == [true, true, false]
	[settings.max_risk_score, settings.session_timeout_minutes, settings.continuous_verification_interval] == [0.3, 30, 5]
}

test_unknown_policy_denies if {
	every name in ["nobody", "", 7, false, ["user"], {}] {
		d := authz.decision with input as fix.under(name, {})
		fix.denied_for(d, {"policy_unknown"})
	}
	d := authz.decision with input as fix.ask({"context": {"policy": null}})
	fix.permitted(d)
	shared := authz.decision with input as fix.under("twin", {})
		with data.verdict.zerotrust.policies.a as {"name": "twin"}
		with data.verdict.zerotrust.policies.b as {"name": "twin"}
	fix.denied_for(shared, {"policy_unknown"})
}

test_malformed_policy_is_indeterminate if {
	user := data.verdict.zerotrust.policies.user
	every change in [
		{"require_mfa": "yes"}, {"max_risk_score": "none"}, {"allowed_security_zones": "internal"}, {"surprise": 1},
		{"required_trust_level": "total"}, {"session_timeout_minutes": null},
	] {
		d := authz.decision with input as fix.under("user", {})
			with data.verdict.zerotrust.policies.user as object.union(user, change)
		fix.indeterminate_for(d, {"policy_invalid"})
	}
	d := authz.decision with input as fix.under("user", {}) with data.verdict.zerotrust.policies.user as {"name": "user"}
	fix.indeterminate_for(d, {"policy_invalid"})
}

session(policy, change) := d if {
	d := authz.decision with input as fix.under(policy, {"context": {"session": change}})
}

test_each_demand_has_its_code if {
	every row in [
		[{"context": {"session": {"mfa": false}}}, "mfa_required"],
		[{"context": {"device": {"trusted": false}}}, "device_untrusted"],
		[{"context": {"location": {"verified": false}}}, "location_unverified"],
		[{"context": {"network": {"ip": "10.1.2.3", "listener": ""}}}, "zone_not_allowed"],
		[{"context": {"network": {"ip": "203.0.113.9", "listener": ""}}}, "zone_unmapped"],
		[{"context": {"session": {"mfa": false}}}, "trust_too_low"],
		[{"context": {"session": {"mfa": false}}}, "risk_too_high"],
		[{"context": {"session": {"incidents": ["i-1"]}}}, "incident_open"],
		[{"context": {"session": {"id": ""}}}, "session_unknown"],
		[{"context": {"session": {"created_at": "2026-11-22T21:59:59Z"}}}, "session_expired"],
		[{"context": {"session": {"last_verified_at": "2026-11-23T09:44:59Z"}}}, "session_idle"],
		[{"context": {"session": {"last_verified_at": "2026-11-23T09:57:59Z"}}}, "verification_stale"],
	] {
		d := authz.decision with input as fix.under("admin", object.union({"context": {"network": {"listener": "admin"}}}, row[0]))
		d.decision == "deny"
		row[1] in fix.codes(d)
		every reason in d.reasons {
			reason.policy == "verdict.zerotrust.admin"
			is_string(reason.detail)
		}
	}
}

test_verification_goes_stale if {
	every row in [["2026-11-23T09:55:01Z", true], ["2026-11-23T09:55:00Z", true], ["2026-11-23T09:54:59Z", false]] {
		d := session("user", {"last_verified_at": row[0]})
		d.allow == row[1]
	}
	d := session("user", {"last_verified_at": "2026-11-23T09:54:59Z"})
	fix.denied_for(d, {"verification_stale"})
	d.obligations[0].properties == {"acr_values": ["urn:verdict:acr:mfa"], "amr_values": ["mfa"], "max_age": 300}
	program := session("api", {"last_verified_at": "2026-11-23T09:49:59Z"})
	fix.denied_for(program, {"verification_stale"})
	program.obligations[0].properties == {"acr_values": [], "amr_values": [], "max_age": 300}
}

test_idle_and_absolute_timeout if {
	idle := session("user", {"last_activity_at": "2026-11-23T09:29:59Z", "last_verified_at": "2026-11-23T09:29:00Z"})
	fix.denied_for(idle, {"session_idle", "verification_stale"})
	idle.obligations == []
	active := session("user", {"last_activity_at": "2026-11-23T09:59:00Z", "last_verified_at": "2026-11-23T09:29:00Z"})
	fix.denied_for(active, {"verification_stale"})
	used := session("user", {"last_activity_at": "2026-11-23T09:59:00Z", "last_verified_at": null})
	fix.denied_for(used, {"verification_stale"})
	neither := session("user", {"last_verified_at": null})
	fix.denied_for(neither, {"verification_stale", "session_idle"})
	old := session("user", {"created_at": "2026-11-22T21:59:59Z"})
	fix.denied_for(old, {"session_expired"})
	unborn := session("user", {"created_at": null})
	fix.denied_for(unborn, {"session_expired"})
}

test_the_future_is_not_believed if {
	skewed := session("user", {"last_verified_at": "2026-11-23T10:00:05Z"})
	fix.permitted(skewed)
	future := session("user", {"last_verified_at": "2026-11-23T10:00:06Z"})
	fix.denied_for(future, {"verification_stale", "session_idle"})
}

test_unknown_session if {
	d := authz.decision with input as fix.drop(fix.under("user", {}), ["context/session/id"])
	fix.denied_for(d, {"session_unknown"})
	none := authz.decision with input as fix.drop(fix.under("api", {}), ["context/session"])
	"session_unknown" in fix.codes(none)
}

test_session_states_hold_without_a_policy if {
	every row in [
		["revoked", "session_revoked"], ["suspended", "session_suspended"], ["expired", "session_expired"],
		["odd", "session_inactive"], [false, "session_inactive"],
	] {
		d := authz.decision with input as fix.ask({"context": {"session": {"status": row[0]}}})
		fix.denied_for(d, {row[1]})
	}
	fix.permitted(authz.decision) with input as fix.ask({"context": {"session": {"status": "active"}}})
	fix.permitted(authz.decision) with input as fix.ask({"context": {"session": {"subject": "alice"}}})
	d := authz.decision with input as fix.ask({"context": {"session": {"subject": "mallory"}}})
	fix.denied_for(d, {"session_mismatch"})
}

test_unmapped_zone if {
	unmapped := {"context": {"network": {"ip": "203.0.113.9"}}}
	user := authz.decision with input as fix.under("user", unmapped)
	fix.denied_for(user, {"zone_unmapped", "zone_not_allowed"})
	program := authz.decision with input as fix.under("api", unmapped)
	fix.permitted(program)
	program.advice[0].id == "zone_unmapped"
	zone := geo.zone with input as fix.under("api", unmapped)
	zone == "dmz"
}

test_classes_ask_for_policies if {
	bare := fix.drop(fix.good, ["context/session"])
	off := authz.decision with input as bare
	fix.permitted(off)
	on := zerotrust.selected with input as bare with data.verdict.zerotrust.classes.enabled as true
	on == {"user"}
	every row in [["delete", "customer", "admin"], ["update", "config", "admin"], ["read", "role", "admin"], ["read", "ticket", "user"]] {
		selected := zerotrust.selected with input as fix.to(row[0], row[1]) with data.verdict.zerotrust.classes.enabled as true
		selected == {row[2]}
	}

	# A weaker policy that is named does not replace the one of the class.
	both := zerotrust.selected with input as fix.under("api", {}) with data.verdict.zerotrust.classes.enabled as true
	both == {"api", "user"}
}

test_unsatisfiable if {
	zerotrust.unsatisfiable == {}
	zerotrust.shadowed == {}
	found := zerotrust.unsatisfiable with data.verdict.zerotrust.policies as {
		"zone": {"required_trust_level": "low", "allowed_security_zones": ["critical"]},
		"risk": {"required_trust_level": "low", "allowed_security_zones": ["dmz"], "max_risk_score": 0.05},
		"level": {"required_trust_level": "verified", "allowed_security_zones": ["dmz"], "max_risk_score": 1},
		"shape": {"required_trust_level": "total", "allowed_security_zones": ["dmz"]},
		"fine": {"required_trust_level": "low", "allowed_security_zones": ["dmz", "critical"]},
	}
		with data.verdict.trust.levels.verified as 0.95
	object.keys(found) == {"zone", "risk", "level", "shape"}
	shadowed := zerotrust.shadowed with data.verdict.zerotrust.policies as {
		"a": {"required_trust_level": "low", "allowed_security_zones": ["dmz"]},
		"b": {"required_trust_level": "medium", "allowed_security_zones": ["dmz"]},
		"c": {"required_trust_level": "total", "allowed_security_zones": ["dmz"]},
	}
	object.keys(shadowed) == {"a"}
}

# A denial is not lost when its explanation cannot be made.
test_detail_is_always_there if {
	policy := zerotrust.settings("user")
	every code in zerotrust.moving {
		detail := zerotrust.detail(code, policy) with input as fix.good
		detail != code
	}
	unexplained := zerotrust.detail("trust_too_low", policy) with data.verdict.trust.weights as {}
	unexplained == "trust_too_low"
}
