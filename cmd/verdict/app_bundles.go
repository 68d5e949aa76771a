package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/internal/background"
	"github.com/verdict-pdp/verdict/storage/state"
)

// openBundles opens the state store and what is kept of pushed bundles, and
// makes the last active set answer again, over what was loaded from files.
func (a *app) openBundles() (err error) {
	c := a.config
	a.state, err = state.Open(filepath.Join(c.DataDir, "state"), state.Options{Command: "verdict serve", Now: a.now})
	if err != nil {
		return err
	}
	bucket, err := a.state.Bucket(bundles.BucketName)
	if err != nil {
		return fmt.Errorf("open state of bundles: %w", err)
	}
	if err := a.openTrust(); err != nil {
		return err
	}
	a.work = background.New(a.runtime.procsChosen)
	ctx := context.Background() // a start is not begun before it is done
	a.pushed, err = bundles.Open(ctx, bundles.Options{
		Dir: filepath.Join(c.DataDir, "bundles"), Engine: a.engine, Bucket: bucket, Recorder: a.log,
		Verifier: a.trust,
		Limits: bundles.Limits{
			Packed: int64(c.Limits.BundlePacked), Unpacked: int64(c.Limits.BundleUnpacked),
			Files: c.Limits.BundleFiles, Ratio: c.Limits.BundleRatio,
		},
		KeepRevisions: c.Bundles.KeepRevisions, KeepDays: c.Bundles.KeepDays,
		MaxAge: c.Bundles.MaxAge, MaxAges: maxAges(c), CanarySubject: c.Bundles.Canary.Subject,
		GateOptions: bundles.GateOptions{
			Coverage: c.Bundles.Gates.Coverage, TestsTimeout: c.Bundles.Gates.TestsTimeout,
			Refused: append([]string{}, c.Bundles.Gates.RefusedBuiltins...), Lenient: !c.Bundles.Gates.Strict,
		},
		Gates:      a.logGates(),
		Background: a.work.Do,
		Now:        a.now, Logger: a.logger,
	})
	if err != nil {
		return err
	}
	if err := a.pushed.Restore(ctx); err != nil {
		return err
	}
	a.bundles = a.engine.Active().Bundles()
	return nil
}

// maxAges gives bundles.max_ages.
func maxAges(c *Config) map[string]time.Duration {
	ages := make(map[string]time.Duration, len(c.Bundles.MaxAges))
	for _, m := range c.Bundles.MaxAges {
		ages[m.Name] = m.MaxAge
	}
	return ages
}

// runState keeps the state store until ctx ends. When the store fails, bundles
// cannot be changed until a restart, and decisions go on.
func (a *app) runState(ctx context.Context) error {
	if err := a.state.Run(ctx); err != nil {
		a.logger.Error().Err(err).Msg("the state store failed; bundles cannot be changed until a restart")
	}
	return nil
}
