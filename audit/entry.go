package audit

import (
	"sync/atomic"
	"time"
)

// place is where an entry stands. The queue's mutex owns it.
type place uint8

const (
	placeNone      place = iota
	placeOutside         // waits for room in the queue
	placeQueued          // in the queue
	placeWithdrawn       // in the queue, but its caller has gone
	placeTaken           // in the writer's hands
)

// entry is a record on its way to the disk. Two sides hold it, its caller and the
// queue with the writer behind it; whoever lets go last returns it to the pool.
type entry struct {
	buf    []byte // headRoom free bytes, then the body
	blobs  []Blob
	weight int64
	since  time.Time // when it was handed in
	holds  atomic.Int32

	place    place // queue.mu
	notify   bool  // queue.mu: its caller waits for the admission, not for the disk only
	admitted bool  // queue.mu: it has been in the queue

	// done receives a token when the entry is admitted, if notify is set, and one
	// when the writer is through with it. Only then are rec, receipt and err valid.
	done    chan struct{}
	rec     []byte // the record's bytes, inside buf
	receipt Receipt
	err     error

	timer *time.Timer // the caller's, stopped when not in use
}

// maxKept is the largest buffer that returns to the pool.
const maxKept = headRoom + MaxRecord

func (l *Log) newEntry() *entry {
	e, ok := l.pool.Get().(*entry)
	if !ok {
		e = &entry{buf: make([]byte, headRoom, 2048), done: make(chan struct{}, 2), timer: time.NewTimer(time.Hour)}
		e.timer.Stop()
	}
	e.holds.Store(2)
	return e
}

// encode fills the entry.
func (e *entry) encode(r *Record) (err error) {
	e.buf, e.blobs, err = appendBody(e.buf[:headRoom], r)
	e.weight = int64(len(e.buf))
	for _, b := range e.blobs {
		e.weight += int64(len(b.Bytes))
	}
	return err
}

// seal puts the head before the body.
func (e *entry) seal(seq uint64, at []byte) {
	var head [headRoom]byte
	h := appendHead(head[:0], seq, at)
	e.rec = e.buf[headRoom-len(h):]
	copy(e.rec, h)
}

// finish hands the outcome to the caller.
func (e *entry) finish(err error) {
	e.err = err
	e.done <- struct{}{}
}

// release lets go of n of the two holds.
func (l *Log) release(e *entry, n int32) {
	if e.holds.Add(-n) != 0 || cap(e.buf) > maxKept {
		return
	}
	// A caller that gave up may have left tokens.
	for len(e.done) > 0 {
		<-e.done
	}
	e.blobs, e.rec, e.err, e.receipt = nil, nil, nil, Receipt{}
	e.place, e.notify, e.admitted = placeNone, false, false
	l.pool.Put(e)
}
