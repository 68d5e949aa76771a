package trial

import (
	"maps"
	"slices"
)

// Counts are what came of a trial.
type Counts struct {
	Decisions uint64 `json:"decisions"` // that were made while it ran
	Answered  uint64 `json:"answered"`  // of these by the candidate
	// Errors are evaluations that only the candidate failed; those of a canary
	// were answered by the active revision.
	Errors   uint64 `json:"errors"`
	Compared uint64 `json:"compared"`
	// Dropped could not be compared: too many waited, or the processors had
	// decisions to make.
	Dropped     uint64          `json:"dropped"`
	Same        uint64          `json:"same"`
	Differences map[Kind]uint64 `json:"differences"`
	// FlipPercent is how many of the compared ones are allowed in place of
	// denied, or the other way round; ErrorPercent how many of those that the
	// candidate was asked for it failed.
	FlipPercent  float64 `json:"flip_percent"`
	ErrorPercent float64 `json:"error_percent"`
	// ActiveMicros and CandidateMicros are the mean times of an evaluation.
	ActiveMicros    float64 `json:"active_us"`
	CandidateMicros float64 `json:"candidate_us"`
}

// counts are Counts in the making.
type counts struct {
	Counts
	active, candidate mean
}

func (c *counts) count(k Kind) {
	if c.Differences == nil {
		c.Differences = map[Kind]uint64{}
	}
	c.Differences[k]++
}

// Report tells what was found so far: counts, and the last differences, the
// newest first.
func (t *Trial) Report() (Counts, []Difference) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts.Counts
	if c.Differences = maps.Clone(c.Differences); c.Differences == nil {
		c.Differences = map[Kind]uint64{}
	}
	c.FlipPercent = percent(c.Differences[KindAllows]+c.Differences[KindDenies], c.Compared)
	asked := c.Compared
	if t.o.Canary {
		asked = c.Answered + c.Errors
	}
	c.ErrorPercent = percent(c.Errors, asked)
	c.ActiveMicros = float64(t.counts.active.of().Nanoseconds()) / 1000
	c.CandidateMicros = float64(t.counts.candidate.of().Nanoseconds()) / 1000
	kept := slices.Concat(t.kept[t.next:], t.kept[:t.next])
	slices.Reverse(kept)
	return c, kept
}
