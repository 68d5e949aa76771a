# METADATA
# title: Caller policy
# description: |
#   May a caller use a class of endpoints? The built-in scopes have already said
#   yes; this policy can only refuse more. It reads nothing but input.caller,
#   input.class and data, so that its answer can be kept per caller and class.
package verdict.system.authz

default allow := false

# METADATA
# title: Whether the caller may use the class of endpoints
# entrypoint: true
allow if not barred

# barred holds for the classes listed under the caller's name in
# data.verdict.system.authz.refused ("*" means every class). What is listed in
# another form refuses everything.
barred if {
	classes := data.verdict.system.authz.refused[input.caller.name]
	not spared(classes)
}

spared(classes) if {
	is_array(classes)
	class := input.class
	not class in classes
	not "*" in classes
}
