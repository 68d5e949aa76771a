package verify_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/verdict-pdp/verdict/audit"
	"github.com/verdict-pdp/verdict/audit/verify"
	"github.com/verdict-pdp/verdict/internal/surgeon"
	"github.com/verdict-pdp/verdict/storage/segment"
)

// The logs of the real writer: over files and segments, with blobs, with a clock
// that steps, closed and opened again; at rest and beside the writer.
func TestRealWriter(t *testing.T) {
	const perFile = 1 << 16
	lay := surgeon.Layout{TileBits: 8, SegmentBits: 16, FileBits: 16}
	dir := t.TempDir()
	now := surgeon.SampleTime(0)
	clock := func() time.Time { return now }
	for run, n := range []int{10, perFile + 300, 700} {
		store, err := segment.Open(filepath.Join(dir, "audit"), segment.Options{RecordsPerFile: perFile, Origin: "test.example/log"})
		if err != nil {
			t.Fatal(err)
		}
		log, err := audit.Open(store, audit.Options{Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- log.Run(ctx) }()
		fill(t, log, n)
		rep, err := verify.RunLayout(ctx, store.Source(), verify.Options{Live: true}, lay.TileBits, lay.SegmentBits, lay.FileBits)
		if err != nil || rep.Result != verify.OK || rep.VerifiedEvents < uint64(n) {
			t.Errorf("run %d, live: %v\n%s", run, err, rep.Text())
		}
		if _, err := tryCheck(t, dir, lay); err == nil || !strings.Contains(err.Error(), "in use by pid") {
			t.Errorf("run %d, in use: %v", run, err)
		}
		stop()
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
		head, tree := store.Position().Head, store.Position().Tree
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		rep, err = tryCheck(t, dir, lay)
		if err != nil || rep.Result != verify.OK || len(rep.Warnings) > 0 || rep.Head != head.String() || rep.Root != tree.Root().String() {
			t.Errorf("run %d, at rest: %v\n%s", run, err, rep.Text())
		}
		now = now.Add(-time.Hour) // set back while nothing runs
	}
	if rep, err := tryCheck(t, dir, lay); err != nil || rep.Files != 2 || rep.TotalEvents < perFile+1010 {
		t.Errorf("%v\n%s", err, rep.Text())
	}
}

func fill(t *testing.T, log *audit.Log, n int) {
	t.Helper()
	ctx := context.Background()
	tickets := make([]*audit.Ticket, 0, n)
	for i := range n {
		r := audit.Record{
			Type: audit.TypeDecision, Event: audit.EventPermissionGranted, Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
			DecisionID: fmt.Sprintf("0199b3f0-1c2d-7000-8000-%012x", i), Path: "verdict/authz/decision",
			Input: fmt.Appendf(nil, `{"n":%d,"text":"\u2028 \"quoted\" Zoë"}`, i), Result: []byte("true"),
		}
		if i%500 == 7 {
			r.Input = fmt.Appendf(nil, `{"n":%d,"text":"%s"}`, i, strings.Repeat("x", 100_000))
		}
		ticket, err := log.Submit(ctx, &r)
		if err != nil {
			t.Fatal(err)
		}
		tickets = append(tickets, ticket)
	}
	for _, ticket := range tickets {
		if _, err := ticket.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// A caller's input that looks like a reference to a blob is none: the keys of what
// callers send are recorded in order, and a reference is not in order.
func TestInputThatLooksLikeAReference(t *testing.T) {
	dir := t.TempDir()
	store, err := segment.Open(filepath.Join(dir, "audit"), segment.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(store, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- log.Run(ctx) }()
	_, err = log.Append(ctx, &audit.Record{
		Type: audit.TypeDecision, Event: audit.EventPermissionGranted, Severity: audit.SeverityInfo, Outcome: audit.OutcomeSuccess,
		Input: fmt.Appendf(nil, `{"blob":true,"sha256":"%s","size":100000}`, strings.Repeat("ab", 32)),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := check(t, dir); rep.Result != verify.OK {
		t.Error(rep.Text())
	}
}
