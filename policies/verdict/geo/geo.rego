# METADATA
# title: Geography
# description: |
#   Where a question comes from: country, network, zone. Facts:
#   input.context.location.country, input.context.network.{ip,listener,spiffe_id}.
#   Data: data.verdict.geo.
package verdict.geo

import data.verdict.facts

# country is the ISO 3166 code in capitals, undefined when it is not known.
country := code if {
	is_string(input.context.location.country)
	code := upper(input.context.location.country)
	regex.match(`^[A-Z]{2}$`, code)
	not code in data.verdict.geo.unknown_countries
}

# restricted holds when the country is one of data.verdict.geo.restricted_countries.
restricted if {
	some listed in data.verdict.geo.restricted_countries
	is_string(listed)
	upper(listed) == country
}

# countries answers the condition of that name with [state, code, detail].
countries(operand) := ["invalid", "rule_invalid", "countries must list two-letter codes"] if {
	not country_codes(operand)
} else := ["unknown", "country_unknown", "the country of the request is not known"] if {
	not country
} else := ["yes", "", ""] if {
	facts.listed(country, country_codes(operand))
} else := ["no", "country_restricted", sprintf("requests from %s are not allowed", [country])]

country_codes(list) := codes(list) if is_array(list)

country_codes({"in": list}) := {"in": codes(list)}

country_codes({"not_in": list}) := {"not_in": codes(list)}

codes(list) := capitals if {
	is_array(list)
	capitals := [upper(code) | some code in list; is_string(code); regex.match(`^[A-Za-z]{2}$`, code)]
	count(capitals) == count(list)
}

# address is the caller's address when it is one. IPv4-mapped IPv6 addresses
# match IPv4 networks.
address := input.context.network.ip if valid_address(input.context.network.ip)

valid_address(ip) if {
	is_string(ip)
	net.cidr_is_valid(concat("", [ip, "/32"]))
}

# networks answers the condition of that name with [state, code, detail].
networks(operand) := ["invalid", "rule_invalid", "networks must list CIDR blocks"] if {
	not blocks(operand)
} else := ["unknown", "network_unknown", "the network address of the request is not known"] if {
	not address
} else := ["yes", "", ""] if {
	facts.listed(true, surrounded(operand))
} else := ["no", "network_not_allowed", sprintf("requests from %s are not allowed", [address])]

blocks(list) if valid_blocks(list)

blocks({"in": list}) if valid_blocks(list)

blocks({"not_in": list}) if valid_blocks(list)

valid_blocks(list) if {
	is_array(list)
	every block in list {
		net.cidr_is_valid(block)
	}
}

# surrounded replaces the blocks of a condition by whether the address is inside.
surrounded(list) := inside(list) if is_array(list)

surrounded({"in": list}) := {"in": inside(list)}

surrounded({"not_in": list}) := {"not_in": inside(list)}

inside(list) := [net.cidr_contains(block, address) | some block in list]

# zone is assigned by SPIFFE id, else by listener, else by the most specific
# network; whatever is not assigned is dmz. A zone stated in the input counts
# for nothing.
default zone := "dmz"

zone := assigned if mapped

zone_unmapped if not mapped

mapped if assigned in known_zones

known_zones := {"dmz", "internal", "restricted", "critical", "admin"}

assigned := name if {
	name := data.verdict.geo.zones.spiffe_ids[input.context.network.spiffe_id]
} else := name if {
	name := data.verdict.geo.zones.listeners[input.context.network.listener]
} else := network_zone

# Where two blocks of one length hold the address under different zones, the
# table contradicts itself and assigns nothing.
network_zone := name if {
	address
	not zone_table_broken
	hits := [[prefix_length(block), named] |
		some block, named in data.verdict.geo.zones.networks
		net.cidr_contains(block, address)
	]
	longest := max([length | some [length, _] in hits])
	names := {named | some [length, named] in hits; length == longest}
	count(names) == 1
	some name in names
}

prefix_length(block) := to_number(split(block, "/")[1])

# zone_table_broken holds when a block of the table is not a CIDR block, which
# makes every decision indeterminate: leaving the block out could put an
# address into a better zone.
zone_table_broken if {
	some block, _ in data.verdict.geo.zones.networks
	not net.cidr_is_valid(block)
}

# assignable are the zones that a request can be in.
assignable := {"dmz"} | ({zone |
	some table in data.verdict.geo.zones
	some zone in table
} & known_zones)
