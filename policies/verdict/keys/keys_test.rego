package verdict.keys_test

import data.verdict.fixtures_test as fixtures
import data.verdict.keys

plain := {
	"caller": {"name": "shop", "kind": "token", "scopes": ["keys:decrypt"]},
	"subject": {"type": "service", "id": "shop"},
	"action": {"name": "decrypt"},
	"resource": {"type": "customer", "id": "c1", "properties": {
		"classes": {"internal": 1, "top_secret": 2},
		"count": 3,
		"tenants": ["t1"],
	}},
}

ask(change) := object.union(plain, change)

in_session(change) := object.union(plain, {
	"subject": {"type": "user", "id": "alice", "properties": {"tenant": "t1", "roles": ["doctor"]}},
	"context": object.union(object.remove(fixtures.good.context, ["time"]), object.union({"time": "2026-11-23T10:00:00Z"}, change)),
})

denied(decision, codes) if {
	decision.allow == false
	decision.decision == "deny"
	{reason.code | some reason in decision.reasons} == codes
}

test_scope_opens_every_class if {
	d := keys.decision with input as plain
	d == {
		"allow": true, "decision": "permit", "obligations": [], "advice": [], "policy": "verdict.keys", "trust": null,
		"reasons": [{"code": "scope_held", "policy": "verdict.keys", "detail": "the caller holds keys:decrypt"}],
	}
	keys.decision.allow with input as ask({"caller": {"scopes": ["admin"]}})
	keys.decision.allow with input as ask({"caller": {"scopes": ["keys:decrypt", "decide"]}})
	keys.decision.allow with input as ask({"action": {"name": "reencrypt"}, "caller": {"scopes": ["keys:decrypt", "keys:encrypt"]}})
}

test_scope_is_needed if {
	every scopes in [[], ["decide", "keys:encrypt"], null] {
		denied(keys.decision, {"scope_missing"}) with input as ask({"caller": {"scopes": scopes}})
	}
	denied(keys.decision, {"scope_missing"}) with input as ask({"action": {"name": "reencrypt"}})
	denied(keys.decision, {"scope_missing"}) with input as ask({"action": {"name": "export"}, "caller": {"scopes": ["admin"]}})
}

test_incomplete_questions_are_denied if {
	denied(keys.decision, {"scope_missing", "question_invalid"}) with input as {}
	d := keys.decision with input as ask({"resource": {"properties": {"classes": "all"}}})
	d.decision == "indeterminate"
	not d.allow
	late := keys.decision with input as json.remove(plain, ["resource/properties/tenants"])
	late.decision == "indeterminate"
}

test_settings_that_are_no_object_deny if {
	d := keys.decision with input as plain with data.verdict.keys.classes as null
	d.decision == "indeterminate"
	d.allow == false
	d.reasons[0].code == "class_invalid"
}

test_classes_are_for_callers_roles_and_tenants if {
	denied(keys.decision, {"caller_not_listed"}) with input as plain with data.verdict.keys.classes.top_secret as {"callers": ["vault"]}
	keys.decision.allow with input as plain with data.verdict.keys.classes.top_secret as {"callers": ["vault", "shop"]}
	keys.decision.allow with input as plain with data.verdict.keys.classes.restricted as {"callers": ["vault"]}
	denied(keys.decision, {"role_not_listed"}) with input as plain with data.verdict.keys.classes.internal as {"roles": ["doctor"]}
	doctor := ask({"subject": {"properties": {"roles": ["nurse", "doctor"]}}})
	keys.decision.allow with input as doctor with data.verdict.keys.classes.internal as {"roles": ["doctor"]}
	denied(keys.decision, {"tenant_not_listed"}) with input as plain with data.verdict.keys.classes.internal as {"tenants": ["t2"]}
	keys.decision.allow with input as plain with data.verdict.keys.classes.internal as {"tenants": ["t2", "t1"]}
}

test_a_part_without_answer_denies if {
	d := keys.decision with input as in_session({}) with data.verdict.trust.weights as {}
	d.decision == "indeterminate"
	d.allow == false
	d.reasons[0].code == "evaluation_incomplete"
}

test_faulty_settings_deny if {
	every setting in [null, [], {"callers": "shop"}, {"roles": {}}, {"session": 1}, {"trust": "great"}, {"caller": ["shop"]}] {
		d := keys.decision with input as plain with data.verdict.keys.classes.top_secret as setting
		d.allow == false
		d.decision == "indeterminate"
		d.reasons[0].code == "class_invalid"
	}
}

test_subject_opens_its_tenant_only if {
	keys.decision.allow with input as ask({"subject": {"properties": {"tenant": "t1"}}})
	denied(keys.decision, {"tenant_mismatch"}) with input as ask({"subject": {"properties": {"tenant": "t2"}}})
	denied(keys.decision, {"tenant_mismatch"}) with input as ask({
		"subject": {"properties": {"tenant": "t1"}},
		"resource": {"properties": {"tenants": ["t1", ""]}},
	})
}

test_session_may_be_required if {
	denied(keys.decision, {"session_required"}) with input as plain with data.verdict.keys.classes.top_secret as {"session": true}
	keys.decision.allow with input as plain with data.verdict.keys.classes.top_secret as {"session": false}
	keys.decision.allow with input as in_session({}) with data.verdict.keys.classes.top_secret as {"session": true}
}

test_trust_of_a_named_session_is_asked if {
	d := keys.decision with input as in_session({})
	d.allow
	d.trust.level == "verified"
	denied(keys.decision, {"trust_too_low"}) with input as in_session({"session": {"mfa": false}, "device": {"trusted": false}, "location": {"verified": false}})
	denied(keys.decision, {"session_revoked"}) with input as in_session({"session": {"status": "revoked"}})
	denied(keys.decision, {"session_mismatch"}) with input as in_session({"session": {"subject": "bob"}})
	denied(keys.decision, {"policy_unknown"}) with input as in_session({"policy": "nothing"})
	denied(keys.decision, {"session_unknown", "trust_too_low"}) with input as ask({"context": {"session": {"mfa": true}}})
	e := keys.decision with input as in_session({}) with data.verdict.trust.weights as {}
	e.allow == false
}

test_trust_faults_are_no_permission if {
	d := keys.decision with input as in_session({}) with data.verdict.trust.weights.mfa as "much"
	d.allow == false
	"trust_invalid" in {reason.code | some reason in d.reasons}
}

test_step_up_is_offered_where_it_helps if {
	d := keys.decision with input as in_session({"session": {"mfa": false}})
		with data.verdict.keys.classes as {"top_secret": {"trust": "verified"}}
	denied(d, {"trust_too_low"})
	d.obligations == [{"id": "step-up", "type": "step-up", "properties": {
		"acr_values": ["urn:verdict:acr:mfa"], "amr_values": ["mfa"], "max_age": 300,
	}}]
	hopeless := keys.decision with input as in_session({"session": {"mfa": false}, "device": {"trusted": false}, "location": {"verified": false}})
	hopeless.obligations == []
}

test_lowering_a_class_needs_to_be_listed if {
	lowering := ask({
		"action": {"name": "reencrypt"},
		"caller": {"scopes": ["keys:decrypt", "keys:encrypt"]},
		"resource": {"properties": {"lowered": 1}},
	})
	denied(keys.decision, {"declassification_refused"}) with input as lowering
	keys.decision.allow with input as lowering with data.verdict.keys.declassify as ["shop"]
	keys.decision.allow with input as object.union(lowering, {"resource": {"properties": {"lowered": 0}}})
	denied(keys.decision, {"declassification_refused"}) with input as lowering with data.verdict.keys.declassify as "shop"
}
