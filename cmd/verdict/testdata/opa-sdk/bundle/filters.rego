package filters

# METADATA
# scope: document
# compile:
#   unknowns: [input.fruits]
include if {
	input.fruits.colour == input.favourite
	input.fruits.price < 10
}
