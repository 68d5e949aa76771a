package bundles

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/pdp/trial"
	"github.com/verdict-pdp/verdict/storage"
)

const (
	// endRetry is how long the end of a trial waits to be recorded again.
	endRetry = time.Second
	// maxLastStaged is of how many bundles the last trial is remembered.
	maxLastStaged = 100
)

// Run compares what is staged with what is active until ctx ends, and takes back
// a canary that exceeds its limits. What was staged when the process ended is
// recorded as ended.
func (s *Service) Run(ctx context.Context) error {
	s.retry(ctx, s.endLeftover)
	for ctx.Err() == nil {
		s.mu.Lock()
		st, changed := s.staging, s.restaged
		s.mu.Unlock()
		if st == nil {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if b := st.run(ctx); b != nil {
			s.o.Logger.Warn().Str("bundle", st.info.Name).Str("revision", st.info.Revision).Stringer("limit", b).Msg("a canary is taken back")
			s.retry(ctx, func(ctx context.Context) error {
				return s.end(ctx, st, EndReason(b.Limit), Origin{Caller: "serve"}, b)
			})
		}
	}
	return nil
}

// run runs the trial until it has ended or exceeds a limit.
func (st *staging) run(ctx context.Context) *trial.Breach {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with run
		select {
		case <-st.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return st.Trial.Run(ctx)
}

// retry calls fn until it succeeds: what is to be recorded waits for a log that
// can be written, as all decisions do.
func (s *Service) retry(ctx context.Context, fn func(context.Context) error) {
	for {
		err := fn(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.o.Logger.Error().Err(err).Msg("the end of what was staged could not be recorded yet")
		select {
		case <-ctx.Done():
		case <-time.After(endRetry):
		}
	}
}

// busy tells whether all processors have decisions to make.
func (s *Service) busy() bool { return s.o.Engine.Running() >= runtime.GOMAXPROCS(0) }

// end ends a trial: recorded, then out of the way. It does nothing for one that
// has ended, or for nil.
func (s *Service) end(ctx context.Context, st *staging, reason EndReason, by Origin, b *trial.Breach) error {
	if st == nil {
		return nil
	}
	err := s.o.Engine.Detach(st.staged, func() error {
		return s.ending(ctx, st, &StagingEnd{Reason: reason, By: by.Caller, Breach: b}, by)
	})
	if err != nil {
		return fmt.Errorf("end what is staged of bundle %s: %w", st.info.Name, err)
	}
	return nil
}

// Ending implements eval.Watcher: another snapshot becomes active.
func (st *staging) Ending() error {
	reason := EndSuperseded
	if r := st.because.Load(); r != nil {
		reason = *r
	}
	by := Origin{Caller: "serve"}
	return st.service.ending(context.Background(), st, &StagingEnd{Reason: reason, By: by.Caller}, by)
}

// ending records the end of a trial and forgets it. Nobody else ends one
// meanwhile: the engine sees to that.
func (s *Service) ending(ctx context.Context, st *staging, how *StagingEnd, by Origin) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	how.At = s.o.Now().UTC()
	if err := s.recordEnd(ctx, st, how, by); err != nil {
		return err
	}
	// When this fails, the next start records another end.
	if _, err := s.meta.apply(ctx, &batch{ops: []storage.Op{storage.Delete(keyStaged)}}); err != nil {
		s.o.Logger.Error().Err(err).Msg("the end of what was staged could not be written down")
	}
	last := st.report()
	last.Status, last.Ended = "ended", how
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lastStaged) >= maxLastStaged {
		clear(s.lastStaged)
	}
	s.lastStaged[st.info.Name] = last
	if s.staging == st {
		s.staging = nil
	}
	close(st.ended)
	return nil
}

func (s *Service) recordEnd(ctx context.Context, st *staging, how *StagingEnd, by Origin) error {
	details := map[string]any{
		"name": st.info.Name, "revision": st.info.Revision, "mode": st.info.Mode, "percent": st.info.Percent, "reason": how.Reason,
	}
	if st.Trial != nil {
		details["counts"], _ = st.Trial.Report()
	}
	r := &audit.Record{
		Event: audit.EventBundleUnstaged, Severity: audit.SeverityMedium, Outcome: audit.OutcomeSuccess, Action: "unstage", Resource: "bundle:" + st.info.Name,
	}
	if how.Breach != nil {
		details["breach"] = how.Breach
		r.Severity, r.Outcome, r.Message = audit.SeverityHigh, audit.OutcomeFailure, "the canary was taken back: "+how.Breach.String()
	}
	return s.record(ctx, r, by, details)
}

// readLeftover reads what was staged when the process before this one ended.
func (s *Service) readLeftover(ctx context.Context) error {
	st := &staging{}
	version, err := s.meta.get(ctx, keyStaged, &st.info)
	if version != 0 && err == nil {
		s.leftover, s.leftoverVersion = st, version
	}
	return err
}

// endLeftover records that this ended with the process.
func (s *Service) endLeftover(ctx context.Context) error {
	if s.leftover == nil {
		return nil
	}
	by := Origin{Caller: "serve"}
	if err := s.recordEnd(ctx, s.leftover, &StagingEnd{Reason: EndRestart, By: by.Caller}, by); err != nil {
		return err
	}
	s.leftover = nil
	b := &batch{}
	b.remove(keyStaged, s.leftoverVersion)
	if _, err := s.meta.apply(ctx, b); err != nil && !errors.Is(err, storage.ErrConflict) { // something was staged already
		s.o.Logger.Error().Err(err).Msg("the end of what was staged could not be written down")
	}
	return nil
}
