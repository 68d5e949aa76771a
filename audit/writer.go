package audit

import (
	"context"
	"runtime"
	"time"
)

// write is the writer: it makes durable what waits until ctx ends, Close is
// called or the log is poisoned, and then what is still queued. Only Run calls it.
func (l *Log) write(ctx context.Context) {
	group, gone := make([]*entry, 0, MaxGroupRecords), []*entry(nil)
	closing := false
	for {
		group, gone = l.queue.take(group[:0], gone[:0])
		for _, e := range gone {
			l.release(e, 1)
		}
		if len(group) > 0 {
			if !l.commit(group) {
				return
			}
			// Let those just woken run: many have the next record at hand, and larger
			// groups cost less. This waits for nothing.
			runtime.Gosched()
			continue
		}
		if len(gone) > 0 {
			continue
		}
		if closing {
			return
		}
		select {
		case <-l.queue.wake:
			continue
		case <-l.poisoned:
			return
		case <-ctx.Done():
		case <-l.stop:
		}
		closing = true
		err := l.closedError()
		l.refuse.CompareAndSwap(nil, err)
		l.finishAll(l.queue.close(err), err)
	}
}

// commit numbers the entries, makes them durable and wakes their callers. It
// tells whether the log is still sound; when it is not, the callers were told.
func (l *Log) commit(group []*entry) bool {
	taken := l.opts.Now()
	for _, e := range group {
		l.metrics.queueWait.Observe(taken.Sub(e.since).Seconds())
	}
	if err := l.tick(); err != nil {
		l.fail(group)
		return false
	}
	for len(group) > 0 {
		n := int(min(l.store.Room(), uint64(len(group))))
		if !l.commitPart(group[:n]) {
			l.fail(group[n:])
			return false
		}
		group = group[n:]
	}
	return true
}

// tick reads the clock for the next records and, when it was set, records that.
func (l *Log) tick() error {
	from, stepped := l.seq.tick()
	if !stepped {
		return nil
	}
	if !l.commitPart([]*entry{l.clockStep(from)}) {
		return l.refuse.Load()
	}
	return nil
}

// commitPart is commit for what fits into one Append of the store.
func (l *Log) commitPart(part []*entry) bool {
	start := l.opts.Now()
	batch := l.seq.number(part)
	if err := l.store.Append(batch); err != nil {
		l.setPoison(err)
		l.fail(part)
		return false
	}
	l.metrics.committed(batch, l.opts.Now().Sub(start))
	if l.refusedForGood() { // the monitor found the files gone: durable is not enough
		l.fail(part)
		return false
	}
	l.publish(batch, part[len(part)-1].receipt)
	for _, e := range part {
		e.finish(nil)
		l.release(e, 1)
	}
	return true
}

func (l *Log) refusedForGood() bool {
	err := l.refuse.Load()
	return err != nil && err.Reason == ReasonPoisoned
}

// fail ends entries of a poisoned log.
func (l *Log) fail(entries []*entry) {
	err := l.refuse.Load()
	for _, e := range entries {
		e.receipt = Receipt{}
		e.finish(err)
		l.release(e, 1)
	}
}

// publish lets readers see the batch.
func (l *Log) publish(batch *Batch, last Receipt) {
	l.mu.Lock()
	l.position = batch.After
	l.next = batch.After.Next
	l.last = last
	changed := l.changed
	l.changed = nil
	l.mu.Unlock()
	if changed != nil {
		close(changed)
	}
}

// record appends one of the log's own records outside the queue; only the owner
// of the sequencer calls it.
func (l *Log) record(r *Record) error {
	e := l.newEntry()
	e.since = l.opts.Now()
	if err := e.encode(r); err != nil {
		l.release(e, 2)
		return err
	}
	l.commit([]*entry{e})
	err := e.err
	l.release(e, 1)
	return err
}

// clockStep returns the entry of the record that the wall clock was set.
func (l *Log) clockStep(from time.Time) *entry {
	to := l.seq.pos.Time
	e := l.newEntry()
	e.since = l.opts.Now()
	details := append([]byte(`{"from":"`), from.AppendFormat(nil, timeLayout)...)
	details = append(details, `","to":"`...)
	details = append(to.AppendFormat(details, timeLayout), `"}`...)
	// The record is well-formed by construction.
	_ = e.encode(&Record{
		Type: TypeSystem, Event: EventClockStep, Severity: SeverityMedium, Outcome: OutcomeWarning,
		Message: "the wall clock was set", Details: details,
	})
	l.release(e, 1) // nobody waits
	l.opts.Logger.Warn().Time("from", from).Time("to", to).Msg("the wall clock was set")
	return e
}

// committed notes a commit.
func (m *metrics) committed(b *Batch, took time.Duration) {
	n := float64(len(b.Records))
	m.appended.Add(n)
	m.commitRecords.Observe(n)
	m.commitSeconds.Observe(took.Seconds())
}
