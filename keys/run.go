package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/verdict-pdp/verdict/storage"
)

// Run rotates keys that are due and forgets what other nodes changed, until
// ctx ends; it makes the keys that are missing first where Options.Prepare says so. It returns nil then. A backend or store that fails is logged and
// tried again.
func (r *Ring) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.every(ctx, r.check) })
	g.Go(func() error { return r.every(ctx, r.follow) })
	if r.o.Prepare {
		g.Go(func() error { return r.prepareAll(ctx) })
	}
	return g.Wait()
}

// prepareAll makes the keys of the classifications. While that fails, it is tried
// less and less often, since each attempt may leave records.
func (r *Ring) prepareAll(ctx context.Context) error {
	for pause := prepareTime; ; pause = min(2*pause, maxRest) {
		err := r.Prepare(ctx, By{})
		if err == nil || ctx.Err() != nil {
			return nil
		}
		r.o.Log.Warn().Err(err).Dur("again_in", pause).Msg("keys of classifications could not all be made")
		again := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		}
	}
}

// every calls do now and after every pause.
func (r *Ring) every(ctx context.Context, do func(context.Context)) error {
	tick := time.NewTicker(checkTime)
	defer tick.Stop()
	for {
		do(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (r *Ring) check(ctx context.Context) {
	r.sealing.sweep()
	r.opening.sweep()
	rotated, err := r.RotateDue(ctx)
	for _, id := range rotated {
		r.o.Log.Info().Str("key", id).Msg("key rotated")
	}
	if err != nil && ctx.Err() == nil {
		r.o.Log.Warn().Err(err).Msg("keys that are due could not all be rotated")
	}
	r.count(ctx)
}

// count brings the metrics of the keys up to date. What cannot be counted now
// keeps its value.
func (r *Ring) count(ctx context.Context) {
	infos, err := r.Keys(ctx, 0)
	if err != nil {
		return
	}
	now, overdue := r.o.Now(), 0
	m := r.metrics
	for _, old := range []*prometheus.GaugeVec{m.keys, m.age, m.next} {
		old.Reset()
	}
	for _, i := range infos {
		m.keys.WithLabelValues(string(i.Type)).Inc()
		m.age.WithLabelValues(i.Name).Set(i.Age.Seconds())
		if !i.NextRotation.IsZero() {
			m.next.WithLabelValues(i.Name).Set(float64(i.NextRotation.Unix()))
		}
		if !i.NextRotation.IsZero() && i.NextRotation.Before(now) {
			overdue++
		}
	}
	m.overdue.Set(float64(overdue))
	r.countEscrow(ctx, infos)
}

// follow forgets each key that changes in the store, until the watch ends.
func (r *Ring) follow(ctx context.Context) {
	page, err := r.store.List(ctx, storage.Prefix(statePart), "", 1)
	if err == nil {
		r.forget("")
		err = r.store.Watch(ctx, storage.Prefix(statePart), page.Revision, func(e storage.Event) error {
			parts, err := storage.Parts(e.Key)
			if err != nil || len(parts) != 2 {
				return fmt.Errorf("state of keys under %q", e.Key)
			}
			r.forget(parts[1])
			return nil
		})
	}
	if ctx.Err() == nil && !errors.Is(err, storage.ErrCompacted) {
		r.o.Log.Warn().Err(err).Msg("changes of keys by other nodes are not seen now")
	}
}
