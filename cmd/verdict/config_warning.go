package main

// Warning is something about a configuration that an operator should know
// and that does not stop verdict.
type Warning struct {
	// Key is the key that it is about.
	Key string `json:"key"`
	// Text says what it is.
	Text string `json:"text"`
	// From is where the value came from.
	From string `json:"from"`
}

// String gives the warning on one line.
func (w Warning) String() string {
	return Problem(w).String()
}
