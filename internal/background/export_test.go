package background

// Widened is GOMAXPROCS with work where it is n without.
var Widened = widened
