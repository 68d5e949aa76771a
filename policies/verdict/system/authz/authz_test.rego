package verdict.system.authz_test

import data.verdict.system.authz

caller := {"caller": {"name": "shop", "kind": "token", "scopes": ["decide"]}, "class": "decide"}

test_every_caller_is_permitted if {
	authz.allow with input as caller
	authz.allow with input as {}
	authz.allow with input as {"class": "admin"}
}

test_listed_classes_are_refused if {
	every refused in [["decide"], ["*"], "decide", {}, null] {
		not authz.allow with input as caller with data.verdict.system.authz.refused as {"shop": refused}
	}
	authz.allow with input as caller with data.verdict.system.authz.refused as {"shop": ["data:write"], "desk": ["*"]}
	not authz.allow with input as {"caller": {"name": "shop"}} with data.verdict.system.authz.refused as {"shop": []}
}
