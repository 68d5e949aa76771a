package system

main := {"asked": input, "allowed": data.app.allow}
