package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/chain"
	"github.com/verdict-pdp/verdict/pdp/replay"
)

// oneRecord is a log that holds one record, and a blob for every hash.
type oneRecord struct{ rec []byte }

func (oneRecord) Window(context.Context, time.Time, time.Time) (first, next uint64, err error) {
	return 7, 8, nil
}

func (l oneRecord) Scan(_ context.Context, _ uint64, fn func(uint64, []byte) error) error {
	return fn(7, l.rec)
}

func (oneRecord) Blob(chain.Hash) ([]byte, error) { return []byte(`{"x":1}`), nil }

var _ replay.Log = (*audit.Log)(nil)

// FuzzRecord replays records of any content: each is counted, as one thing.
func FuzzRecord(f *testing.F) {
	const start = `"type":"decision","event":"permission_denied","severity":"low","outcome":"failure","decision_id":"01a2096f-fd28-7234-8ee3-c37f7f89a95a",`
	for _, tail := range []string{
		`"path":"p/r","input":{"x":1},"result":true,"reasons":[],"bundles":{},"duration_ns":1}`,
		`"path":"p/r","edge":"opa.query","input":null,"result":null,"undefined":true}`,
		`"path":"p/r","input":{"x":"***"},"result":{"a":"***"},"masked":["/input/x","/result/a"],"truncated":true}`,
		`"path":"p/r","input":{"sha256":"abababababababababababababababababababababababababababababababab","size":70000,"blob":true},"result":null}`,
		`"path":"p/c","input":{},"result":1,"nd":{"time.now_ns":{"[]":1},"rand.intn":{"[\"a\",10]":3}},"erased":["/nd_builtin_cache/rand.intn"]}`,
		`"path":"p/c","input":{},"result":1,"nd":[],"details":{"search":{}}}`,
		`"path":"p/r","input":{},"result":{"allow":false},"error":{"code":"eval_conflict_error","message":"m"},"sanitized":true}`,
		`}`,
	} {
		f.Add([]byte(start + tail))
	}
	engine := newEngine(f, "package p\nr := {\"allow\": input.x == 1, \"a\": input.a}\nc := [time.now_ns(), rand.intn(\"a\", 10)]")
	candidate := engine.Active()
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := append([]byte(`{"seq":7,"time":"2026-11-23T09:00:00.123456Z",`), body...)
		r, err := replay.New(oneRecord{rec}, engine, replay.Options{Workers: 1}).Run(t.Context(), candidate, replay.Request{})
		if err != nil {
			t.Fatal(err)
		}
		if parts := r.Replayed + r.OtherPaths + r.NotReplayable.Count + r.Skipped.Count; r.Decisions != parts || r.Decisions > 1 || r.Flips.Count > r.Replayed {
			t.Errorf("%+v", r)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := replay.SumOf(raw); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkReplay is the time of one recorded decision.
func BenchmarkReplay(b *testing.B) {
	engine := newEngine(b, shop, "package grants\nclerk.order := true")
	const rec = `{"seq":7,"time":"2026-11-23T09:00:00.123456Z","type":"decision","event":"permission_granted","severity":"info","outcome":"success",` +
		`"decision_id":"01a2096f-fd28-7234-8ee3-c37f7f89a95a","path":"shop/allow","input":{"action":"read","resource":{"id":"res-%08d","type":"order"},"subject":{"id":"u%d","roles":["clerk"]}},` +
		`"result":true,"reasons":[],"bundles":{},"duration_ns":1}`
	r := replay.New(manyRecords{n: uint64(b.N), text: rec}, engine, replay.Options{})
	b.ResetTimer()
	report, err := r.Run(b.Context(), engine.Active(), replay.Request{Limit: min(b.N, replay.MaxLimit)})
	if err != nil || report.Flips.Count > 0 || report.Replayed != uint64(b.N) {
		b.Fatal(report, err)
	}
}

// manyRecords is a log of n records of different inputs.
type manyRecords struct {
	n    uint64
	text string
}

func (l manyRecords) Window(context.Context, time.Time, time.Time) (first, next uint64, err error) {
	return 0, l.n, nil
}

func (l manyRecords) Scan(_ context.Context, from uint64, fn func(uint64, []byte) error) error {
	for seq := from; seq < l.n; seq++ {
		if err := fn(seq, fmt.Appendf(nil, l.text, seq, seq%1000)); err != nil {
			return err
		}
	}
	return nil
}

func (manyRecords) Blob(chain.Hash) ([]byte, error) { return nil, audit.ErrNotFound }
