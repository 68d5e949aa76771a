package trial

// Waiting is how many decisions wait to be compared.
func (t *Trial) Waiting() int { return len(t.queue) }

// Breached is 1 when Run is about to return a breach.
func (t *Trial) Breached() int { return len(t.breached) }
