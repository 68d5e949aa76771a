package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/verdict-pdp/verdict/pdp/eval"
)

// How evaluation is measured.
const (
	DefaultSample = 500    // decisions
	MaxSample     = 10_000 // decisions

	minRounds   = 9                      // each evaluates the sample on both sides
	minMeasured = 300 * time.Millisecond // of one attempt
	maxMeasured = 5 * time.Second        // of one attempt, once there are minRounds
	attempts    = 3                      // before the candidate counts as slower
)

// Comparison says what is measured.
type Comparison struct {
	From, To time.Time // as in Request
	Sample   int       // of the newest decisions; zero means DefaultSample
	// Factor is how many times the time of the active snapshot the candidate may
	// take.
	Factor float64
}

// Timing is what evaluation took, with nothing remembered between decisions.
type Timing struct {
	Decisions int `json:"decisions"` // that were evaluated, on both sides
	Rounds    int `json:"rounds"`    // that counted, of the last attempt
	Attempts  int `json:"attempts"`
	// Active and Candidate are microseconds for one decision: the median round.
	Active    float64 `json:"active_us"`
	Candidate float64 `json:"candidate_us"`
	// Ratio is the median of the rounds' ratios, candidate to active, and Best
	// that of the fastest evaluations of each decision.
	Ratio float64 `json:"ratio"`
	Best  float64 `json:"best_ratio"`
	// Slower says that every attempt had both ratios above the factor.
	Slower bool `json:"slower"`
}

// Compare evaluates recorded decisions on the active snapshot and on the
// candidate in turns, and tells which takes how long. Decisions that the active
// one does not define are left out: it has nothing to evaluate for them.
func (r *Replayer) Compare(ctx context.Context, active, candidate *eval.Snapshot, c Comparison) (*Timing, error) {
	if c.Sample == 0 {
		c.Sample = DefaultSample
	}
	queries, err := r.sample(ctx, active, candidate, &c)
	if err != nil {
		return nil, fmt.Errorf("compare evaluation: %w", err)
	}
	t := &Timing{Decisions: len(queries)}
	for len(queries) > 0 && t.Attempts < attempts {
		t.Attempts++
		if err := r.measure(ctx, t, active, candidate, queries); err != nil {
			return nil, fmt.Errorf("compare evaluation: %w", err)
		}
		if t.Slower = t.Ratio > c.Factor && t.Best > c.Factor; !t.Slower {
			break
		}
	}
	return t, nil
}

// sample reads the newest decisions that both snapshots can evaluate.
func (r *Replayer) sample(ctx context.Context, active, candidate *eval.Snapshot, c *Comparison) ([]eval.Query, error) {
	q := Request{From: c.From, To: c.To, Limit: c.Sample}
	if err := q.Validate(); err != nil {
		return nil, err
	}
	first, next, err := r.log.Window(ctx, q.From, q.To)
	if err != nil {
		return nil, err
	}
	e := &evaluation{log: r.log, keys: r.options.MaskKeys, candidate: candidate, request: &q, reaches: map[string]eval.Reach{}}
	var queries []eval.Query
	err = r.read(ctx, &q, first, next, func(b *block) error {
		for i := range b.decisions {
			query, err := e.query(active, &b.decisions[i])
			if err != nil {
				return err
			}
			if query != nil {
				queries = append(queries, *query)
			}
		}
		return nil
	})
	return queries, err
}

// query is what a record asks, or nil.
func (e *evaluation) query(active *eval.Snapshot, d *decisionRecord) (*eval.Query, error) {
	r, skip, err := parse(d)
	if err != nil || skip != "" || r.unfit() != "" || r.Error != nil {
		return nil, nil
	}
	if missing, err := r.resolveAll(e.log, d.size); err != nil || missing {
		return nil, err
	}
	ref, err := eval.ParsePath(r.Path)
	if err != nil || !active.Defines(ref) {
		return nil, nil
	}
	x, unfit := e.prepare(r, d)
	if unfit != "" {
		return nil, nil
	}
	return &eval.Query{Path: r.Path, Input: x.input, Now: x.at, Strict: r.Strict, ND: x.nd, Background: true, Fresh: true}, nil
}

// measure makes one attempt.
func (r *Replayer) measure(ctx context.Context, t *Timing, active, candidate *eval.Snapshot, queries []eval.Query) error {
	sides := [2]*eval.Snapshot{active, candidate}
	var best [2][]time.Duration
	for side := range sides {
		best[side] = make([]time.Duration, len(queries))
	}
	var rounds [2][]float64
	var ratios []float64
	start := time.Now()
	for round := 0; ; round++ {
		var sums [2]time.Duration
		for i := range queries {
			for turn := range sides {
				side := (turn + i + round) % len(sides)
				took, err := once(ctx, sides[side], &queries[i])
				if err != nil {
					return err
				}
				if sums[side] += took; round == 1 || took < best[side][i] {
					best[side][i] = took
				}
			}
		}
		if round == 0 { // it warms up
			continue
		}
		ratios = append(ratios, float64(sums[1])/float64(max(sums[0], 1)))
		for side := range sides {
			rounds[side] = append(rounds[side], float64(sums[side])/float64(time.Microsecond)/float64(len(queries)))
		}
		if spent := time.Since(start); round >= minRounds && spent >= minMeasured || round > 1 && spent >= maxMeasured {
			break
		}
	}
	t.Rounds, t.Ratio = len(ratios), median(ratios)
	t.Active, t.Candidate = median(rounds[0]), median(rounds[1])
	t.Best = float64(total(best[1])) / float64(max(total(best[0]), 1))
	return nil
}

// once evaluates one decision. That it fails is an answer too.
func once(ctx context.Context, s *eval.Snapshot, q *eval.Query) (time.Duration, error) {
	start := time.Now()
	_, err := s.Eval(ctx, q)
	took := time.Since(start)
	if err != nil && ctx.Err() != nil {
		return 0, errors.Join(err, ctx.Err())
	}
	return took, nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func total(list []time.Duration) (sum time.Duration) {
	for _, d := range list {
		sum += d
	}
	return sum
}
