package verdict.geo_test

import data.verdict.fixtures_test as fix
import data.verdict.geo

test_countries if {
	every row in [
		["US", {"not_in": ["CN"]}, "yes"], ["us", ["US"], "yes"], ["KP", {"not_in": ["kp"]}, "no"], ["US", {"in": ["DE"]}, "no"],
		["", ["US"], "unknown"], ["XX", ["US"], "unknown"], ["USA", ["US"], "unknown"], [1, ["US"], "unknown"],
		["US", ["USA"], "invalid"], ["US", "US", "invalid"], ["US", {"not_in": [1]}, "invalid"], ["US", {"in": "US"}, "invalid"],
	] {
		answer := geo.countries(row[1]) with input as fix.from(row[0])
		answer[0] == row[2]
	}
}

test_networks if {
	every row in [
		["10.1.2.3", ["10.0.0.0/8"], "yes"], ["::ffff:10.1.2.3", ["10.0.0.0/8"], "yes"], ["::ffff:0a01:0203", {"in": ["10.0.0.0/8"]}, "yes"],
		["11.0.0.1", ["10.0.0.0/8"], "no"], ["10.1.2.3", {"not_in": ["10.0.0.0/8"]}, "no"],
		["::ffff:10.1.2.3", {"not_in": ["10.0.0.0/8"]}, "no"], ["2001:db8::1", {"not_in": ["10.0.0.0/8"]}, "yes"],
		["10.1.2", ["10.0.0.0/8"], "unknown"], ["10.1.2.3/8", ["10.0.0.0/8"], "unknown"], [7, ["10.0.0.0/8"], "unknown"],
		["10.1.2.3", ["10.0.0.0/33"], "invalid"], ["10.1.2.3", "10.0.0.0/8", "invalid"], ["10.1.2.3", [1], "invalid"],
	] {
		answer := geo.networks(row[1]) with input as fix.ask({"context": {"network": {"ip": row[0]}}})
		answer[0] == row[2]
	}
}

table := {
	"networks": {
		"10.0.0.0/8": "internal", "10.20.0.0/16": "restricted", "10.30.0.0/16": "critical", "10.40.0.0/16": "admin",
		"192.0.2.0/24": "dmz", "172.16.0.0/12": "moon", "198.51.100.0/24": "internal", "198.51.100.7/24": "admin",
	},
	"listeners": {"admin": "admin"},
	"spiffe_ids": {"spiffe://example.org/ns/a/sa/b": "critical"},
}

test_zones if {
	every row in [
		[{"ip": "10.1.2.3"}, "internal"], [{"ip": "::ffff:10.20.1.1"}, "restricted"], [{"ip": "10.30.1.1"}, "critical"],
		[{"ip": "10.40.1.1"}, "admin"], [{"ip": "192.0.2.1"}, "dmz"], [{"ip": "203.0.113.9"}, "dmz"],
		[{"listener": "admin", "ip": "203.0.113.9"}, "admin"],
		[{"spiffe_id": "spiffe://example.org/ns/a/sa/b", "listener": "admin"}, "critical"],
		[{"spiffe_id": "spiffe://example.org/other", "ip": "10.1.2.3"}, "internal"],
		[{"zone": "admin"}, "dmz"], [{"ip": "172.16.0.1"}, "dmz"], [{"ip": "198.51.100.1"}, "dmz"], [{}, "dmz"],
	] {
		question := object.union(fix.drop(fix.good, ["context/network"]), {"context": {"network": row[0]}})
		zone := geo.zone with input as question with data.verdict.geo.zones as table
		zone == row[1]
	}
}

test_unmapped_is_told_from_dmz if {
	mapped := fix.ask({"context": {"network": {"ip": "192.0.2.1"}}})
	not geo.zone_unmapped with input as mapped with data.verdict.geo.zones as table
	geo.zone_unmapped with input as fix.ask({"context": {"network": {"ip": "203.0.113.9"}}})
}

test_broken_table_assigns_nothing if {
	broken := {"10.0.0.0/8": "internal", "10.1.0.0/99": "restricted"}
	zone := geo.zone with input as fix.good with data.verdict.geo.zones.networks as broken
	zone == "dmz"
	geo.zone_table_broken with data.verdict.geo.zones.networks as broken
	not geo.zone_table_broken
}

test_assignable if {
	geo.assignable == {"dmz", "internal", "admin"}
	zones := geo.assignable with data.verdict.geo.zones as table
	zones == {"dmz", "internal", "restricted", "critical", "admin"}
}
