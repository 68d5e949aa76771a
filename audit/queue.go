package audit

import (
	"slices"
	"sync"
)

// queue is the bounded queue between callers and the writer. It is full when it
// holds maxRecords entries or maxBytes of them, whichever comes first; a single
// entry is admitted to an empty queue whatever its size. Those who find it full
// wait outside and are admitted in the order of their arrival.
type queue struct {
	maxRecords int
	maxBytes   int64

	// wake holds a token when there may be something to take or the queue was shut.
	wake chan struct{}

	mu      sync.Mutex
	entries []*entry
	bytes   int64 // weight of entries
	outside []*entry
	shut    error // what push answers once the queue is shut
}

func newQueue(maxRecords int, maxBytes int64) *queue {
	return &queue{maxRecords: maxRecords, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// push hands the entry in. Unless it returns an error the queue holds the entry.
// With notify the entry's caller is told of the admission; admitted says that it
// happened already, and then no token follows.
func (q *queue) push(e *entry, notify bool) (admitted bool, err error) {
	q.mu.Lock()
	if q.shut != nil {
		defer q.mu.Unlock()
		return false, q.shut
	}
	if len(q.outside) > 0 || !q.room(e) {
		e.place, e.notify = placeOutside, notify
		q.outside = append(q.outside, e)
		q.mu.Unlock()
		return false, nil
	}
	first := len(q.entries) == 0
	q.admit(e)
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return true, nil
}

func (q *queue) room(e *entry) bool {
	return len(q.entries) == 0 || len(q.entries) < q.maxRecords && q.bytes+e.weight <= q.maxBytes
}

func (q *queue) admit(e *entry) {
	e.place, e.admitted = placeQueued, true
	q.entries = append(q.entries, e)
	q.bytes += e.weight
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take appends to group what waits, up to the limits of a group, and lets others
// in. Those whose callers have gone are dropped.
func (q *queue) take(group, gone []*entry) (taken, dropped []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, int64(0)
	for _, e := range q.entries {
		if len(group) == MaxGroupRecords || len(group) > 0 && size+e.weight > MaxGroupBytes {
			break
		}
		n++
		q.bytes -= e.weight
		if e.place == placeWithdrawn {
			gone = append(gone, e)
			continue
		}
		e.place = placeTaken
		size += e.weight
		group = append(group, e)
	}
	rest := copy(q.entries, q.entries[n:])
	clear(q.entries[rest:])
	q.entries = q.entries[:rest]
	q.letIn()
	if len(q.entries) > 0 {
		q.signal()
	}
	return group, gone
}

// letIn admits those outside while there is room.
func (q *queue) letIn() {
	n := 0
	for n < len(q.outside) && q.room(q.outside[n]) {
		e := q.outside[n]
		q.admit(e)
		if e.notify {
			e.done <- struct{}{}
		}
		n++
	}
	q.outside = slices.Delete(q.outside, 0, n)
}

// withdraw takes back an entry whose caller will not wait any longer. It tells
// where the entry was found; from placeOutside it is removed at once.
func (q *queue) withdraw(e *entry) place {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := e.place
	switch was {
	case placeOutside:
		i := slices.Index(q.outside, e)
		q.outside = slices.Delete(q.outside, i, i+1)
		e.place = placeNone
	case placeQueued:
		e.place = placeWithdrawn
	}
	return was
}

// admitted tells whether the entry came into the queue; without that, a token
// says that the queue was shut.
func (q *queue) admitted(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return e.admitted
}

// close shuts the queue for newcomers and returns those outside; what is queued
// can still be taken.
func (q *queue) close(err error) (outside []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut == nil {
		q.shut = err
	}
	outside, q.outside = q.outside, nil
	for _, e := range outside {
		e.place = placeTaken
	}
	q.signal()
	return outside
}

// fail shuts the queue and returns everything in it.
func (q *queue) fail(err error) []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = err
	all := append(q.entries, q.outside...)
	q.entries, q.outside, q.bytes = nil, nil, 0
	for _, e := range all {
		e.place = placeTaken
	}
	q.signal()
	return all
}

// load returns what the queue holds.
func (q *queue) load() (records int, bytes int64, outside int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries), q.bytes, len(q.outside)
}
