package main

import (
	"github.com/verdict-pdp/verdict/audit/mask"
	"github.com/verdict-pdp/verdict/bundles"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// logGates makes the replayer of recorded decisions and the gates that use it.
func (a *app) logGates() []bundles.Gate {
	g := a.config.Bundles.Gates
	a.replayer = replay.New(a.log, a.engine, replay.Options{
		MaskKeys: mask.NewKeys(a.config.Audit.MaskKeys), Background: a.work.Do, Now: a.now,
	})
	common := bundles.LogGate{Replayer: a.replayer, Recorder: a.log, Now: a.now, Window: g.ReplayWindow, Timeout: g.ReplayTimeout}
	return []bundles.Gate{
		bundles.BenchmarkGate(common, a.engine.Active, bundles.BenchmarkGateOptions{Slower: g.Benchmark, Sample: g.BenchmarkSample}),
		bundles.ReplayGate(common, bundles.ReplayGateOptions{
			Decisions: g.Replay, Flips: g.ReplayFlips, Share: g.ReplayShare, NoGrants: g.ReplayNoGrants,
		}),
	}
}
