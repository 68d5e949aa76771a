package app

default allow := false

allow if input.user == "ada"

answer := {"allowed": allow, "who": input.user}

wrong := to_number(input.user)

conflict := 1 if input.user

conflict := 2 if input.user == "both"
